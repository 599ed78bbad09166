"""The same logistic regression where features are many: stochastic gradient descent over minibatches, features in any format.

Full-batch L-BFGS reads all features twice an iteration, a hundred times over; twenty epochs of minibatches come within a
percent of its objective (tests hold it to that) and features may stay in bf16. The objective is that of `logistic.py`: weights
on standardised features, L2 on them, free biases. Standardising is folded into the products: features are read, never copied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from striate.draws import generator

_BATCH = 500
_MOMENTUM = 0.9
# The loss's curvature grows with a row's square, which is the number of features on average. (At 240 steps 64 / features still
# falls; 32 came within 2% of the optimum at l2 = 0.03 on 3,072 pixels, 0.3% at 0.3.)
_RATE = 32.0


def descend(
    features: Tensor,
    labels: Tensor,
    mean: Tensor,
    deviation: Tensor,
    classes: int,
    l2: float,
    start: tuple[Tensor, Tensor] | None = None,
    epochs: int = 20,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Weights (classes, d) and bias (classes,) on standardised features.

    Args:
        features: (n, d), any float format.
        labels: int64 (n,).
        mean: (d,) of the features.
        deviation: (d,); infinite for features that never vary.
        classes: how many.
        l2: strength.
        start: weights and bias on standardised features to begin at.
        epochs: passes; the rate falls linearly over the second half, and the last quarter's weights are averaged.
        seed: of the order.
    """
    weights, bias = start or (torch.zeros(classes, features.shape[1]), torch.zeros(classes))
    one = (weights[None], bias[None])
    weights, bias = descend_apart(features, labels, mean, deviation, torch.tensor([l2]), None, one, epochs, seed)
    return weights[0], bias[0]


def descend_apart(
    features: Tensor,
    labels: Tensor,
    mean: Tensor,
    deviation: Tensor,
    l2: Tensor,
    held: Tensor | None,
    start: tuple[Tensor, Tensor],
    epochs: int = 20,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Several models in one go through the same minibatches, each with a strength and held-out rows of its own.

    Reading the features is what costs: five folds take little longer than one model.

    Args:
        features, labels, mean, deviation, epochs, seed: as of `descend`.
        l2: (models,) strengths.
        held: bool (n, models), the rows each model must not learn from; None for none.
        start: weights (models, classes, d) and bias (models, classes).

    Returns:
        Weights and bias of these shapes, on standardised features.
    """
    count, dim = features.shape
    models, classes = start[1].shape
    weights, bias = start[0].reshape(models * classes, dim).clone(), start[1].flatten().clone()
    velocity, bias_velocity = torch.zeros_like(weights), torch.zeros_like(bias)
    average, bias_average, averaged = torch.zeros_like(weights), torch.zeros_like(bias), 0
    strength = l2.repeat_interleave(classes)[:, None]
    size = min(_BATCH, count)
    steps = epochs * (count // size)
    rate = min(_RATE / dim, 0.1)
    inverse = 1 / deviation
    step = 0
    for epoch in range(epochs):
        order = torch.from_numpy(generator(seed, "descent", epoch).permutation(count))
        for positions in order[: count - count % size].split(size):
            now = rate * min(1.0, 2 * (steps - step) / steps)
            rows = features[positions]
            raw = weights * inverse
            scores = (rows @ raw.to(rows.dtype).t()).float().add_(bias - raw @ mean)
            delta = scores.view(size, models, classes).softmax(dim=2)
            delta[torch.arange(size), :, labels[positions]] -= 1
            delta = _shared(delta, None if held is None else held[positions])
            total = delta.sum(dim=0)
            gradient = (delta.to(rows.dtype).t() @ rows).float().sub_(total[:, None] * mean).mul_(inverse)
            velocity.mul_(_MOMENTUM).sub_(gradient.addcmul_(strength, weights), alpha=now)
            bias_velocity.mul_(_MOMENTUM).sub_(total, alpha=now)
            weights += velocity
            bias += bias_velocity
            step += 1
            if step > 0.75 * steps:
                averaged += 1
                average += (weights - average) / averaged
                bias_average += (bias - bias_average) / averaged
    return average.view(models, classes, dim), bias_average.view(models, classes)


def _shared(delta: Tensor, held: Tensor | None) -> Tensor:
    """Each row's part in its model's mean gradient, (size, models * classes)."""
    if held is None:
        return delta.flatten(1).div_(len(delta))
    learned = (~held).sum(dim=0).clamp_min(1)
    return delta.masked_fill_(held[:, :, None], 0.0).div_(learned[:, None]).flatten(1)
