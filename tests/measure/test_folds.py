"""Scores out of fold: nobody's own label is in them, and all folds at once give what one after the other does."""

from __future__ import annotations

import numpy as np
import torch

from striate.measure import logistic
from striate.measure.folds import _together, folds, held_out_scores


def gaussians(count: int, dim: int = 12, classes: int = 3) -> tuple[torch.Tensor, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, count)
    centres = random.standard_normal((classes, dim)) * 0.7
    return torch.from_numpy((centres[labels] + random.standard_normal((count, dim))).astype(np.float32)), labels


def test_folds_deal_every_class_evenly() -> None:
    labels = np.array([0] * 11 + [1] * 5 + [2])
    fold = folds(labels, 3)
    assert sorted(np.bincount(fold[labels == 0]).tolist()) == [2, 2, 2, 2, 3]
    assert np.bincount(fold[labels == 1]).tolist() == [1] * 5
    assert not np.array_equal(fold, folds(labels, 4))


def test_all_folds_at_once_give_what_one_after_the_other_does() -> None:
    """Two algorithms for one convex objective: probabilities agree to 0.01 in the mean; by other labels, they do not."""
    features, labels = gaussians(6000)
    fold = folds(labels, 0)
    apart = held_out_scores(features, labels, 3, 0.01, fold).softmax(dim=1)
    together = _together(features, labels, 3, 0.01, fold).softmax(dim=1)
    assert float((apart - together).abs().mean()) < 0.01
    shifted = _together(features, (labels + 1) % 3, 3, 0.01, fold).softmax(dim=1)
    assert float((apart - shifted).abs().mean()) > 0.3


def test_no_fold_learns_from_its_own_labels() -> None:
    """Invariance: with all labels of one fold changed, its own scores stay, to the bit, and the others' move."""
    features, labels = gaussians(2000)
    fold = folds(labels, 0)
    changed = labels.copy()
    changed[fold == 2] = (1 + changed[fold == 2]) % 3
    before, after = (_together(features, given, 3, 1e-2, fold) for given in (labels, changed))
    own = torch.from_numpy(fold == 2)
    torch.testing.assert_close(before[own], after[own], rtol=0, atol=0)
    assert float((before[~own] - after[~own]).abs().max()) > 0.1


def test_features_are_large_from_the_size_at_which_minibatches_win() -> None:
    assert not logistic.is_large(torch.empty(1, 1).expand(7000, 7000))
    assert logistic.is_large(torch.empty(1, 1).expand(8000, 7000))
