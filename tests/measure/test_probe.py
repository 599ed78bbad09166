"""The probe: the same optimum as scikit-learn's, honest intervals, nothing chosen on the test set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from striate.errors import BadInput
from striate.measure import probe
from striate.measure.intervals import wilson
from striate.measure.logistic import fit_logistic, standardising
from striate.measure.logistic_descent import descend


@pytest.mark.parametrize("l2", [0.1, 0.003])
def test_the_objective_is_scikit_learns_at_its_optimum(l2: float) -> None:
    """Same convex objective (C = 1 / (n l2) on standardised features): values agree to 1e-4, ours not above by more."""
    x, y = load_digits(return_X_y=True)
    ours = fit_logistic(torch.tensor(x).float(), torch.tensor(y), 10, l2, iterations=400)
    deviation = x.std(axis=0)
    deviation[deviation < 1e-6] = np.inf
    z = (x - x.mean(axis=0)) / deviation
    theirs = LogisticRegression(C=1 / (len(x) * l2), max_iter=3000, tol=1e-7).fit(z, y)
    best = log_loss(y, theirs.predict_proba(z)) + l2 / 2 * (theirs.coef_**2).sum()
    assert ours.loss == pytest.approx(best, rel=1e-4)
    # The returned weights are for raw features: their own loss must be the same.
    raw = torch.softmax(ours.scores(torch.tensor(x).float()), dim=1).numpy()
    penalty = l2 / 2 * ((ours.weights.numpy() * np.where(np.isinf(deviation), 0, deviation)) ** 2).sum()
    assert log_loss(y, raw) + penalty == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize(("l2", "dtype"), [(0.1, torch.float32), (0.1, torch.bfloat16), (0.02, torch.bfloat16)])
def test_minibatches_come_within_a_percent_of_the_optimum(l2: float, dtype: torch.dtype) -> None:
    """On 20,000 correlated rows of which one feature is constant and one is a thousand times larger than the others."""
    random = np.random.default_rng(0)
    mixing = random.standard_normal((40, 60)) / 6
    x = (random.standard_normal((20_000, 40)) @ mixing) + 0.3 * random.standard_normal((20_000, 60))
    y = torch.tensor((x @ random.standard_normal((60, 4)) + random.gumbel(size=(20_000, 4))).argmax(axis=1))
    x[:, 7] = 3.0
    x[:, 8] *= 1000
    features = torch.tensor(x).to(dtype)
    best = fit_logistic(features, y, 4, l2, iterations=400)
    mean, deviation = standardising(features)
    weights, bias = descend(features, y, mean, deviation, 4, l2)
    rows = (features.float() - mean) / deviation
    loss = float(torch.nn.functional.cross_entropy(rows @ weights.t() + bias, y) + l2 / 2 * weights.square().sum())
    assert best.loss - 1e-4 < loss < 1.01 * best.loss
    assert best.loss < 0.95 * np.log(4)
    assert torch.equal(descend(features, y, mean, deviation, 4, l2)[0], weights)


def test_wilson_interval_holds_its_level() -> None:
    """Exact coverage by summing the binomial: between 93% and 97% for n = 200 at several shares; and its known values."""
    from scipy.stats import binom

    assert wilson(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-4)
    assert wilson(50, 100) == pytest.approx((0.40383, 0.59617), abs=1e-4)
    for share in (0.1, 0.37, 0.5, 0.9):
        covered = sum(binom.pmf(k, 200, share) for k in range(201) if wilson(k, 200)[0] <= share <= wilson(k, 200)[1])
        assert 0.93 < covered < 0.97


def _separable(count: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    centres = np.random.default_rng(99).standard_normal((3, 6)) * 2
    return torch.tensor(centres[labels] + random.standard_normal((count, 6))).float(), labels


def test_confusion_counts_every_test_picture_in_its_row() -> None:
    result = probe(*_separable(600, 1), *_separable(300, 2))
    assert result.confusion.sum() == 300
    np.testing.assert_array_equal(result.confusion.sum(axis=1), np.bincount(_separable(300, 2)[1], minlength=3))
    assert result.accuracy == pytest.approx(np.trace(result.confusion) / 300)
    assert result.low < result.accuracy < result.high
    assert result.accuracy > 0.9


def test_features_without_information_stay_at_chance() -> None:
    """Labels independent of features: the interval must hold 1/3; a probe that saw the test set would beat it."""
    random = np.random.default_rng(0)
    x = torch.tensor(random.standard_normal((900, 40))).float()
    y = random.integers(0, 3, 900)
    result = probe(x[:600], y[:600], x[600:], y[600:])
    assert 0.2 < result.accuracy < 0.47


def test_constant_and_half_precision_features_are_fine() -> None:
    x, y = _separable(400, 3)
    x = torch.cat([x, torch.ones(400, 2)], dim=1)
    full = probe(x[:300], y[:300], x[300:], y[300:])
    half = probe(x[:300].bfloat16(), y[:300], x[300:].bfloat16(), y[300:])
    assert abs(full.accuracy - half.accuracy) < 0.05


def test_what_cannot_be_probed_is_named() -> None:
    x, y = _separable(100, 4)
    with pytest.raises(BadInput, match="two classes"):
        probe(x, np.zeros(100, int), x, y)
    with pytest.raises(BadInput, match="labelled"):
        probe(x, np.full(100, -1), x, y)
    with pytest.raises(BadInput, match="at least 20"):
        probe(x[:10], y[:10], x, y)


def test_a_floor_keeps_features_that_seldom_vary_from_large_weights() -> None:
    """A feature on in one row of 1,000, always of one class: standardised it gets a weight of its own, floored hardly any."""
    rows, labels = _separable(1000, 0)
    features = torch.cat([rows, torch.zeros(1000, 1)], dim=1)
    features[5, 6] = 0.01
    y = torch.tensor(labels)
    plain, floored = (fit_logistic(features, y, 3, 0.01, floor=floor) for floor in (0.0, 0.2))
    assert float(plain.weights[:, 6].abs().max()) > 20 * float(floored.weights[:, 6].abs().max())
    torch.testing.assert_close(plain.weights[:, :6], floored.weights[:, :6], rtol=0.05, atol=0.02)
