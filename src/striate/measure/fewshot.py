"""Classifiers from few labels: the nearest class mean, and logistic regression whose strength cross-validation chose.

Features are first standardised by all pictures there are, labelled or not, and scaled to one length: with one label a class
that is worth 2 to 7 points of accuracy on CIFAR-10, with a hundred nothing. Whitening by the pictures' covariance was tried and
made the means worse than chance allows (docs/classifying.md).

Predictions of labelled pictures by models that did not learn from them come out of cross-validation for nothing: temperatures,
calibration and thresholds are fitted on those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.draws import generator
from striate.errors import BadInput
from striate.measure.calibration import temperature
from striate.measure.folds import folds, own_scores
from striate.measure.logistic_descent import descend_apart
from striate.measure.strengths import axes_of, fit_at_once

STRENGTHS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
# Of one label a class nothing can be held out; anything from 0.3 to 10 did as well.
_UNTRIED = 1.0
_FOLDS = 5
# Up to so many labels every strength and fold is fitted exactly, beyond it by minibatches.
_FEW = 1200
# Steps of minibatches at least, and passes.
_STEPS, _EPOCHS = 600, 10
_LEAST_DEVIATION = 1e-6
# Deviations below this share of the median count as that: a unit that seldom answers is no better a witness for it.
_FLOOR = 0.2
# The score of a class without labels: it is never named.
_NEVER = -1e4
# Cosines are within -1 and 1. Spread by this, probabilities were about right on CIFAR-10, whatever the features.
_SPREAD = 6.0


@dataclass(frozen=True)
class Scale:
    """How features are made ready.

    Attributes:
        mean: (d,) of all pictures.
        deviation: (d,), infinite for a feature that never varies.
    """

    mean: Tensor
    deviation: Tensor

    def ready(self, features: Tensor) -> Tensor:
        """Features (n, d) standardised, and each row scaled to a mean square of one."""
        standard = (features.float() - self.mean) / self.deviation
        return F.normalize(standard, dim=1) * standard.shape[1] ** 0.5


def scale_of(blocks: Iterable[np.ndarray]) -> Scale:
    """The scale of features that come in blocks (n, d)."""
    count, total, squares, first = 0, torch.zeros(()), torch.zeros(()), None
    for block in blocks:
        rows = torch.from_numpy(block).double()
        first = rows[0] if first is None else first
        rows = rows - first
        count, total, squares = count + len(rows), total + rows.sum(dim=0), squares + rows.square().sum(dim=0)
    assert first is not None
    deviation = (squares / count - (total / count).square()).clamp_min(0).sqrt()
    varies = deviation > _LEAST_DEVIATION
    if bool(varies.any()):
        deviation = deviation.clamp_min(_FLOOR * float(deviation[varies].median()))
    deviation = torch.where(varies, deviation, torch.inf)
    return Scale((first + total / count).float(), deviation.float())


@dataclass(frozen=True)
class Learned:
    """A linear classifier of rows made ready, with what it says of labelled pictures it did not learn from.

    Attributes:
        weights: (classes, d).
        bias: (classes,).
        temperature: what scores are divided by before the softmax; 1 where nothing could be held out.
        l2: the strength chosen, or None.
        held: positions (m,) among the labelled rows.
        held_scores: (m, classes) of these, by models that did not see their labels, before the temperature.
    """

    weights: Tensor
    bias: Tensor
    temperature: float
    l2: float | None
    held: np.ndarray
    held_scores: Tensor

    def scores(self, ready: Tensor) -> Tensor:
        """Log-odds (n, classes) before the temperature, up to a constant a row."""
        return torch.cat([rows.float() @ self.weights.t() + self.bias for rows in ready.split(8192)])


@dataclass(frozen=True)
class Accuracy:
    """A point of a learning curve.

    Attributes:
        labels: a class.
        accuracy: mean over draws of the labels.
        low, high: 95% interval over draws and test pictures together.
        draws: how many.
    """

    labels: int
    accuracy: float
    low: float
    high: float
    draws: int


def accuracy_over_draws(labels: int, right: np.ndarray) -> Accuracy:
    """Mean accuracy with an interval, from right (draws, n): whether each draw's classifier names each test picture rightly.

    Two sources of chance add up: which labels were drawn (the spread of the draws' means, with Student's factor for so few) and
    which pictures are judged on (the spread over pictures of the share of draws that name them). Both count the noise that
    draws and pictures share: the interval is a little wide, never narrow. A single draw knows only the latter.
    """
    from scipy.stats import t

    draws, count = right.shape
    mean = float(right.mean())
    half = (1.96**2 * right.mean(axis=0).var() / count) ** 0.5
    if draws > 1:
        half = (half**2 + (t.ppf(0.975, draws - 1) ** 2) * right.mean(axis=1).var(ddof=1) / draws) ** 0.5
    return Accuracy(labels, mean, max(0.0, mean - half), min(1.0, mean + half), draws)


Learner = Callable[[Tensor, np.ndarray, int, int, Sequence[float]], Learned]
"""Rows made ready, labels, number of classes, seed of folds, strengths of L2 to choose from."""


def draw_per_class(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions of so many labelled pictures a class (all of a class that has fewer), sorted; labels of -1 are none.

    A larger count with the same seed draws the same pictures and more.
    """
    drawn = []
    for name in np.unique(labels[labels >= 0]):
        order = generator(seed, "few", int(name)).permutation(np.flatnonzero(labels == name))
        drawn.append(order[:count])
    return np.sort(np.concatenate(drawn)) if drawn else np.empty(0, np.int64)


