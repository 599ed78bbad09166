"""What estimators share: rows from anything array-like, batch by batch, and seeds the way scikit-learn gives them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data
from torch import Tensor

_ROWS = 4096


def checked(estimator: Any, x: Any, *, reset: bool) -> Any:
    """Two-dimensional, finite, float rows; float32 stays float32, memory maps stay on disk, sparse rows stay sparse."""
    if isinstance(x, Tensor):
        x = x.detach().cpu().numpy()
    return validate_data(estimator, x, reset=reset, accept_sparse="csr", dtype=(np.float32, np.float64))


def tensor(rows: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """Some rows, dense."""
    dense = rows.toarray() if sparse.issparse(rows) else np.asarray(rows)
    return torch.from_numpy(np.ascontiguousarray(dense, dtype=np.float32 if dtype == torch.float32 else np.float64))


def blocks(x: Any, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
    """All rows in order, some thousands at a time."""
    for start in range(0, x.shape[0], _ROWS):
        yield tensor(x[start : start + _ROWS], dtype)


def format_of(x: Any) -> torch.dtype:
    """What to compute answers about rows in: float64 rows get float64 answers, the same in any order and company."""
    return torch.float64 if x.dtype == np.float64 else torch.float32


def seed_of(random_state: Any) -> int:
    """A seed from None, a number or a numpy generator."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def mean_of(x: Any) -> Tensor:
    """Column means, float32."""
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    for block in blocks(x):
        total += block.double().sum(dim=0)
    return (total / x.shape[0]).float()


def as_given(result: Tensor, like: Any) -> np.ndarray:
    """In the float format of the data."""
    return result.numpy().astype(like.dtype, copy=False)
