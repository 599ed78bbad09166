"""What correlations between pixels are summed up to, on covariances known in closed form."""

import numpy as np
import pytest

from striate.measure.covariance import pixel_correlations

_SIDE = 16
_Y, _X = np.mgrid[:_SIDE, :_SIDE].reshape(2, -1)


def _from_differences(correlation) -> np.ndarray:  # type: ignore[no-untyped-def]
    return correlation(_X[:, None] - _X, _Y[:, None] - _Y)


@pytest.mark.parametrize(
    ("correlation", "low", "high"),
    [
        (lambda dx, dy: np.exp(-np.hypot(dx, dy) / 6), -0.002, 0.002),
        (lambda dx, dy: np.exp(-(dx**2 + dy**2) / 50), -0.002, 0.002),
        (lambda dx, dy: np.exp(-(abs(dx) + abs(dy)) / 6), 0.1, 0.12),
        (lambda dx, dy: np.exp(-(abs(dx + dy) + abs(dx - dy)) / 8.5), -0.12, -0.1),
    ],
    ids=["exponential in distance", "gaussian in distance", "along the axes", "along the diagonals"],
)
def test_axis_excess_compares_equal_distances(correlation, low: float, high: float) -> None:  # type: ignore[no-untyped-def]
    """Zero where correlation depends on distance alone; its sign turns with the preferred direction."""
    found = pixel_correlations(_from_differences(correlation), (1, _SIDE, _SIDE))
    assert low < found.axis_excess < high


def test_axis_excess_reads_both_diagonals() -> None:
    """Pictures that prefer one diagonal only and their mirror images have the same excess."""
    one = pixel_correlations(_from_differences(lambda dx, dy: np.exp(-np.hypot(dx - dy, (dx + dy) / 3) / 4)), (1, _SIDE, _SIDE))
    other = pixel_correlations(
        _from_differences(lambda dx, dy: np.exp(-np.hypot(dx + dy, (dx - dy) / 3) / 4)), (1, _SIDE, _SIDE)
    )
    assert one.axis_excess == pytest.approx(other.axis_excess, abs=1e-12)


def test_by_distance_and_mirror_symmetry_are_those_of_the_closed_form() -> None:
    found = pixel_correlations(_from_differences(lambda dx, dy: np.exp(-np.hypot(dx, dy) / 6)), (1, _SIDE, _SIDE))
    assert found.by_distance == pytest.approx(np.exp(-np.arange(1, _SIDE // 2 + 1) / 6))
    assert found.mirrored == pytest.approx(1)
