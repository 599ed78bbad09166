"""Naming only what one is sure of: risk against coverage, and a least confidence that keeps errors below a bound.

Selective classification (Geifman and El-Yaniv 2017). On held-out predictions, sorted from the most confident down, a rank is
good if the Clopper-Pearson bound on the error among those above it is within the target. Ranks are tried in an order fixed
beforehand, from several starts, each start up to its first failure: the bound's confidence is shared by the starts, not by the
ranks. That all thresholds together fail at most so often is exact where errors become no rarer as confidence falls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from striate.measure.intervals import clopper_pearson_upper

_STEPS = 400
# Clopper and Pearson's bound on a share, two wrong among n, at 0.983: this over n.
_FORGIVING = 7.9


@dataclass(frozen=True)
class Selective:
    """What a least confidence does to held-out predictions.

    Attributes:
        threshold: predictions at or above it are given, others abstain; above 1 if all abstain.
        coverage: share of predictions given.
        risk: share of wrong ones among those given.
        bound: that the risk is below, with the confidence asked for; 1 if nothing is given.
    """

    threshold: float
    coverage: float
    risk: float
    bound: float


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage (n,) rising from 1/n to 1, and the error among the predictions given, most confident first."""
    wrong = 1 - right[np.argsort(-confidence, kind="stable")].astype(np.float64)
    given = np.arange(1, len(wrong) + 1)
    return given / len(wrong), np.cumsum(wrong) / given


def selective(confidence: np.ndarray, right: np.ndarray, threshold: float) -> Selective:
    """What a given threshold does."""
    given = confidence >= threshold
    wrong = int((given & ~right.astype(bool)).sum())
    count = int(given.sum())
    return Selective(threshold, count / max(len(given), 1), wrong / max(count, 1), float(clopper_pearson_upper(wrong, count)))


def threshold_for_error(confidence: np.ndarray, right: np.ndarray, target: float, sure: float = 0.95) -> Selective:
    """The lowest threshold at which the error is within a target, with a confidence.

    Args:
        confidence: (n,) of held-out predictions.
        right: (n,), 1 or 0.
        target: the largest share of wrong ones among those given.
        sure: how sure to be that it is kept on pictures of the same kind.
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence = confidence[order]
    wrong = np.cumsum(1 - right[order].astype(np.int64))
    starts = _starts(len(order), target)
    best = 0
    for start in starts:
        reached = _last_good(wrong, start, target, (1 - sure) / len(starts))
        best = max(best, reached)
    # Equals are given together or not at all.
    while 0 < best < len(order) and sorted_confidence[best] == sorted_confidence[best - 1]:
        best -= 1
    if best == 0:
        return Selective(np.nextafter(1.0, 2.0), 0.0, 0.0, 1.0)
    level = 1 - (1 - sure) / len(starts)
    threshold = float(sorted_confidence[best - 1])
    return Selective(
        threshold, best / len(order), wrong[best - 1] / best, float(clopper_pearson_upper(int(wrong[best - 1]), best, level))
    )


def _starts(count: int, target: float) -> list[int]:
    """Ranks to begin at, fixed before anything is looked at: shares of all, but so many that two wrong ones are forgiven."""
    least = int(np.ceil(_FORGIVING / target))
    return sorted({max(count // part, least) for part in (32, 8, 2) if max(count // part, least) <= count})


def _last_good(wrong: np.ndarray, start: int, target: float, error: float) -> int:
    """The last rank before the first that fails, from a start; 0 if the start fails."""
    ranks = np.arange(start, len(wrong) + 1, max(1, len(wrong) // _STEPS))
    good = clopper_pearson_upper(wrong[ranks - 1], ranks, 1 - error) <= target
    reached = len(ranks) if good.all() else int(good.argmin())
    return int(ranks[reached - 1]) if reached else 0
