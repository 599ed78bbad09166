"""RBMs as scikit-learn estimators: `BernoulliRBM` in place of scikit-learn's own, `GaussianRBM` for real data.

Differences from scikit-learn's, each a wish or a known defect there: rows are shuffled every epoch; `partial_fit` may be given
any number of rows, each phase is averaged over its own count; float32 stays float32; the pseudo-likelihood is exact; momentum,
decay, sparsity, CD-k and bf16 are offered. Source: Krizhevsky 2009, section 1.4; Tieleman 2008 for persistent chains.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from striate.app.estimators.rows import as_given, blocks, checked, format_of, mean_of, seed_of, tensor
from striate.compute import ComputeDtype, choose_dtype
from striate.draws import Draws, generator
from striate.errors import BadInput, Diverged
from striate.models.rbm import RBM, Bernoulli, Gaussian, VisibleUnits, gibbs, new_rbm
from striate.train.contrastive import CDSettings, ContrastiveLearner
from striate.train.updates import Rates

# Rows whose pixels are flipped at once: a few megabytes of total inputs.
_SCORED = 1024


class _RBMEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """What both kinds share. Fitted: components_, intercept_hidden_, intercept_visible_, h_samples_, n_features_in_."""

    n_components: int
    learning_rate: float
    batch_size: int
    n_iter: int
    verbose: int
    random_state: Any
    k: int
    persistent: bool
    momentum: float
    weight_decay: float
    sparsity_target: float | None
    sparsity_cost: float
    compute_dtype: ComputeDtype

    def fit(self, X: Any, y: Any = None) -> Any:
        """Train `n_iter` epochs on rows X (n, features); returns self."""
        x = checked(self, X, reset=True)
        self._check_range(x)
        seed = seed_of(self.random_state)
        learner = self._begin(x, seed)
        size = min(self.batch_size, x.shape[0])
        for epoch in range(self.n_iter):
            begun, errors = time.monotonic(), []
            order = generator(seed, "order", epoch).permutation(x.shape[0])
            for start in range(0, x.shape[0] - size + 1, size):
                positions = np.sort(order[start : start + size])
                errors.append(learner.step(tensor(x[positions]))["reconstruction_error"])
            if self.verbose:
                error = float(torch.stack(errors).mean())
                name = type(self).__name__
                sys.stdout.write(
                    f"[{name}] Iteration {epoch + 1}, error = {error:.4g}, time = {time.monotonic() - begun:.2f}s\n"
                )
        self._keep(learner)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """One update from each minibatch of X, of which there may be any number; goes on from earlier calls. Returns self."""
        first = not hasattr(self, "components_")
        x = checked(self, X, reset=first)
        self._check_range(x)
        learner = self._begin(x, seed_of(self.random_state)) if first else self._learner(self._model())
        if not first:
            learner.load_state({name: torch.from_numpy(value) for name, value in self.training_state_.items()})
        for start in range(0, x.shape[0], self.batch_size):
            learner.step(tensor(x[start : start + self.batch_size]))
        self._keep(learner)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """p(h = 1 | v) of rows X: (n, n_components)."""
        check_is_fitted(self)
        x = checked(self, X, reset=False)
        model = self._model(format_of(x))
        return as_given(torch.cat([model.hidden_mean(block) for block in blocks(x, format_of(x))]), x)

    def gibbs(self, v: Any) -> np.ndarray:
        """One Gibbs step from visible states v (n, features) to new ones."""
        check_is_fitted(self)
        x = checked(self, v, reset=False)
        self._gibbs_calls = getattr(self, "_gibbs_calls", 0) + 1
        draws = Draws(seed_of(self.random_state), self._gibbs_calls, purpose="gibbs/")
        model = self._model()
        parts = [
            gibbs(model, model.sample_hidden(block, draws.within(str(number))), draws.within(str(number)), 1)[0]
            for number, block in enumerate(blocks(x))
        ]
        states = torch.cat(parts)
        return states.numpy().astype(bool) if isinstance(model.units, Bernoulli) else as_given(states, x)

    @abstractmethod
    def score_samples(self, X: Any) -> np.ndarray:
        """See the subclasses."""

    def _begin(self, x: Any, seed: int) -> ContrastiveLearner:
        self.seed_ = seed
        return self._learner(self._start(x, Draws(seed, purpose="start/")))

    @abstractmethod
    def _start(self, x: Any, draws: Draws) -> RBM: ...

    @abstractmethod
    def _check_range(self, x: Any) -> None: ...

    def _learner(self, rbm: RBM) -> ContrastiveLearner:
        rate, momentum = float(self.learning_rate), float(self.momentum)
        settings = CDSettings(
            k=self.k,
            chains=self.batch_size if self.persistent else None,
            weight_decay=self.weight_decay,
            sparsity_target=self.sparsity_target,
            sparsity_cost=self.sparsity_cost,
            sigma_rate=getattr(self, "sigma_rate", 0.0),
        )
        dtype = choose_dtype(self.compute_dtype, "cpu", (self.batch_size, rbm.num_visible, rbm.num_hidden))
        return ContrastiveLearner(rbm, settings, lambda step: Rates(rate, momentum), seed=self.seed_, dtype=dtype)

    def _keep(self, learner: ContrastiveLearner) -> None:
        rbm = learner.rbm
        if not bool(torch.isfinite(rbm.weights).all()):
            raise Diverged(f"the weights blew up: lower learning_rate (it is {self.learning_rate}), or set a sparsity_target")
        self.components_ = rbm.weights.numpy().copy()
        self.intercept_hidden_ = rbm.hidden_bias.numpy().copy()
        self.intercept_visible_ = rbm.visible_bias.numpy().copy()
        if isinstance(rbm.units, Gaussian):
            self.sigma_ = rbm.units.sigma.numpy().copy()
        state = {name: value.float() if value.dtype == torch.bfloat16 else value for name, value in learner.state().items()}
        self.training_state_ = {name: value.numpy().copy() for name, value in state.items()}
        if self.persistent:
            self.h_samples_ = self.training_state_.get("chains", np.zeros((self.batch_size, rbm.num_hidden), np.float32))
        self._n_features_out = rbm.num_hidden

    def _model(self, dtype: torch.dtype = torch.float32) -> RBM:
        units: VisibleUnits = Gaussian(torch.from_numpy(self.sigma_)) if hasattr(self, "sigma_") else Bernoulli()
        weights, visible, hidden = (
            tensor(part) for part in (self.components_, self.intercept_visible_, self.intercept_hidden_)
        )
        return RBM(weights, visible, hidden, units).to(dtype=dtype)

    def __sklearn_tags__(self) -> Any:
        """Sparse rows are taken; floats keep their format."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class BernoulliRBM(_RBMEstimator):
    """Binary restricted Boltzmann machine, in place of scikit-learn's: the same arguments mean the same, and there are more.

    Args:
        n_components: hidden units.
        learning_rate: of statistics averaged over a minibatch.
        batch_size: rows a minibatch; with persistent chains, also their number.
        n_iter: epochs of `fit`.
        verbose: whether to print a line an epoch.
        random_state: seed of everything.
        k: Gibbs steps an update.
        persistent: chains that are kept (PCD, as scikit-learn does) or started at the data (CD).
        momentum, weight_decay, sparsity_target, sparsity_cost: see `striate.train.CDSettings`.
        compute_dtype: of the products: fp32, bf16, or auto, which measures.
    """

    def __init__(
        self,
        n_components: int = 256,
        *,
        learning_rate: float = 0.1,
        batch_size: int = 10,
        n_iter: int = 10,
        verbose: int = 0,
        random_state: Any = None,
        k: int = 1,
        persistent: bool = True,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        sparsity_target: float | None = None,
        sparsity_cost: float = 1.0,
        compute_dtype: ComputeDtype = "fp32",
    ) -> None:
        self.n_components = n_components
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.verbose = verbose
        self.random_state = random_state
        self.k = k
        self.persistent = persistent
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.sparsity_target = sparsity_target
        self.sparsity_cost = sparsity_cost
        self.compute_dtype = compute_dtype

    def score_samples(self, X: Any) -> np.ndarray:
        """Pseudo-likelihood of rows: sum over pixels of log p(pixel | all others), nats (n,).

        scikit-learn flips one random pixel and multiplies; this is that estimate's expectation, free of chance.
        """
        check_is_fitted(self)
        x = checked(self, X, reset=False)
        model = self._model(format_of(x))
        found = [_pseudo_likelihood(model, part) for block in blocks(x, format_of(x)) for part in block.split(_SCORED)]
        return as_given(torch.cat(found), x)

    def _start(self, x: Any, draws: Draws) -> RBM:
        return new_rbm(self.n_components, mean_of(x), visible="bernoulli", weight_std=0.01, draws=draws)

    def _check_range(self, x: Any) -> None:
        values = x.data if hasattr(x, "tocsr") else x
        if values.size and (values.min() < 0 or values.max() > 1):
            # scikit-learn's takes such rows and drifts; its checks ask that any finite rows are taken.
            self.out_of_range_ = True


