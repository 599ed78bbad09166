"""Do probabilities mean what they say? Temperature scaling, the calibration error and what a reliability diagram draws.

Of pictures named with probability 0.8, 80% should be named rightly. Guo, Pleiss, Sun and Weinberger 2017 measure by how much
that fails over bins of confidence, and mend it by dividing logits by one number, fitted on held-out pictures: the classes
named stay the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.draws import generator

BINS = 15
_REPEATS = 200
# Logits that separate all held-out pictures would be sharpened without end: temperatures are searched in these bounds, and held
# to be within about e^0.5 of 1, which matters for tens of labels and is forgotten at hundreds.
_SHARPEST, _DULLEST = 0.05, 50.0
_LOG_DEVIATION = 0.5


def temperature(logits: Tensor, labels: Tensor) -> float:
    """What to divide logits by so that held-out labels are as likely as can be, believing in a temperature of about 1.

    The loss is convex in one over the temperature: the root of its slope is found by halving.

    Args:
        logits: (n, classes), of pictures the model did not learn from.
        labels: int64 (n,).
    """
    scores = logits.double()
    own = scores[torch.arange(len(labels)), labels].mean()

    def slope(sharpness: float) -> float:
        """Of the cross-entropy of sharpness * logits, and of the belief, spread over the labels."""
        belief = math.log(sharpness) / (sharpness * _LOG_DEVIATION**2 * len(labels))
        return float(((sharpness * scores).softmax(dim=1) * scores).sum(dim=1).mean() - own) + belief

    low, high = 1 / _DULLEST, 1 / _SHARPEST
    for _ in range(60):
        middle = (low * high) ** 0.5
        if slope(middle) > 0:
            high = middle
        else:
            low = middle
    return 1 / (low * high) ** 0.5


@dataclass(frozen=True)
class Calibration:
    """How far confidence is from accuracy.

    Attributes:
        error: mean over pictures of |confidence - accuracy| of their bin, of the class named (expected calibration error, L1).
        low, high: 95% interval: percentiles over resampled pictures, less the shift that resampling brings.
        by_chance: what the error would be on average if every probability were true: bins of finite size are never even.
        log_loss: mean cross-entropy in nats.
        confidence: (bins,) mean probability of the class named, rising.
        accuracy: (bins,).
        count: (bins,) pictures.
    """

    error: float
    low: float
    high: float
    by_chance: float
    log_loss: float
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    def summary(self) -> dict[str, float]:
        """The numbers that scripts read."""
        names = ("error", "low", "high", "by_chance", "log_loss")
        return {name: round(float(getattr(self, name)), 4) for name in names}


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS, seed: int = 0) -> Calibration:
    """Judge probabilities by the labels.

    Bins are adaptive: as many pictures in each, from the least confident to the most.

    Args:
        probabilities: (n, classes).
        labels: int64 (n,).
        bins: how many; never more than pictures.
        seed: of the resampling.
    """
    sure = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    draws = generator(seed, "calibration")
    error = calibration_error(sure, right, bins)
    again, chance = np.empty(_REPEATS), np.empty(_REPEATS)
    for number in range(_REPEATS):
        rows = draws.integers(0, len(sure), len(sure))
        again[number] = calibration_error(sure[rows], right[rows], bins)
        chance[number] = calibration_error(sure, (draws.random(len(sure)) < sure).astype(np.float64), bins)
    shift = again.mean() - error
    low, high = np.quantile(again, [0.025, 0.975]) - shift
    order, edges = _binned(sure, bins)
    count = np.diff(edges)
    confidence, accuracy = (np.add.reduceat(part[order], edges[:-1]) / count for part in (sure, right))
    loss = F.nll_loss(torch.from_numpy(probabilities).double().clamp_min(1e-12).log(), torch.from_numpy(labels))
    return Calibration(error, max(float(low), 0.0), float(high), float(chance.mean()), float(loss), confidence, accuracy, count)


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal counts.

    Args:
        confidence: (n,).
        right: (n,), 1 or 0.
        bins: how many.
    """
    order, edges = _binned(confidence, bins)
    return float(np.abs(np.add.reduceat((confidence - right)[order], edges[:-1])).sum() / len(confidence))


def _binned(confidence: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions from the least confident to the most, and where bins begin (and the last ends)."""
    edges = np.linspace(0, len(confidence), min(bins, len(confidence)) + 1).astype(np.int64)
    return np.argsort(confidence, kind="stable"), edges
