"""Does a unit tell pictures of a concept from others? The paper's protocol, and beside it one that cannot flatter.

Source: Le et al. 2012, section 4.2: for each unit, 20 evenly spaced thresholds between its least and its greatest activity over
the test pictures; the best accuracy of the best unit is reported. Unit and threshold are so chosen on the pictures they are
judged by, among thousands of units: how far luck gets that way is measured with permuted labels, and the same choice made on
one half and judged on the other is given too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from striate.draws import generator
from striate.errors import BadInput

THRESHOLDS = 20
# Activities looked at together: (pictures, units) of 64 MB.
_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class UnitScores:
    """Every unit by the paper's protocol.

    Attributes:
        accuracy: best over thresholds, (units,).
        threshold: at which, (units,).
        fires: whether the unit's activity varies at all, (units,).
    """

    accuracy: Tensor
    threshold: Tensor
    fires: Tensor


def score_units(activities: Tensor, positive: Tensor) -> UnitScores:
    """Score every unit: a picture counts as the concept where the activity reaches the threshold.

    Args:
        activities: (pictures, units).
        positive: bool (pictures,).

    Raises:
        BadInput: fewer than two pictures of either side.
    """
    check_sides(positive)
    width = max(1, _AT_ONCE // len(activities))
    parts = [_score(activities[:, start : start + width].float(), positive) for start in range(0, activities.shape[1], width)]
    return UnitScores(*(torch.cat(one) for one in zip(*parts)))


def _score(activities: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = activities.amin(dim=0), activities.amax(dim=0)
    units, spaces = activities.shape[1], THRESHOLDS + 1
    # Which of the 21 even spaces between least and greatest each activity lies in; then one count a space serves 20 thresholds.
    place = ((activities - low) * (spaces / (high - low).clamp_min(1e-30))).long().clamp_(0, THRESHOLDS)
    place += torch.arange(units) * spaces
    inside, all_ = (
        torch.bincount(part.flatten(), minlength=units * spaces).view(units, spaces) for part in (place[positive], place)
    )
    # Right at threshold t: pictures of the concept in spaces from t on, others in spaces before it.
    hits = inside.flip(1).cumsum(1).flip(1)[:, 1:]
    rejected = (all_ - inside).cumsum(1)[:, :-1]
    best = (hits + rejected).max(dim=1)
    chosen = low + (best.indices + 1) / spaces * (high - low)
    return best.values / len(positive), chosen, high > low


def check_sides(positive: Tensor) -> None:
    """Raise `BadInput` unless both sides can be measured."""
    for side, what in ((positive, "the concept"), (~positive, "distractors")):
        if int(side.sum()) < _LEAST:
            raise BadInput(f"{int(side.sum())} pictures of {what}: fewer than {_LEAST} measure nothing")


_LEAST = 10


def area_under_curve(scores: Tensor, positive: Tensor) -> float:
    """The chance that a picture of the concept scores above one without it; ties count half."""
    _, ranks, counts = scores.double().unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    middle = ends - (counts.double() - 1) / 2
    total = middle[ranks][positive].sum()
    inside = int(positive.sum())
    return float((total - inside * (inside + 1) / 2) / (inside * (len(scores) - inside)))


def average_precision(scores: Tensor, positive: Tensor) -> float:
    """The mean over pictures of the concept of the share of the concept among those that score as much or more."""
    order = scores.argsort(descending=True)
    values, hits = scores[order], positive[order].double().cumsum(0)
    # Ties stand together at the end of their run.
    last = torch.searchsorted(-values.contiguous(), -values.contiguous(), right=True) - 1
    return float((hits[last] / (last + 1).double())[positive[order]].mean())


def curve(scores: Tensor, positive: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The receiver operating characteristic: false and true positive rates at every threshold, from (0, 0) to (1, 1)."""
    order = scores.argsort(descending=True)
    values = scores[order]
    ends = torch.cat([(values[1:] != values[:-1]).nonzero().flatten(), torch.tensor([len(values) - 1])])
    true = positive[order].double().cumsum(0)[ends] / positive.sum()
    false = (~positive[order]).double().cumsum(0)[ends] / (~positive).sum()
    return np.concatenate([[0.0], false.numpy()]), np.concatenate([[0.0], true.numpy()])


