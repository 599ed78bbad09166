"""Multinomial logistic regression for probing, on standardised features, L2 chosen on held-out training data.

Full-batch L-BFGS; where features are many (`_MANY` numbers and more), minibatches (`logistic_descent.py`).

The objective is mean cross-entropy + l2 / 2 * sum(W^2) with W on standardised features and biases free; scikit-learn's
LogisticRegression has the same optimum at C = 1 / (n * l2). Standardising is folded into the weights, so that features are
read, never copied. Cost of an iteration: two passes over the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.draws import generator
from striate.errors import BadInput
from striate.measure.logistic_descent import descend

GRID = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4)
_ITERATIONS = 60
# While strengths are compared, each starts from the one before and needs fewer.
_SEARCH_ITERATIONS = 25
_HELD_OUT = 0.1
# A feature that never varies is left at zero rather than divided by it.
_LEAST_DEVIATION = 1e-6
_BLOCK = 8192
# Beyond so many numbers in all, an epoch of minibatches costs less than an iteration of L-BFGS and there are enough of them.
_MANY = 50_000_000


@dataclass(frozen=True)
class Logistic:
    """A fitted model: weights (classes, features) and bias (classes,) for raw, unstandardised features."""

    weights: Tensor
    bias: Tensor
    l2: float
    loss: float

    def scores(self, features: Tensor) -> Tensor:
        """Log-odds (n, classes), up to a constant a row."""
        blocks = [block.float() @ self.weights.t() + self.bias for block in features.split(_BLOCK)]
        return torch.cat(blocks)

    def predict(self, features: Tensor) -> Tensor:
        """Most probable class of each row, int64 (n,)."""
        return self.scores(features).argmax(dim=1)


def is_large(features: Tensor) -> bool:
    """Whether minibatches are quicker than L-BFGS."""
    return features.numel() >= _MANY


def fit(
    features: Tensor,
    labels: Tensor,
    classes: int,
    l2: float,
    start: Logistic | None = None,
    iterations: int = _ITERATIONS,
    floor: float = 0.0,
) -> Logistic:
    """Fit at one strength of L2 by the method that suits the size; arguments as for `fit_logistic`."""
    if not is_large(features):
        return fit_logistic(features, labels, classes, l2, start, iterations, floor)
    mean, deviation = standardising(features, floor)
    begin = None if start is None else (_standardised_weights(start, deviation), start.bias + start.weights @ mean)
    # While strengths are compared, each starts from the one before and needs fewer passes.
    epochs = 20 if iterations == _ITERATIONS else 8
    weights, bias = descend(features, labels, mean, deviation, classes, l2, begin, epochs)
    raw = weights / deviation
    model = Logistic(raw, bias - raw @ mean, l2, float("nan"))
    loss = float(F.cross_entropy(model.scores(features), labels) + l2 / 2 * weights.square().sum())
    return replace(model, loss=loss)


def fit_logistic(
    features: Tensor,
    labels: Tensor,
    classes: int,
    l2: float,
    start: Logistic | None = None,
    iterations: int = _ITERATIONS,
    floor: float = 0.0,
) -> Logistic:
    """Fit at one strength of L2.

    Args:
        features: (n, d), any float format.
        labels: int64 (n,), from 0 to classes - 1.
        classes: how many.
        l2: of the objective above.
        start: a model to start from, fitted on the same features.
        iterations: of L-BFGS, at most.
        floor: deviations below this share of their median count as that much: features that seldom vary then get no large
            weights. 0 standardises them all.
    """
    mean, deviation = standardising(features, floor)
    weights = torch.zeros(classes, features.shape[1])
    bias = torch.zeros(classes)
    if start is not None:
        weights = _standardised_weights(start, deviation)
        bias = start.bias + start.weights @ mean
    weights.requires_grad_()
    bias.requires_grad_()
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe")
    last = [0.0]

    def objective() -> float:
        optimiser.zero_grad()
        raw = weights / deviation
        offset = bias - raw @ mean
        total = 0.0
        for rows, targets in zip(features.split(_BLOCK), labels.split(_BLOCK), strict=True):
            # Block by block, so that features in another format are converted a block at a time.
            loss = F.cross_entropy(torch.addmm(offset, rows.float(), raw.t()), targets, reduction="sum") / len(labels)
            loss.backward(retain_graph=True)
            total += float(loss.detach())
        penalty = l2 / 2 * weights.square().sum()
        penalty.backward()
        last[0] = total + float(penalty.detach())
        return last[0]

    optimiser.step(objective)
    with torch.no_grad():
        raw = weights / deviation
        return Logistic(raw.clone(), (bias - raw @ mean).clone(), l2, last[0])


def _standardised_weights(model: Logistic, deviation: Tensor) -> Tensor:
    # Constant features have an infinite deviation and a weight of zero.
    return torch.where(deviation.isinf(), 0.0, model.weights * deviation)


def standardising(features: Tensor, floor: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean and deviation (d,) of features (n, d); the deviation is infinite of one that never varies.

    With a floor, deviations below this share of their median count as that much.
    """
    total = torch.zeros(features.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for block in features.split(_BLOCK):
        total += block.float().sum(dim=0, dtype=torch.float64)
    mean = total / len(features)
    for block in features.split(_BLOCK):
        squares += (block.float() - mean.float()).square_().sum(dim=0, dtype=torch.float64)
    deviation = (squares / len(features)).sqrt()
    varies = deviation > _LEAST_DEVIATION
    if floor and bool(varies.any()):
        deviation = deviation.clamp_min(floor * float(deviation[varies].median()))
    deviation = torch.where(varies, deviation, torch.full_like(deviation, float("inf")))
    return mean.float(), deviation.float()


def choose_logistic(
    features: Tensor, labels: Tensor, classes: int, grid: Sequence[float] = GRID, seed: int = 0, floor: float = 0.0
) -> tuple[Logistic, float]:
    """Fit with the L2 that does best on a held-out tenth of these (training) rows, then once more on all of them.

    Strengths are tried from strong to weak, each from the last one's weights, and no further once two in a row did worse.

    Returns:
        The model, and its accuracy on the held-out tenth before the last fit.

    Raises:
        BadInput: fewer than 20 rows.
    """
    if len(features) < 20:
        raise BadInput(f"a probe needs at least 20 labelled pictures to train on, found {len(features)}")
    order = torch.from_numpy(generator(seed, "held-out").permutation(len(features)))
    held = order[: max(2, int(_HELD_OUT * len(features)))]
    kept = torch.ones(len(features), dtype=torch.bool)
    kept[held] = False
    train_rows, train_labels = features[kept], labels[kept]
    held_rows, held_labels = features[held], labels[held]
    best, best_accuracy, worse, model = None, -1.0, 0, None
    for l2 in sorted(grid, reverse=True):
        model = fit(train_rows, train_labels, classes, l2, start=model, iterations=_SEARCH_ITERATIONS, floor=floor)
        accuracy = float((model.predict(held_rows) == held_labels).float().mean())
        if accuracy > best_accuracy:
            best, best_accuracy, worse = model, accuracy, 0
        else:
            worse += 1
            if worse == 2:
                break
    assert best is not None
    del train_rows, held_rows
    return fit(features, labels, classes, best.l2, start=best, floor=floor), best_accuracy


def as_labels(labels: np.ndarray | Tensor) -> Tensor:
    """Labels as an int64 tensor."""
    return torch.tensor(np.asarray(labels), dtype=torch.int64)
