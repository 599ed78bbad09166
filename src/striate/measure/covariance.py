"""What the covariance of pictures shows: neighbours alike, colours alike, mirror symmetry. Krizhevsky 2009, section 1.2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PixelCorrelations:
    """Mean correlations between pixels.

    Attributes:
        by_distance: (max distance,) of pixels so many columns or rows apart, same colour; index 0 is distance 1.
        axis_excess: mean correlation along rows and columns less that along diagonals, at the same distances (those of the
            diagonals, up to a quarter of the width; between whole pixels the fall along an axis is taken as linear).
        colours: between colours at one pixel.
        mirrored: of a pixel's correlation map with the map of its mirror image, mirrored: 1 is perfect symmetry.
    """

    by_distance: np.ndarray
    axis_excess: float
    colours: float
    mirrored: float


def correlation(covariance: np.ndarray) -> np.ndarray:
    """A covariance matrix (d, d) as correlations; pixels that never vary have none (0)."""
    deviation = np.sqrt(np.maximum(covariance.diagonal(), 0))
    return covariance / np.maximum(np.outer(deviation, deviation), 1e-12)


def pixel_correlations(covariance: np.ndarray, shape: tuple[int, int, int]) -> PixelCorrelations:
    """Summaries of a covariance (d, d) of pictures of a shape (channels, height, width)."""
    channels, height, width = shape
    full = correlation(covariance).reshape(channels, height, width, channels, height, width)
    by_distance = [_shifted(full, shape, apart, 0) for apart in range(1, width // 2 + 1)]
    mirrored = full[:, :, ::-1, :, :, ::-1]
    colours = [np.einsum("yxyx->yx", full[a, :, :, b]).mean() for a in range(channels) for b in range(a)]
    return PixelCorrelations(
        np.array(by_distance),
        _axis_excess(full, shape, np.array(by_distance)),
        float(np.mean(colours)) if colours else 1.0,
        float(np.corrcoef(full.ravel(), mirrored.ravel())[0, 1]),
    )


def _axis_excess(full: np.ndarray, shape: tuple[int, int, int], by_distance: np.ndarray) -> float:
    """Rows and columns against diagonals at equal distance: d steps along both are d * sqrt(2) pixels."""
    steps = range(1, max(2, shape[2] // 4 + 1))
    diagonal = np.array([_shifted(full, shape, step, step) for step in steps])
    axis = np.interp(np.array(steps) * np.sqrt(2), np.arange(len(by_distance) + 1), [1.0, *by_distance])
    return float((axis - diagonal).mean())


def _shifted(full: np.ndarray, shape: tuple[int, int, int], across: int, down: int) -> float:
    """Mean correlation of pixels so far apart, both ways round; of both diagonals."""
    channels, height, width = shape
    values = []
    # The other diagonal is the same one in the mirrored picture.
    for maps, dx, dy in ((full, across, down), (full[:, :, ::-1, :, :, ::-1], down, across)):
        for channel in range(channels):
            same = maps[channel, :, :, channel]
            y, x = np.mgrid[0 : height - dy, 0 : width - dx]
            values.append(same[y, x, y + dy, x + dx].mean())
    return float(np.mean(values))
