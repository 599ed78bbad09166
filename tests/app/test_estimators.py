"""Estimators: scikit-learn's own checks, what theirs do wrong, pipelines and searches, and learning."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import BernoulliRBM as TheirRBM
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from striate.errors import BadInput, Diverged
from striate.models.rbm import RBM, Bernoulli
from striate.models.rbm.exact import log_likelihood
from striate.sklearn import BernoulliRBM, DeepBeliefNetwork, GaussianRBM, ZCAWhitening


@pytest.mark.parametrize(
    "estimator",
    [
        BernoulliRBM(n_components=4, n_iter=2),
        GaussianRBM(n_components=4, n_iter=2, batch_size=10),
        DeepBeliefNetwork((5, 4), n_iter=2, batch_size=10),
        ZCAWhitening(),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_scikit_learns_checks_pass(estimator: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(estimator)


def _bars(count: int, seed: int = 0) -> np.ndarray:
    """Bars and stripes of 3x3: every row, or every column, of one value."""
    random = np.random.default_rng(seed)
    lines = random.integers(0, 2, (count, 3))
    images = np.repeat(lines[:, :, None], 3, axis=2)
    turned = random.integers(0, 2, count).astype(bool)
    images[turned] = images[turned].transpose(0, 2, 1)
    return images.reshape(count, 9).astype(np.float64)


def _exact(estimator: object, rows: np.ndarray) -> float:
    parts = (estimator.components_, estimator.intercept_visible_, estimator.intercept_hidden_)  # type: ignore[attr-defined]
    weights, visible, hidden = (torch.tensor(np.asarray(part), dtype=torch.float64) for part in parts)
    return float(log_likelihood(RBM(weights, visible, hidden, Bernoulli()), torch.tensor(rows)).mean())


@pytest.mark.science
def test_it_learns_bars_and_stripes_as_far_as_scikit_learns_does() -> None:
    """Exact log-likelihood after the same epochs with the same arguments, averaged over five seeds; both have learned."""
    rows = _bars(1000)
    arguments = {"n_components": 12, "learning_rate": 0.1, "batch_size": 20, "n_iter": 60}
    ours = np.mean([_exact(BernoulliRBM(**arguments, random_state=seed).fit(rows), rows) for seed in range(5)])
    theirs = np.mean([_exact(TheirRBM(**arguments, random_state=seed).fit(rows), rows) for seed in range(5)])
    assert ours > theirs - 0.1
    assert ours > -9 * np.log(2) + 1.5


def test_partial_fit_takes_any_number_of_rows_and_stays_where_the_data_is() -> None:
    """200 calls of 1,000 fair-coin rows with 10 chains: visible biases stay near 0. (scikit-learn's are at +9.8 by then.)"""
    random = np.random.default_rng(0)
    ours = BernoulliRBM(8, batch_size=10, learning_rate=0.05, random_state=0)
    for _ in range(20):
        ours.partial_fit((random.random((1000, 12)) < 0.5).astype(np.float32))
    assert np.abs(ours.intercept_visible_).mean() < 0.3


def test_partial_fits_continue_each_other() -> None:
    """Momentum and chains are kept between calls, and through pickling: calls one after the other continue to the last bit."""
    rows = _bars(200).astype(np.float32)
    arguments = {"n_components": 6, "batch_size": 20, "momentum": 0.9, "random_state": 3}
    at_once = BernoulliRBM(**arguments).partial_fit(rows)
    in_parts = BernoulliRBM(**arguments).partial_fit(rows[:100])
    # Visible biases start from the first rows' means: begin where the other began.
    assert not np.array_equal(at_once.components_, in_parts.components_)
    first = BernoulliRBM(**arguments).partial_fit(rows[:100]).partial_fit(rows[100:])
    again = pickle.loads(pickle.dumps(in_parts)).partial_fit(rows[100:])
    assert np.array_equal(first.components_, again.components_)
    assert np.array_equal(first.h_samples_, again.h_samples_)


def test_formats_of_rows_give_the_same_and_float32_stays(tmp_path: object) -> None:
    rows = _bars(120).astype(np.float32)
    file = f"{tmp_path}/rows.npy"
    np.save(file, rows)
    mapped = np.load(file, mmap_mode="r")
    fitted = [
        BernoulliRBM(5, n_iter=3, random_state=0).fit(x)
        for x in (rows, torch.from_numpy(rows), mapped, sparse.csr_matrix(rows), rows.astype(np.float64))
    ]
    for other in fitted[1:]:
        assert np.array_equal(other.components_, fitted[0].components_)
    assert fitted[0].transform(rows).dtype == np.float32
    assert fitted[0].transform(rows.astype(np.float64)).dtype == np.float64
    assert np.allclose(fitted[0].transform(sparse.csr_matrix(rows)), fitted[0].transform(rows))
    states = fitted[0].gibbs(rows)
    assert states.dtype == bool and states.shape == rows.shape
    assert list(fitted[0].get_feature_names_out()[:2]) == ["bernoullirbm0", "bernoullirbm1"]


def test_pseudo_likelihood_is_the_expectation_of_scikit_learns() -> None:
    """Theirs flips one random pixel a row: with their parameters in ours, means over 4,000 rows agree to five standard errors.

    And for one row, ours is the sum of logs of conditional probabilities by enumeration.
    """
    rows = _bars(4000)
    theirs = TheirRBM(6, n_iter=5, random_state=0).fit(rows)
    ours = BernoulliRBM(6, n_iter=1, random_state=0).fit(rows)
    for name in ("components_", "intercept_hidden_", "intercept_visible_"):
        setattr(ours, name, getattr(theirs, name).astype(np.float32))
    a, b = ours.score_samples(rows), theirs.score_samples(rows)
    assert abs(a.mean() - b.mean()) < 5 * b.std() / np.sqrt(len(rows))
    row, energy = rows[0], lambda v: float(theirs._free_energy(v[None])[0])
    expected = 0.0
    for pixel in range(9):
        other = row.copy()
        other[pixel] = 1 - other[pixel]
        expected += -np.logaddexp(0, energy(row) - energy(other))
    assert a[0] == pytest.approx(expected, rel=1e-4)


def test_whitening_is_the_closed_form_and_parts_add_up() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 8)) @ random.normal(size=(8, 8)) + 5
    white = ZCAWhitening().fit(x)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    assert np.allclose(white.whitening_, vectors @ np.diag(values**-0.5) @ vectors.T, atol=1e-6)
    assert np.allclose(np.cov(white.transform(x).T), np.eye(8), atol=1e-6)
    assert np.allclose(white.inverse_transform(white.transform(x)), x, atol=1e-6)
    parts = ZCAWhitening().partial_fit(x[:123]).partial_fit(x[123:])
    assert np.allclose(parts.whitening_, white.whitening_, atol=1e-8)
    deleted = ZCAWhitening(delete=3).fit(x)
    assert np.linalg.matrix_rank(deleted.transform(x) - deleted.transform(x).mean(axis=0), tol=1e-6) == 5