@dataclass(frozen=True)
class Concept:
    """What the best of many units knows of a concept.

    Attributes:
        unit: the best one by the paper's protocol.
        accuracy: its accuracy on all pictures, threshold and unit chosen there too: the paper's number.
        threshold: that threshold.
        chance: of calling everything by the larger side.
        held_out: accuracy on one half of the unit and threshold best on the other; the mean of both ways round.
        held_out_error: its standard error.
        luck: what the best unit reaches by the paper's protocol for permuted labels; the most of a few permutations.
        auc: area under the best unit's curve.
        average_precision: of the best unit.
        units: how many were judged.
        silent: how many never varied.
        pictures: how many of the concept, and how many others.
    """

    unit: int
    accuracy: float
    threshold: float
    chance: float
    held_out: float
    held_out_error: float
    luck: float
    auc: float
    average_precision: float
    units: int
    silent: int
    pictures: tuple[int, int]


def judge_concept(activities: Tensor, positive: Tensor, seed: int = 0, permutations: int = 3) -> Concept | None:
    """The best unit of many, by the paper's protocol and by halves.

    Args:
        activities: (pictures, units).
        positive: bool (pictures,).
        seed: of halves and permutations.
        permutations: of labels, to see what luck reaches.

    Returns:
        None where no unit's activity varies: nothing can be measured.

    Raises:
        BadInput: too few pictures of either side.
    """
    scores = score_units(activities, positive)
    if not bool(scores.fires.any()):
        return None
    best = int(torch.where(scores.fires, scores.accuracy, -1.0).argmax())
    halves = halve(positive, seed)
    apart = [_transferred(activities, positive, chosen, judged) for chosen, judged in (halves, halves[::-1])]
    shuffled = (torch.from_numpy(generator(seed, "permuted", turn).permutation(len(positive))) for turn in range(permutations))
    luck = max((float(score_units(activities, positive[order]).accuracy.max()) for order in shuffled), default=0.0)
    held_out = sum(apart) / 2
    inside = int(positive.sum())
    return Concept(
        unit=best,
        accuracy=float(scores.accuracy[best]),
        threshold=float(scores.threshold[best]),
        chance=max(inside, len(positive) - inside) / len(positive),
        held_out=held_out,
        held_out_error=(held_out * (1 - held_out) / len(positive)) ** 0.5,
        luck=luck,
        auc=area_under_curve(activities[:, best].float(), positive),
        average_precision=average_precision(activities[:, best].float(), positive),
        units=activities.shape[1],
        silent=int((~scores.fires).sum()),
        pictures=(inside, len(positive) - inside),
    )


def halve(positive: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Positions of two halves, each with half of either side."""
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    for side, which in enumerate((positive, ~positive)):
        order = generator(seed, "halves", side).permutation(which.nonzero().flatten().numpy())
        first.append(order[: len(order) // 2])
        second.append(order[len(order) // 2 :])
    return torch.from_numpy(np.sort(np.concatenate(first))), torch.from_numpy(np.sort(np.concatenate(second)))


def _transferred(activities: Tensor, positive: Tensor, chosen: Tensor, judged: Tensor) -> float:
    """Unit and threshold of one half, judged on the other."""
    scores = score_units(activities[chosen], positive[chosen])
    best = int(torch.where(scores.fires, scores.accuracy, -1.0).argmax())
    called = activities[judged, best].float() > scores.threshold[best]
    return float((called == positive[judged]).float().mean())


def best_of(score: Callable[[], Tensor], positive: Tensor) -> float:
    """The best accuracy of any of some scores (pictures, units), by the paper's protocol."""
    return float(score_units(score(), positive).accuracy.max())
