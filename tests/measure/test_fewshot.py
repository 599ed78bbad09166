"""Classifiers from few labels: closed forms, scikit-learn's optimum, the error that Gaussians allow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from striate.errors import BadInput
from striate.measure import fewshot
from striate.measure.fewshot import METHODS, accuracy_over_draws, draw_per_class, learn_logistic, learn_means, scale_of
from striate.measure.strengths import axes_of, fit_at_once


def two_gaussians(count: int, dim: int = 20, apart: float = 3.0, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Classes at -apart / 2 and apart / 2 along one direction: the best any rule does is norm.cdf(apart / 2)."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    rows = random.standard_normal((count, dim))
    rows[:, 0] += apart * (labels - 0.5)
    return torch.from_numpy(rows).float(), labels


@pytest.mark.parametrize("count", [30, 300])
def test_every_strength_at_once_gives_scikit_learns_optimum(count: int) -> None:
    """Same convex objective, C = 1 / (n l2): probabilities agree to 0.002, of more features than rows and of fewer."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:count].astype(np.float32), y[:count]
    axes = axes_of(torch.from_numpy(x))
    l2 = torch.tensor([1.0, 0.03])
    weights, bias = fit_at_once(axes.rows, torch.from_numpy(y), 10, l2, iterations=3000)
    for number, strength in enumerate(l2.tolist()):
        theirs = LogisticRegression(C=1 / (count * strength), max_iter=5000, tol=1e-8).fit(x - x.mean(axis=0), y)
        ours = (axes.rows @ weights[number].t() + bias[number]).softmax(dim=1).numpy()
        np.testing.assert_allclose(ours, theirs.predict_proba(x - x.mean(axis=0)), atol=2e-3)


def test_a_fold_at_once_is_a_fit_without_it() -> None:
    """The models' held-out rows, by fitting the other rows alone."""
    features, labels = two_gaussians(60, apart=1.0)
    axes, own = axes_of(features), torch.from_numpy(labels)
    held = torch.arange(60)[:, None] % 3 == torch.tensor([[0, 1]])
    weights, bias = fit_at_once(axes.rows, own, 2, torch.tensor([0.1, 0.1]), held, iterations=2000)
    kept = ~held[:, 1]
    alone = axes_of(features[kept])
    one, one_bias = fit_at_once(alone.rows, own[kept], 2, torch.tensor([0.1]), iterations=2000)
    theirs = (features - alone.mean) @ alone.basis @ one[0].t() + one_bias[0]
    torch.testing.assert_close((axes.rows @ weights[1].t() + bias[1]).softmax(1), theirs.softmax(1), atol=2e-3, rtol=0)


def test_means_are_the_nearest_by_cosine() -> None:
    """Closed form: mean of each class, cosine to each row."""
    features, labels = two_gaussians(40)
    learned = learn_means(features, labels, 2)
    means = np.stack([features.numpy()[labels == name].mean(axis=0) for name in (0, 1)])
    cosine = (features.numpy() @ means.T) / np.linalg.norm(features, axis=1)[:, None] / np.linalg.norm(means, axis=1)
    named = learned.scores(features).argmax(dim=1).numpy()
    np.testing.assert_array_equal(named, cosine.argmax(axis=1))


def test_the_scale_is_that_of_all_rows_and_rows_come_out_of_one_length() -> None:
    random = np.random.default_rng(0)
    rows = (random.standard_normal((100, 6)) * [1, 2, 3, 4, 5, 0] + 1000).astype(np.float32)
    scale = scale_of([rows[:30], rows[30:]])
    np.testing.assert_allclose(scale.mean, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scale.deviation[:5], rows.std(axis=0)[:5], rtol=1e-3)
    assert scale.deviation[5] == torch.inf
    ready = scale.ready(torch.from_numpy(rows))
    np.testing.assert_allclose(ready.square().mean(dim=1), 1, rtol=1e-4)
    assert float(ready[:, 5].abs().max()) == 0


