"""Do people agree, and how many labels are wrong? Kappas, and error rates from a second look, with intervals.

Sources: Cohen 1960 (two people), Fleiss 1971 (any number), Wilson 1927 (intervals of shares).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from striate.errors import BadInput
from striate.measure.intervals import wilson


@dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance: 1 is full, 0 what chance gives.

    Attributes:
        value: NaN where everybody always answers the same: chance then explains all.
        agreement: share of pairs of answers that agree.
        n: pictures.
    """

    value: float
    agreement: float
    n: int


def cohen_kappa(first: Sequence[bool], second: Sequence[bool], weights: Sequence[float] | None = None) -> Kappa:
    """Of two passes over the same pictures.

    Args:
        first, second: kept or not.
        weights: how many pictures each stands for, where kept and rejected ones were sampled at different rates.
    """
    if len(first) != len(second):
        raise BadInput(f"{len(first)} first answers and {len(second)} second ones: a kappa needs both of every picture")
    if len(first) == 0:
        return Kappa(float("nan"), float("nan"), 0)
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    w = np.ones(len(a)) if weights is None else np.asarray(weights, float)
    w = w / w.sum()
    agreed = float(w @ (a == b))
    kept = float(w @ a), float(w @ b)
    chance = kept[0] * kept[1] + (1 - kept[0]) * (1 - kept[1])
    return Kappa((agreed - chance) / (1 - chance) if chance < 1 else float("nan"), agreed, len(a))


def fleiss_kappa(counts: np.ndarray) -> Kappa:
    """Of any number of people, as many for every picture.

    Args:
        counts: (pictures, answers): how many gave each answer.

    Raises:
        BadInput: rows of different sums, or of fewer than two answers.
    """
    counts = np.asarray(counts, float)
    if counts.ndim != 2 or len(counts) == 0:
        return Kappa(float("nan"), float("nan"), 0)
    people = counts.sum(axis=1)
    if people.min() != people.max() or people[0] < 2:
        raise BadInput("Fleiss' kappa needs the same number of answers, two or more, for every picture")
    n = people[0]
    each = (np.square(counts).sum(axis=1) - n) / (n * (n - 1))
    chance = float(np.square(counts.mean(axis=0) / n).sum())
    agreed = float(each.mean())
    return Kappa((agreed - chance) / (1 - chance) if chance < 1 else float("nan"), agreed, len(counts))


@dataclass(frozen=True)
class ErrorRate:
    """Share of wrong labels among those kept, estimated from those that were looked at again.

    Attributes:
        value: of those looked at.
        low, high: 95% interval (Wilson).
        wrong, n: how many.
    """

    value: float
    low: float
    high: float
    wrong: int
    n: int


def error_rate(wrong: int, n: int) -> ErrorRate:
    """From so many that were wrong among so many looked at."""
    low, high = wilson(wrong, n)
    return ErrorRate(wrong / n if n else float("nan"), low, high, wrong, n)