def learn_means(
    ready: Tensor, labels: np.ndarray, classes: int, seed: int = 0, strengths: Sequence[float] = STRENGTHS
) -> Learned:
    """The nearest class mean by cosine: a score is the product of a row and its class's mean, both of one length."""
    return _calibrated(_among_present(_means)(ready, labels, classes, seed, strengths), labels)


def learn_logistic(
    ready: Tensor, labels: np.ndarray, classes: int, seed: int = 0, strengths: Sequence[float] = STRENGTHS
) -> Learned:
    """Logistic regression; the strength of L2 is the one that held-out labels are likeliest with."""
    return _calibrated(_among_present(_logistic)(ready, labels, classes, seed, strengths), labels)


METHODS: dict[str, Learner] = {"logistic": learn_logistic, "means": learn_means}


def _calibrated(learned: Learned, labels: np.ndarray) -> Learned:
    if len(learned.held) == 0:
        return learned
    return replace(learned, temperature=temperature(learned.held_scores, torch.from_numpy(labels[learned.held])))


def _among_present(learn: Learner) -> Learner:
    """Learn among the classes that have labels; the others are never named.

    Raises:
        BadInput: fewer than two have any.
    """

    def among(ready: Tensor, labels: np.ndarray, classes: int, seed: int, strengths: Sequence[float]) -> Learned:
        present, own = np.unique(labels, return_inverse=True)
        if len(present) < 2:
            raise BadInput(f"a classifier needs labels of two classes at least, found {len(present)}")
        found = learn(ready, own.astype(np.int64), len(present), seed, strengths)
        where = torch.from_numpy(present)
        weights = torch.zeros(classes, ready.shape[1]).index_copy_(0, where, found.weights)
        bias = torch.full((classes,), _NEVER).index_copy_(0, where, found.bias)
        scores = torch.full((len(found.held), classes), _NEVER).index_copy_(1, where, found.held_scores)
        return replace(found, weights=weights, bias=bias, held_scores=scores)

    return among


def _untried(strengths: Sequence[float]) -> float:
    """The strength where nothing can be held out: the one given, or one that does for few labels."""
    return strengths[0] if len(strengths) == 1 else _UNTRIED


def _folds_of(labels: np.ndarray, seed: int) -> np.ndarray | None:
    """A fold a row, as many as the rarest class has labels, five at most; None where one has a single label."""
    fewest = int(np.bincount(labels).min())
    return folds(labels, seed, min(_FOLDS, fewest)) if fewest > 1 else None


def _means(ready: Tensor, labels: np.ndarray, classes: int, seed: int, strengths: Sequence[float]) -> Learned:
    def of(rows: np.ndarray) -> Tensor:
        own = torch.from_numpy(labels[rows])
        sums = torch.zeros(classes, ready.shape[1]).index_add_(0, own, ready[torch.from_numpy(rows)].float())
        return _SPREAD * F.normalize(sums, dim=1) / ready.shape[1] ** 0.5

    fold = _folds_of(labels, seed)
    weights, everything = of(np.arange(len(labels))), np.arange(len(labels))
    if fold is None:
        return Learned(weights, torch.zeros(classes), 1.0, None, everything[:0], torch.empty(0, classes))
    scores = torch.empty(len(labels), classes)
    for number in range(fold.max() + 1):
        held = torch.from_numpy(fold == number)
        scores[held] = ready[held].float() @ of(np.flatnonzero(fold != number)).t()
    return Learned(weights, torch.zeros(classes), 1.0, None, everything, scores)


