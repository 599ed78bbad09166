"""ZCA whitening as a scikit-learn transformer, streamed: rows may be a memory map, or come in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from striate.app.estimators.rows import as_given, blocks
from striate.preprocess import Moments, spectrum, zca

# Eigenvalues below this share of the largest are directions in which the rows do not vary.
_RANK_TOLERANCE = 1e-10


class ZCAWhitening(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Decorrelate columns and give them unit variance, changing rows as little as can be. Source: Krizhevsky 2009, appendix A.

    Directions in which the rows do not vary are dropped, with or without `delete`.

    Args:
        delete: least significant directions to drop.
        epsilon: added to eigenvalues, in squared data units: weak directions stay weak.

    Attributes:
        mean_: (features,).
        whitening_, dewhitening_: (features, features), symmetric.
        eigenvalues_: (features,), largest first.
    """

    def __init__(self, delete: int = 0, *, epsilon: float = 0.0) -> None:
        self.delete = delete
        self.epsilon = epsilon

    def fit(self, X: Any, y: Any = None) -> ZCAWhitening:
        """Fit to rows X (n, features)."""
        x = self._rows(X, reset=True)
        self.moments_ = Moments(x.shape[1]).state()
        return self._add(x)

    def partial_fit(self, X: Any, y: Any = None) -> ZCAWhitening:
        """Add rows to those seen before: the result is that of all of them at once."""
        first = not hasattr(self, "moments_")
        x = self._rows(X, reset=first)
        if first:
            self.moments_ = Moments(x.shape[1]).state()
        return self._add(x)

    def _rows(self, x: Any, *, reset: bool) -> Any:
        if isinstance(x, Tensor):
            x = x.detach().cpu().numpy()
        least = 2 if reset else 1
        return validate_data(self, x, reset=reset, dtype=(np.float64, np.float32), ensure_min_samples=least)

    def _add(self, x: Any) -> ZCAWhitening:
        moments = Moments.restore(self.moments_)
        for block in blocks(x):
            moments.update(block)
        self.moments_ = moments.state()
        found = spectrum(moments.covariance)
        rank = int((found.values > _RANK_TOLERANCE * found.values[0]).sum())
        linear = zca(
            found, min(max(self.delete, x.shape[1] - max(rank, 1)), x.shape[1] - 1), self.epsilon or _least(found.values)
        )
        self.mean_ = moments.mean.numpy()
        self.whitening_, self.dewhitening_ = linear.forward.numpy(), linear.backward.numpy()
        self.eigenvalues_ = found.values.numpy()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Whitened rows (n, features)."""
        check_is_fitted(self)
        x = self._rows(X, reset=False)
        return self._apply(x, self.whitening_, -self.mean_ @ self.whitening_)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Back to data units, but for the directions that were dropped."""
        check_is_fitted(self)
        x = self._rows(X, reset=False)
        return self._apply(x, self.dewhitening_, self.mean_)

    def _apply(self, x: Any, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
        linear, shift = torch.from_numpy(matrix), torch.from_numpy(offset)
        parts = [
            torch.from_numpy(np.asarray(x[i : i + 4096], dtype=np.float64)) @ linear + shift for i in range(0, len(x), 4096)
        ]
        return as_given(torch.cat(parts), x)

    def __sklearn_tags__(self) -> Any:
        """Floats keep their format."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _least(values: Tensor) -> float:
    """Nothing to divide by where rows do not vary at all."""
    return 0.0 if float(values[0]) > 0 else 1.0
