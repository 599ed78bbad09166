"""Scores of every picture by a logistic regression that never saw its label.

Pictures are dealt into folds, and each is scored by the model of the other folds. Where features are many, the models of all
folds learn in one go through the minibatches (`logistic_descent.descend_apart`): reading features is what costs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from striate.draws import generator
from striate.measure.logistic import fit, is_large, standardising
from striate.measure.logistic_descent import descend_apart

FOLDS = 5
_EPOCHS = 8
_BLOCK = 8192


def folds(labels: np.ndarray, seed: int, count: int = FOLDS) -> np.ndarray:
    """A fold for each picture, int64 (n,), every class spread evenly."""
    fold = np.empty(len(labels), np.int64)
    draws = generator(seed, "folds")
    for name in np.unique(labels):
        rows = np.flatnonzero(labels == name)
        fold[draws.permutation(rows)] = np.arange(len(rows)) % count
    return fold


def held_out_scores(features: Tensor, labels: np.ndarray, classes: int, l2: float, fold: np.ndarray) -> Tensor:
    """Log-odds (n, classes) of each picture by a logistic regression fitted on the other folds.

    Args:
        features: (n, d), any float format.
        labels: int64 (n,), from 0 to classes - 1.
        classes: how many.
        l2: strength, as in `logistic.py`.
        fold: int64 (n,), from 0.
    """
    if is_large(features):
        return _together(features, labels, classes, l2, fold)
    found = torch.zeros(len(labels), classes)
    targets = torch.from_numpy(labels)
    for number in np.unique(fold):
        train = torch.from_numpy(np.flatnonzero(fold != number))
        # Each from zero: a start from another fold's model would have seen this fold.
        model = fit(features[train], targets[train], classes, l2, iterations=40)
        held = torch.from_numpy(np.flatnonzero(fold == number))
        found[held] = model.scores(features[held])
    return found


def _together(features: Tensor, labels: np.ndarray, classes: int, l2: float, fold: np.ndarray) -> Tensor:
    """The folds' models side by side. Means and deviations are of all rows: they know no labels."""
    models = int(fold.max()) + 1
    own = torch.from_numpy(fold)
    mean, deviation = standardising(features)
    start = torch.zeros(models, classes, features.shape[1]), torch.zeros(models, classes)
    held = own[:, None] == torch.arange(models)
    strengths = torch.full((models,), l2)
    weights, bias = descend_apart(features, torch.from_numpy(labels), mean, deviation, strengths, held, start, _EPOCHS)
    return own_scores(features, weights / deviation, bias - (weights / deviation) @ mean, own)


def own_scores(features: Tensor, weights: Tensor, bias: Tensor, fold: Tensor) -> Tensor:
    """Scores (n, classes) of each row by its own fold's model: weights (folds, classes, d), bias (folds, classes)."""
    folds_there, classes = bias.shape
    found = []
    for rows, which in zip(features.split(_BLOCK), fold.split(_BLOCK), strict=True):
        scores = torch.addmm(bias.flatten(), rows.float(), weights.flatten(0, 1).t()).view(len(rows), folds_there, classes)
        found.append(scores[torch.arange(len(rows)), which])
    return torch.cat(found)