def _pseudo_likelihood(model: RBM, rows: Tensor) -> Tensor:
    """A flip of one pixel changes total inputs by a column of W: no product is needed for it."""
    hidden_input = model.hidden_input(rows)
    energy = model.free_energy(rows)
    total = torch.zeros(len(rows), dtype=rows.dtype)
    for pixel in range(rows.shape[1]):
        change = 1 - 2 * rows[:, pixel]
        moved = hidden_input + change[:, None] * model.weights[:, pixel]
        flipped = -((rows @ model.visible_bias) + change * model.visible_bias[pixel])
        flipped -= torch.nn.functional.softplus(moved).sum(dim=1)
        total += torch.nn.functional.logsigmoid(flipped - energy)
    return total


class GaussianRBM(_RBMEstimator):
    """RBM with Gaussian visible units, for real data: standardised or whitened rows (`StandardScaler`, `ZCAWhitening`).

    Args:
        n_components: hidden units.
        sigma: standard deviation of the visible units in data units, or "data": a share of each column's own.
        sigma_share: that share.
        sigma_rate: factor on the rate for learning sigma; 0 keeps it fixed.
        learning_rate: of statistics averaged over a minibatch.
        batch_size: rows a minibatch.
        n_iter: epochs of `fit`.
        verbose: whether to print a line an epoch.
        random_state: seed of everything.
        k, persistent, momentum, weight_decay, sparsity_target, sparsity_cost, compute_dtype: as for `BernoulliRBM`.
        hidden_bias: where hidden biases start; negative ones make units silent at first.
    """

    def __init__(
        self,
        n_components: int = 256,
        *,
        sigma: float | str = "data",
        sigma_share: float = 0.7,
        sigma_rate: float = 0.0,
        learning_rate: float = 0.01,
        batch_size: int = 100,
        n_iter: int = 10,
        verbose: int = 0,
        random_state: Any = None,
        k: int = 1,
        persistent: bool = False,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        sparsity_target: float | None = None,
        sparsity_cost: float = 1.0,
        hidden_bias: float = 0.0,
        compute_dtype: ComputeDtype = "fp32",
    ) -> None:
        self.n_components = n_components
        self.sigma = sigma
        self.sigma_share = sigma_share
        self.sigma_rate = sigma_rate
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.verbose = verbose
        self.random_state = random_state
        self.k = k
        self.persistent = persistent
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.sparsity_target = sparsity_target
        self.sparsity_cost = sparsity_cost
        self.hidden_bias = hidden_bias
        self.compute_dtype = compute_dtype

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(v) of rows up to the constant log Z: minus the free energy, nats (n,)."""
        check_is_fitted(self)
        x = checked(self, X, reset=False)
        model = self._model(format_of(x))
        return as_given(torch.cat([-model.free_energy(block) for block in blocks(x, format_of(x))]), x)

    def _start(self, x: Any, draws: Draws) -> RBM:
        mean = mean_of(x)
        return new_rbm(
            self.n_components, mean, sigma=self._sigma(x, mean), weight_std=0.01, hidden_bias=self.hidden_bias, draws=draws
        )

    def _sigma(self, x: Any, mean: Tensor) -> Tensor | float:
        if not isinstance(self.sigma, str):
            return float(self.sigma)
        if self.sigma != "data":
            raise BadInput(f'sigma is a number or "data", found {self.sigma!r}')
        squares = torch.zeros_like(mean, dtype=torch.float64)
        for block in blocks(x):
            squares += (block - mean).double().square().sum(dim=0)
        deviation = (squares / x.shape[0]).sqrt().float()
        # Columns that never vary get the others' width.
        typical = float(deviation[deviation > 1e-6].mean()) if bool((deviation > 1e-6).any()) else 1.0
        return self.sigma_share * torch.where(deviation > 1e-6 * typical, deviation, torch.full_like(deviation, typical))

    def _check_range(self, x: Any) -> None:
        """Any finite rows will do."""