@pytest.mark.science
def test_a_search_over_a_pipeline_of_everything_beats_raw_pixels() -> None:
    """Digits moved by a pixel in each direction, 2,000 to train on: by 4 points at least (84% against 76%)."""
    x, y = load_digits(return_X_y=True)
    images = np.pad((x / 16).reshape(-1, 8, 8).astype(np.float32), ((0, 0), (1, 1), (1, 1)))
    moves = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    moved = np.concatenate([np.roll(images, move, (1, 2))[:, 1:-1, 1:-1] for move in moves]).reshape(-1, 64)
    train, test, train_y, test_y = train_test_split(moved, np.tile(y, 5), train_size=2000, test_size=2000, random_state=0)
    sparse_units = {"sparsity_target": 0.1, "sparsity_cost": 3.0, "hidden_bias": -2.0}
    rbm = GaussianRBM(150, n_iter=30, batch_size=50, random_state=0, **sparse_units)
    pipeline = make_pipeline(ZCAWhitening(epsilon=0.01), rbm, LogisticRegression(C=10, max_iter=300))
    search = GridSearchCV(pipeline, {"gaussianrbm__learning_rate": [0.01, 0.03]}, cv=2).fit(train, train_y)
    plain = LogisticRegression(C=10, max_iter=500).fit(train, train_y)
    assert search.score(test, test_y) > plain.score(test, test_y) + 0.04
    assert clone(search.best_estimator_).get_params()["gaussianrbm__n_components"] == 150


def test_a_rate_that_blows_up_is_named() -> None:
    rows = 100 * np.random.default_rng(0).normal(size=(200, 6))
    with pytest.raises(Diverged, match="lower learning_rate"):
        GaussianRBM(20, sigma=1.0, learning_rate=10.0, batch_size=20).fit(rows)


def test_deep_nets_stack_sample_and_rebuild() -> None:
    rows = _bars(600)
    net = DeepBeliefNetwork((12, 8), visible="bernoulli", learning_rate=0.1, n_iter=40, batch_size=20, random_state=0).fit(rows)
    assert net.transform(rows).shape == (600, 8)
    error = np.square(net.reconstruct(rows) - rows).mean()
    assert error < 0.5 * np.square(rows.mean(axis=0) - rows).mean()
    drawn = net.sample(500, n_steps=200)
    # Bars and stripes are a fiftieth of all states of nine pixels; most samples must look like one.
    patterns = {tuple(row) for row in rows.astype(int)}
    hits = np.mean([tuple(row) in patterns for row in (drawn > 0.5).astype(int)])
    assert len(patterns) == 14 and hits > 0.3
    with pytest.raises(BadInput, match="at least one layer"):
        DeepBeliefNetwork(()).fit(rows)
    with pytest.raises(BadInput, match='"gaussian" or "bernoulli"'):
        DeepBeliefNetwork((3,), visible="poisson").fit(rows)
