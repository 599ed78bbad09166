"""Kappas beside scikit-learn and the worked example of Fleiss."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from striate.errors import BadInput
from striate.measure.agreement import cohen_kappa, error_rate, fleiss_kappa


@pytest.mark.parametrize("weighted", [False, True])
def test_cohen_kappa_is_scikit_learns(weighted: bool) -> None:
    draws = np.random.default_rng(0)
    first = draws.random(200) < 0.7
    second = np.where(draws.random(200) < 0.85, first, ~first)
    weights = draws.uniform(0.5, 5, 200) if weighted else None
    found = cohen_kappa(first.tolist(), second.tolist(), None if weights is None else weights.tolist())
    assert found.value == pytest.approx(cohen_kappa_score(first, second, sample_weight=weights))
    assert found.n == 200


def test_fleiss_kappa_of_a_published_example() -> None:
    """Ten subjects, fourteen raters, five categories: kappa 0.210 (the worked example of many textbooks)."""
    counts = np.array(
        [
            [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
        ]
    )  # fmt: skip
    assert fleiss_kappa(counts).value == pytest.approx(0.210, abs=5e-4)


def test_two_raters_agree_alike_by_either_kappa_where_they_keep_as_much() -> None:
    """With equal margins Fleiss' and Cohen's chance are the same number."""
    first = np.array([1, 1, 1, 0, 0, 1, 0, 0], bool)
    second = np.array([1, 1, 0, 1, 0, 1, 0, 0], bool)
    counts = np.stack([first.astype(int) + second, 2 - first.astype(int) - second], axis=1)
    assert fleiss_kappa(counts).value == pytest.approx(cohen_kappa(first.tolist(), second.tolist()).value)


def test_kappas_of_nothing_and_of_no_choice_are_not_numbers() -> None:
    assert math.isnan(cohen_kappa([], []).value)
    assert math.isnan(cohen_kappa([True] * 4, [True] * 4).value) and cohen_kappa([True] * 4, [True] * 4).agreement == 1
    with pytest.raises(BadInput, match="same number"):
        fleiss_kappa(np.array([[2, 1], [1, 1]]))
    with pytest.raises(BadInput, match="both"):
        cohen_kappa([True], [])


def test_an_interval_holds_the_share_that_was_drawn() -> None:
    """95% intervals of 2,000 draws hold the truth 95 times in 100: at least 0.93 here, at 4.9 standard errors of that count."""
    draws = np.random.default_rng(0)
    found = [error_rate(int(wrong), 150) for wrong in draws.binomial(150, 0.08, 2000)]
    assert np.mean([one.low <= 0.08 <= one.high for one in found]) > 0.95 - 4.9 * math.sqrt(0.95 * 0.05 / 2000)
