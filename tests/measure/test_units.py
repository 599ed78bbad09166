"""What units do over many pictures, summed block by block."""

from __future__ import annotations

import numpy as np
import pytest

from striate.measure.units import UnitSums


def _statistics(answers: np.ndarray, *cuts: int):  # type: ignore[no-untyped-def]
    sums = UnitSums(answers.shape[1])
    for block in np.split(answers, cuts):
        sums.update(block)
    return sums.statistics()


@pytest.mark.parametrize("cuts", [(), (1,), (17, 40), (0, 50, 50)])
def test_sums_over_any_blocks_are_those_over_all_at_once(cuts: tuple[int, ...]) -> None:
    answers = np.random.default_rng(0).gamma(0.5, 1.0, (60, 7)).astype(np.float16)
    found = _statistics(answers, *cuts)
    exact = answers.astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.deviation, exact.std(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(found.best, answers.argmax(axis=0))
    np.testing.assert_array_equal(found.largest, answers.max(axis=0))
    assert found.pictures == 60


def test_sparseness_is_nought_for_a_unit_that_answers_all_nearly_alike_and_one_for_a_single_picture() -> None:
    """In closed form: k of n pictures at one level give (1 - k / n) / (1 - 1 / n)."""
    answers = np.zeros((50, 4), np.float32)
    answers[3, 0] = 2.0
    answers[:10, 1] = 0.5
    answers[:, 2] = 1.0 + 1e-3 * np.arange(50)
    found = _statistics(answers, 20)
    assert found.sparseness[:2] == pytest.approx([1.0, (1 - 10 / 50) / (1 - 1 / 50)])
    assert found.sparseness[2] < 1e-3
    assert np.isnan(found.sparseness[3]) and found.silent.tolist() == [False, False, False, True]


def test_the_first_of_equal_answers_is_the_best_over_blocks_too() -> None:
    answers = np.array([[1.0], [3.0], [3.0], [3.0]], np.float32)
    assert _statistics(answers, 2).best.tolist() == [1]
