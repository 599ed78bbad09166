"""What a classifier's probabilities are worth: top-k errors with a stated tie policy, and mixtures of several classifiers.

Source: Krizhevsky et al. 2012, sections 5 and 6; ties are shared as in the authors' code: of e classes that tie with the right
one, itself included, and g that beat it, top-k counts (k - g) / e of a hit. A classifier that has gone dumb (equal
probabilities) then gets chance, not luck. A row with a NaN is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from striate.errors import BadInput
from striate.measure.intervals import wilson

_LOG_LEAST = 1e-12


@dataclass(frozen=True)
class Answers:
    """How well probabilities name test pictures.

    Attributes:
        top: k -> error among the k most probable classes.
        low, high: 95% interval (Wilson) of the top-1 error.
        log_probability: minus the mean log-probability of the right class, in nats.
        count: pictures.
        undefined: of them, rows with a NaN.
    """

    top: Mapping[int, float]
    low: float
    high: float
    log_probability: float
    count: int
    undefined: int


def hits(probabilities: Tensor, labels: Tensor, k: int) -> Tensor:
    """Each row's share of a top-k hit, float64 (n,), from probabilities (n, classes) and int64 labels (n,)."""
    right = probabilities.gather(1, labels[:, None])
    beaten = (probabilities > right).sum(dim=1)
    tied = (probabilities == right).sum(dim=1).clamp_min(1)
    share = ((k - beaten).double() / tied).clamp(0, 1)
    return share.masked_fill(probabilities.isnan().any(dim=1), 0.0)


def judge_answers(probabilities: Tensor, labels: Tensor, ks: Sequence[int] = (1, 5)) -> Answers:
    """Errors of probabilities (n, classes), or of anything that grows with them, for int64 labels (n,) within the classes.

    Raises:
        BadInput: no pictures, or labels outside the classes.
    """
    _check(probabilities, labels)
    top = {k: float(1 - hits(probabilities, labels, k).mean()) for k in ks if k <= probabilities.shape[1]}
    count = len(labels)
    low, high = wilson(round(top.get(1, 1.0) * count), count)
    undefined = int(probabilities.isnan().any(dim=1).sum())
    right = probabilities.gather(1, labels[:, None]).double().nan_to_num(0.0).clamp_min(_LOG_LEAST)
    return Answers(top, low, high, float(-right.log().mean()), count, undefined)


def _check(probabilities: Tensor, labels: Tensor) -> None:
    if len(labels) == 0 or len(labels) != len(probabilities):
        raise BadInput(f"{len(probabilities)} rows of probabilities for {len(labels)} labels: expected as many, and some")
    if int(labels.min()) < 0 or int(labels.max()) >= probabilities.shape[1]:
        raise BadInput(
            f"labels go from {int(labels.min())} to {int(labels.max())}: the classes are 0 to {probabilities.shape[1] - 1}"
        )


def mixture(several: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Weighted mean of probabilities (n, classes) of several classifiers; by default the plain mean."""
    weights = weights or [1.0] * len(several)
    total = torch.zeros_like(several[0])
    for probabilities, weight in zip(several, weights, strict=True):
        total += probabilities * (weight / sum(weights))
    return total


def tuned_weights(several: Sequence[Tensor], labels: Tensor, k: int = 5, rounds: int = 3) -> list[float]:
    """Mixing weights by coordinate search on held-out pictures: never those that will be reported.

    Each classifier's weight in turn is set to the grid's best by top-k error, log-probability breaking ties.
    """
    weights = np.ones(len(several))
    grid = np.concatenate([[0.0], np.geomspace(0.1, 4.0, 16)])

    def cost(candidate: np.ndarray) -> tuple[float, float]:
        found = judge_answers(mixture(several, candidate.tolist()), labels, [min(k, several[0].shape[1])])
        return next(iter(found.top.values())), found.log_probability

    best = cost(weights)
    for _ in range(rounds):
        before = best
        for number in range(len(weights)):
            for value in grid:
                candidate = weights.copy()
                candidate[number] = value
                if candidate.sum() > 0 and (found := cost(candidate)) < best:
                    best, weights = found, candidate
        if best == before:
            break
    return [float(weight) for weight in weights / weights.sum()]


def in_order_of(probabilities: Tensor, names: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Columns of classes `names` in the order of `wanted`: sorted synsets against a devkit's numbers, for example.

    Classes that only the classifier knows keep what they have, after the wanted ones, so that its answers stay what they were.

    Raises:
        BadInput: a wanted class is unknown to the classifier.
    """
    if list(names) == list(wanted) or not names or not wanted:
        return probabilities
    at = {name: column for column, name in enumerate(names)}
    unknown = [name for name in wanted if name not in at]
    if unknown:
        raise BadInput(f"the classifier knows no class {unknown[0]!r} ({len(unknown)} of {len(wanted)} are unknown to it)")
    rest = [name for name in names if name not in set(wanted)]
    return probabilities[:, [at[name] for name in [*wanted, *rest]]]