def test_held_out_predictions_know_nothing_of_their_own_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that tell nothing: predictions that had seen their labels would be right far more than half the time."""
    random = np.random.default_rng(0)
    rows, labels = torch.from_numpy(random.standard_normal((200, 300))).float(), np.arange(200) % 2
    for few in (fewshot._FEW, 100):
        monkeypatch.setattr(fewshot, "_FEW", few)
        for method in METHODS.values():
            learned = method(rows, labels, 2, 0, fewshot.STRENGTHS)
            right = (learned.held_scores.argmax(dim=1).numpy() == labels[learned.held]).mean()
            # 4.9 standard errors of a fair coin over 200.
            assert right < 0.5 + 4.9 * 0.5 / 200**0.5
            assert (learned.scores(rows).argmax(dim=1).numpy() == labels).mean() > 0.8


def test_accuracy_grows_with_labels_to_what_gaussians_allow() -> None:
    """Closed form: the best accuracy is cdf(apart / 2) = 0.933. Means over 10 draws grow, and come within 3 points."""
    best = norm.cdf(1.5)
    test, truth = two_gaussians(4000, seed=99)
    found = []
    for count in (2, 10, 100):
        right = []
        for seed in range(10):
            rows, labels = two_gaussians(2 * count, seed=seed)
            right.append((learn_logistic(rows, labels, 2).scores(test).argmax(dim=1).numpy() == truth).mean())
        found.append(np.mean(right))
    assert found[0] < found[1] - 0.03 < found[2] - 0.06
    assert best - 0.03 < found[2] < best + 0.01


def test_minibatches_find_what_the_exact_fit_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two algorithms, one objective: probabilities agree to 0.03 in the mean."""
    rows, labels = two_gaussians(900, apart=1.5)
    exact = learn_logistic(rows, labels, 2)
    monkeypatch.setattr(fewshot, "_FEW", 100)
    other = learn_logistic(rows, labels, 2)
    ours, theirs = ((learned.scores(rows) / learned.temperature).softmax(dim=1) for learned in (exact, other))
    assert float((ours - theirs).abs().mean()) < 0.03
    assert len(other.held) == 900


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_class_without_labels_is_never_named(method: str) -> None:
    rows, labels = two_gaussians(60)
    learned = METHODS[method](rows, 2 * labels, 4, 0, fewshot.STRENGTHS)
    probabilities = (learned.scores(rows) / learned.temperature).softmax(dim=1)
    assert float(probabilities[:, [1, 3]].max()) == 0
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(60))
    assert (learned.scores(rows).argmax(dim=1).numpy() == 2 * labels).mean() > 0.8


@pytest.mark.parametrize("method", sorted(METHODS))
def test_one_label_a_class_learns_and_holds_nothing_out(method: str) -> None:
    rows, labels = two_gaussians(2, apart=6.0)
    learned = METHODS[method](rows, labels, 2, 0, fewshot.STRENGTHS)
    assert len(learned.held) == 0 and learned.temperature == 1
    assert (learned.scores(rows).argmax(dim=1).numpy() == labels).all()
    with pytest.raises(BadInput, match="two classes"):
        METHODS[method](rows, np.zeros(2, np.int64), 2, 0, fewshot.STRENGTHS)


def test_more_labels_hold_those_that_fewer_drew() -> None:
    labels = np.array([0] * 30 + [1] * 4 + [-1] * 10)
    few, more = draw_per_class(labels, 3, 1), draw_per_class(labels, 20, 1)
    assert np.bincount(labels[few]).tolist() == [3, 3]
    assert np.bincount(labels[more]).tolist() == [20, 4]
    assert set(few) <= set(more) and not np.array_equal(few, draw_per_class(labels, 3, 2))


def test_intervals_of_a_point_hold_the_true_accuracy() -> None:
    """Simulation: draws of accuracy N(0.7, 0.03), 500 test pictures; 300 intervals, of which 95% are promised.

    Fewer than 90% (4 standard errors below) would be a broken promise; one that left out the draws would hold about 75%.
    """
    random = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        shares = random.normal(0.7, 0.03, 5)
        point = accuracy_over_draws(10, random.random((5, 500)) < shares[:, None])
        held += point.low <= 0.7 <= point.high
    assert held > 0.9 * 300
