"""Deep belief nets as a scikit-learn estimator: RBMs trained one after another, each on the activities of the one below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from striate.app.estimators.rbms import BernoulliRBM, GaussianRBM
from striate.app.estimators.rows import as_given, blocks, checked, format_of, seed_of
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import DeepBeliefNet


class DeepBeliefNetwork(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A greedy stack of RBMs. Source: Krizhevsky 2009, section 1.4.5.

    Args:
        layer_sizes: hidden units of each layer, the lowest first.
        visible: "gaussian" or "bernoulli" units for the data; layers above are binary.
        learning_rate: of the lowest layer.
        upper_rate: of the layers above.
        batch_size, n_iter, momentum, weight_decay, sparsity_target, sparsity_cost, verbose, random_state: as for the RBMs.
    """

    def __init__(
        self,
        layer_sizes: Sequence[int] = (256, 256),
        *,
        visible: str = "gaussian",
        learning_rate: float = 0.01,
        upper_rate: float = 0.05,
        batch_size: int = 100,
        n_iter: int = 10,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        sparsity_target: float | None = None,
        sparsity_cost: float = 1.0,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.layer_sizes = layer_sizes
        self.visible = visible
        self.learning_rate = learning_rate
        self.upper_rate = upper_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.sparsity_target = sparsity_target
        self.sparsity_cost = sparsity_cost
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> DeepBeliefNetwork:
        """Train layer after layer on rows X (n, features)."""
        x = checked(self, X, reset=True)
        if self.visible not in ("gaussian", "bernoulli"):
            raise BadInput(f'visible is "gaussian" or "bernoulli", found {self.visible!r}')
        if not len(self.layer_sizes):
            raise BadInput("a deep belief net needs at least one layer: layer_sizes is empty")
        self.seed_ = seed_of(self.random_state)
        self.layers_: list[GaussianRBM | BernoulliRBM] = []
        rows = x
        for level, size in enumerate(self.layer_sizes):
            layer = self._layer(level, size).fit(rows)
            self.layers_.append(layer)
            rows = layer.transform(rows)
        self._n_features_out = int(self.layer_sizes[-1])
        return self

    def _layer(self, level: int, size: int) -> GaussianRBM | BernoulliRBM:
        shared: dict[str, Any] = {
            "batch_size": self.batch_size,
            "n_iter": self.n_iter,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "sparsity_target": self.sparsity_target,
            "sparsity_cost": self.sparsity_cost,
            "persistent": False,
            "verbose": self.verbose,
            "random_state": self.seed_ + level & 0x7FFFFFFF,
        }
        if level == 0 and self.visible == "gaussian":
            return GaussianRBM(size, learning_rate=self.learning_rate, **shared)
        return BernoulliRBM(size, learning_rate=self.learning_rate if level == 0 else self.upper_rate, **shared)

    def transform(self, X: Any) -> np.ndarray:
        """The top layer's means, (n, layer_sizes[-1])."""
        check_is_fitted(self)
        x = checked(self, X, reset=False)
        net = self._net(format_of(x))
        return as_given(torch.cat([net.up(block)[-1] for block in blocks(x, format_of(x))]), x)

    def reconstruct(self, X: Any) -> np.ndarray:
        """Means passed up to the top and down again, (n, features)."""
        check_is_fitted(self)
        x = checked(self, X, reset=False)
        net = self._net(format_of(x))
        return as_given(torch.cat([net.down(net.up(block)[-1]) for block in blocks(x, format_of(x))]), x)

    def sample(self, n_samples: int = 1, n_steps: int = 1000) -> np.ndarray:
        """What the net makes up, (n_samples, features): Gibbs at the top, then down; means of the visible units."""
        check_is_fitted(self)
        drawn: Tensor = self._net().sample(n_samples, Draws(self.seed_, purpose="sample/"), n_steps)
        return drawn.numpy()

    def _net(self, dtype: torch.dtype = torch.float32) -> DeepBeliefNet:
        return DeepBeliefNet(tuple(layer._model(dtype) for layer in self.layers_))

    def __sklearn_tags__(self) -> Any:
        """Floats keep their format."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
