"""Logistic regression on few rows, at many strengths of L2 and on many subsets of the rows at once.

Few rows by many features lie in a space of as many dimensions as rows, and so do the weights (Kimeldorf and Wahba 1971): in
its axes the problem is small. There the curvature of the cross-entropy is at most half the rows' own scatter (Bohning 1992),
which is diagonal: steps by that bound need no line search, never overshoot, and are accelerated (Nesterov 1983). Objective as
in `logistic.py`. Cost of an iteration: two products of rows, axes and models times classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_ITERATIONS = 300
_TOLERANCE = 1e-4
# Directions in which rows differ by less than this share of the largest are rounding.
_LEAST = 1e-6


@dataclass(frozen=True)
class Axes:
    """Rows in the axes of their own scatter.

    Attributes:
        rows: (n, r), centred; columns are orthogonal.
        mean: (d,) of the rows.
        basis: (d, r): rows = (x - mean) @ basis.
    """

    rows: Tensor
    mean: Tensor
    basis: Tensor


def axes_of(features: Tensor) -> Axes:
    """Features (n, d) turned into at most min(n, d) axes, without loss."""
    mean = features.mean(dim=0)
    centred = (features - mean).double()
    few = len(centred) <= centred.shape[1]
    values, vectors = torch.linalg.eigh(centred @ centred.t() if few else centred.t() @ centred)
    kept = values > max(float(values[-1]) * _LEAST**2, 1e-30)
    values, vectors = values[kept], vectors[:, kept]
    basis = centred.t() @ (vectors / values.sqrt()) if few else vectors
    return Axes((centred @ basis).float(), mean, basis.float())


def fit_at_once(
    rows: Tensor, labels: Tensor, classes: int, l2: Tensor, held: Tensor | None = None, iterations: int = _ITERATIONS
) -> tuple[Tensor, Tensor]:
    """Every model's optimum.

    Args:
        rows: (n, r), with orthogonal columns that add up to nothing (`Axes.rows`).
        labels: int64 (n,).
        classes: how many.
        l2: (models,) strengths.
        held: bool (n, models), rows that a model must not learn from.
        iterations: at most.

    Returns:
        Weights (models, classes, r) and biases (models, classes).
    """
    models, count = len(l2), len(rows)
    learned = torch.ones(count, models) if held is None else (~held).float()
    share = learned / learned.sum(dim=0).clamp_min(1)
    # A subset's scatter is at most the whole's: (1 / its size) of it bounds the curvature.
    most = 0.5 * share.amax(dim=0)
    step = 1 / (most[:, None] * rows.square().sum(dim=0) + l2[:, None])[:, None, :]
    bias_step = (1 / (most * count))[:, None]
    truth = F.one_hot(labels, classes).float()[:, None, :]
    weights, bias = torch.zeros(models, classes, rows.shape[1]), torch.zeros(models, classes)
    ahead, bias_ahead, pace = weights, bias, torch.ones(models)
    for _ in range(iterations):
        scores = (rows @ ahead.flatten(0, 1).t()).view(count, models, classes) + bias_ahead
        delta = (scores.softmax(dim=2) - truth) * share[:, :, None]
        gradient = (delta.flatten(1).t() @ rows).view_as(weights) + l2[:, None, None] * ahead
        moved, bias_moved = ahead - step * gradient, bias_ahead - bias_step * delta.sum(dim=0)
        change, bias_change = moved - weights, bias_moved - bias
        # Momentum that points uphill is dropped (O'Donoghue and Candes 2015).
        uphill = ((ahead - moved) * change / step).sum(dim=(1, 2)) + ((bias_ahead - bias_moved) * bias_change).sum(dim=1) > 0
        pace = torch.where(uphill, 1.0, pace)
        faster = (1 + (1 + 4 * pace.square()).sqrt()) / 2
        push = torch.where(uphill, 0.0, (pace - 1) / faster)
        weights, bias, pace = moved, bias_moved, faster
        ahead, bias_ahead = weights + push[:, None, None] * change, bias + push[:, None] * bias_change
        size = change.square().sum(dim=(1, 2)).sqrt()
        if bool((size <= _TOLERANCE * weights.square().sum(dim=(1, 2)).sqrt()).all()):
            break
    return weights, bias
