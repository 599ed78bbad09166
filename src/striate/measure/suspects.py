"""Which labels are probably wrong? Those that a judge, who has not seen them, does not believe.

Two judges of different kinds, each without the label in question: logistic regression out of fold, averaged over several ways
to fold, and the labels of the nearest neighbours. They err on different pictures: their mean finds more wrong labels than
either (CIFAR-10 with 5 to 20% of labels changed: average precision 0.62 to 0.80, against 0.52 to 0.77 of the first alone;
benchmark `labelling`). Wrong labels are few, so leaving them out and fitting again was tried: it made the ranking worse.

How many are wrong is estimated as in confident learning (Northcutt, Jiang and Chuang 2021): a label is doubted where another
class is believed as much as that class usually is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.errors import BadInput
from striate.measure.folds import FOLDS, folds, held_out_scores

_REPEATS = 3
_L2 = 0.01
_NEIGHBOURS = 50
# Cosines this far apart weigh e times less.
_TEMPERATURE = 0.1
# What neighbours say against what the regression says.
_SHARE = 1 / 3
_AT_ONCE = 1024


@dataclass(frozen=True)
class Suspects:
    """Every picture with how far its label is believed.

    Attributes:
        belief: (n,), the label's probability: low where it is doubted.
        probabilities: (n, classes), of both judges together.
        guess: (n,), the class that is believed most.
        doubted: bool (n,): another class is believed as much as that class usually is.
    """

    belief: np.ndarray
    probabilities: np.ndarray
    guess: np.ndarray
    doubted: np.ndarray

    @property
    def order(self) -> np.ndarray:
        """Positions, most suspect first."""
        return np.argsort(self.belief, kind="stable")


def find_suspects(features: Tensor, labels: np.ndarray, classes: int, l2: float = _L2, seed: int = 0) -> Suspects:
    """Rank labels by how little they are believed.

    Args:
        features: (n, d).
        labels: int64 (n,), from 0 to classes - 1.
        classes: how many.
        l2: of the logistic regression.
        seed: of the folds.

    Raises:
        BadInput: a class with fewer pictures than folds, or fewer than two classes.
    """
    counts = np.bincount(labels, minlength=classes)
    present = counts[counts > 0]
    if len(present) < 2 or present.min() < FOLDS:
        raise BadInput(f"suspects need two classes of at least {FOLDS} labels each, found {counts.tolist()}")
    regression = sum(out_of_fold(features, labels, classes, l2, folds(labels, seed + n)) for n in range(_REPEATS)) / _REPEATS
    probabilities = (1 - _SHARE) * regression + _SHARE * neighbours(features, labels, classes)
    own = probabilities[np.arange(len(labels)), labels]
    return Suspects(own, probabilities, probabilities.argmax(axis=1), doubts(probabilities, labels))


def out_of_fold(features: Tensor, labels: np.ndarray, classes: int, l2: float, fold: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes) of each picture by a logistic regression fitted on the other folds."""
    return held_out_scores(features, labels, classes, l2, fold).softmax(dim=1).numpy()


def neighbours(features: Tensor, labels: np.ndarray, classes: int, count: int = _NEIGHBOURS) -> np.ndarray:
    """Shares (n, classes) of the labels of each picture's nearest others, by cosine, near ones weighing more."""
    rows = F.normalize(features.float(), dim=1)
    named = F.one_hot(torch.from_numpy(labels), classes).float()
    found = np.zeros((len(rows), classes), np.float32)
    count = min(count, len(rows) - 1)
    for start in range(0, len(rows), _AT_ONCE):
        cosines = rows[start : start + _AT_ONCE] @ rows.t()
        here = torch.arange(len(cosines))
        cosines[here, start + here] = -torch.inf
        nearest, where = cosines.topk(count, dim=1)
        weights = (nearest / _TEMPERATURE).softmax(dim=1)
        found[start : start + len(here)] = (weights[:, :, None] * named[where]).sum(dim=1).numpy()
    return found


def doubts(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Bool (n,): the likeliest of the classes that are believed as much as they usually are is not the label."""
    usual = np.ones(probabilities.shape[1])
    for name in np.unique(labels):
        usual[name] = probabilities[labels == name, name].mean()
    likely = np.where(probabilities >= usual, probabilities, -1.0)
    return (likely.max(axis=1) > 0) & (likely.argmax(axis=1) != labels)