def _logistic(ready: Tensor, labels: np.ndarray, classes: int, seed: int, strengths: Sequence[float]) -> Learned:
    fold = _folds_of(labels, seed)
    return (_exactly if len(labels) <= _FEW else _by_minibatches)(ready, labels, classes, fold, tuple(strengths))


def _exactly(ready: Tensor, labels: np.ndarray, classes: int, fold: np.ndarray | None, strengths: tuple[float, ...]) -> Learned:
    """Every strength on every fold at once, then the best on all."""
    axes, own = axes_of(ready.float()), torch.from_numpy(labels)
    best, scores, held = _untried(strengths), torch.empty(0, classes), np.empty(0, np.int64)
    if fold is not None:
        # With hundreds of labels a part of the folds tells as much as all of them.
        tried = range(fold.max() + 1 if len(labels) <= 300 else min(2, fold.max() + 1))
        every_l2 = torch.tensor(strengths).repeat(len(tried))
        without = torch.from_numpy(fold)[:, None] == torch.arange(len(tried)).repeat_interleave(len(strengths))
        weights, bias = fit_at_once(axes.rows, own, classes, every_l2, without, iterations=100)
        shape = (len(tried), len(strengths), classes)
        held = np.flatnonzero(fold < len(tried))
        which = torch.from_numpy(fold[held])
        rows = axes.rows[torch.from_numpy(held)]
        every = torch.einsum("nr,fscr->nfsc", rows, weights.view(*shape, -1)) + bias.view(shape)
        best, scores = _likeliest(every[torch.arange(len(held)), which], own[torch.from_numpy(held)], strengths)
    weights, bias = fit_at_once(axes.rows, own, classes, torch.tensor([best]))
    raw = weights[0] @ axes.basis.t()
    return Learned(raw, bias[0] - raw @ axes.mean, 1.0, best, held, scores)


def _likeliest(scores: Tensor, labels: Tensor, strengths: tuple[float, ...]) -> tuple[float, Tensor]:
    """The strength, of scores (m, strengths, classes), under which held-out labels are likeliest, and its scores."""
    losses = [
        F.cross_entropy(scores[:, number] / temperature(scores[:, number], labels), labels) for number in range(scores.shape[1])
    ]
    best = int(torch.stack(losses).argmin())
    return strengths[best], scores[:, best]


def _by_minibatches(
    ready: Tensor, labels: np.ndarray, classes: int, fold: np.ndarray | None, strengths: tuple[float, ...]
) -> Learned:
    """Every strength at once on all folds but the first; the best one on every fold, and on all rows."""
    mean, deviation = ready[:_FEW].float().mean(dim=0), torch.ones(ready.shape[1])
    own = torch.from_numpy(labels)
    epochs = max(_EPOCHS, -(-_STEPS * 500 // len(labels)))

    def fit(l2: Tensor, held: Tensor | None, start: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return descend_apart(ready, own, mean, deviation, l2, held, start, epochs)

    zeros = torch.zeros(len(strengths), classes, ready.shape[1]), torch.zeros(len(strengths), classes)
    if fold is None:
        weights, bias = fit(torch.tensor([_untried(strengths)]), None, (zeros[0][:1], zeros[1][:1]))
        nothing = Learned(weights[0], bias[0], 1.0, _untried(strengths), np.empty(0, np.int64), torch.empty(0, classes))
        return replace(nothing, bias=bias[0] - weights[0] @ mean)
    out = torch.from_numpy(fold == 0)
    weights, bias = fit(torch.tensor(strengths), out[:, None].expand(-1, len(strengths)), zeros)
    rows = ready[out].float() - mean
    every = torch.einsum("nd,scd->nsc", rows, weights) + bias
    best, _ = _likeliest(every, own[out], strengths)
    at = strengths.index(best)
    # At that strength, what every fold's model says of its own: more to fit a temperature and a threshold on.
    count, which = int(fold.max()) + 1, torch.from_numpy(fold)
    zeros = torch.zeros(count, classes, ready.shape[1]), torch.zeros(count, classes)
    each, each_bias = fit(torch.full((count,), best), which[:, None] == torch.arange(count), zeros)
    scores = own_scores(ready, each, each_bias - each @ mean, which)
    weights, bias = fit(torch.tensor([best]), None, (weights[at : at + 1], bias[at : at + 1]))
    return Learned(weights[0], bias[0] - weights[0] @ mean, 1.0, best, np.arange(len(labels)), scores)
