"""Are the features any good? Multinomial logistic regression on them, judged on pictures it has not seen.

Source: Krizhevsky 2009, section 3.2 and figures 3.1 and 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from striate.errors import BadInput
from striate.measure.intervals import wilson
from striate.measure.logistic import as_labels, choose_logistic


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found.

    Attributes:
        accuracy: share of test pictures named rightly.
        low, high: 95% interval (Wilson) over the test pictures.
        train_size, test_size: how many pictures.
        dim: number of features.
        l2: strength chosen on a held-out tenth of the training pictures.
        confusion: (classes, classes) counts; rows are the true class.
        protocol: in words.
    """

    accuracy: float
    low: float
    high: float
    train_size: int
    test_size: int
    dim: int
    l2: float
    confusion: np.ndarray
    protocol: str = "multinomial logistic regression; L2 chosen on a held-out tenth of the training set"

    def summary(self) -> dict[str, float | int]:
        """The numbers that scripts read."""
        return {
            "accuracy": round(self.accuracy, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "train_size": self.train_size,
            "test_size": self.test_size,
            "dim": self.dim,
            "l2": self.l2,
        }


def probe(
    train_features: Tensor, train_labels: np.ndarray, test_features: Tensor, test_labels: np.ndarray, seed: int = 0
) -> ProbeResult:
    """Train on the one, judge on the other; the test set chooses nothing.

    Args:
        train_features: (n, d), any float format.
        train_labels: (n,), from 0.
        test_features: (m, d).
        test_labels: (m,).
        seed: of the held-out tenth.

    Raises:
        BadInput: one class only, labels missing, or too few pictures.
    """
    targets, truth = as_labels(train_labels), as_labels(test_labels)
    if any(len(labels) and int(labels.min()) < 0 for labels in (targets, truth)):
        raise BadInput("a probe needs labelled pictures: some of these have none")
    classes = 1 + int(max(targets.max(), truth.max())) if len(targets) and len(truth) else 0
    if len(targets.unique()) < 2:
        raise BadInput("a probe needs pictures of at least two classes to train on")
    model, _ = choose_logistic(train_features, targets, classes, seed=seed)
    return judge(model.predict(test_features), truth, classes, len(targets), train_features.shape[1], model.l2)


def judge(predicted: Tensor, truth: Tensor, classes: int, train_size: int, dim: int, l2: float, **other: str) -> ProbeResult:
    """What predictions are worth: (n,) classes against (n,) true ones."""
    confusion = torch.zeros(classes, classes, dtype=torch.long)
    confusion.index_put_((truth, predicted), torch.ones(len(truth), dtype=torch.long), accumulate=True)
    right = int((predicted == truth).sum())
    low, high = wilson(right, len(truth))
    return ProbeResult(right / len(truth), low, high, train_size, len(truth), dim, l2, confusion.numpy(), **other)
