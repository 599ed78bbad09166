"""Wrong labels are found, by judges who never saw the label they judge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from striate.errors import BadInput
from striate.measure.folds import folds
from striate.measure.suspects import doubts, find_suspects, neighbours, out_of_fold


def blobs(count: int = 900, classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, classes, count)
    centres = draws.standard_normal((classes, 10)) * 1.6
    return torch.from_numpy((centres[labels] + draws.standard_normal((count, 10))).astype(np.float32)), labels


def test_changed_labels_come_first() -> None:
    features, truth = blobs()
    given = truth.copy()
    wrong = np.random.default_rng(1).random(len(truth)) < 0.1
    given[wrong] = (truth[wrong] + 1) % 3
    found = find_suspects(features, given, 3)
    assert average_precision_score(wrong, -found.belief) > 0.9
    assert (found.guess[wrong] == truth[wrong]).mean() > 0.9
    # The number of doubted labels is about the number of wrong ones.
    assert 0.6 * wrong.sum() < found.doubted.sum() < 1.6 * wrong.sum()
    assert set(found.order[:10]) <= set(np.flatnonzero(wrong))


@pytest.mark.parametrize("judge", ["regression", "neighbours"])
def test_no_judge_sees_the_label_in_question(judge: str) -> None:
    """Invariance: changing a picture's label changes what is believed of others, not of itself."""
    features, labels = blobs(200)
    changed = labels.copy()
    changed[7] = (labels[7] + 1) % 3

    def believed(given: np.ndarray) -> np.ndarray:
        if judge == "neighbours":
            return neighbours(features, given, 3)
        # Folds follow the labels: they are given here, so that nothing but the label differs.
        return out_of_fold(features, given, 3, 0.01, folds(labels, 0))

    before, after = believed(labels), believed(changed)
    np.testing.assert_array_equal(before[7], after[7])
    assert not np.array_equal(before, after)


def test_doubts_weigh_each_class_by_its_usual_confidence() -> None:
    """Arithmetic on four pictures: 0.55 in class 1 is more than usual there, 0.55 in class 0 is not."""
    probabilities = np.array([[0.9, 0.1], [0.45, 0.55], [0.5, 0.5], [0.95, 0.05]], np.float32)
    labels = np.array([0, 0, 1, 0])
    assert doubts(probabilities, labels).tolist() == [False, True, False, False]


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(BadInput, match="at least 5"):
        find_suspects(torch.zeros(6, 2), np.array([0, 0, 0, 0, 1, 1]), 2)
