"""What `near` means: each metric as a likeness (larger is nearer), quick from products and norms, exact from the rows."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from striate.errors import BadInput


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: of it.
        unit_queries: whether queries are brought to norm 1 first.
        from_products: products (queries, rows), norms of rows (rows,) and of queries (queries,) to likenesses, in place.
        margin: how far those can be from the truth, given a bound of the products and one of sums in float32 (both in
            |q||x|), the largest norm of a row and the norms of the queries.
        exact: likenesses (n,) of pairs, from queries and rows float64 (n, d).
        shown: likenesses to what people call the metric (a distance for `l2`).
    """

    name: str
    unit_queries: bool
    from_products: Callable[[Tensor, Tensor, Tensor], Tensor]
    margin: Callable[[float, float, float, np.ndarray], np.ndarray]
    exact: Callable[[np.ndarray, np.ndarray], np.ndarray]
    shown: Callable[[np.ndarray], np.ndarray]


def _products(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", queries, rows)


def _cosines(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    norms = np.sqrt(_products(rows, rows))
    # A row of zeros points nowhere: it is at a right angle to everything.
    return np.divide(_products(queries, rows), norms, out=np.zeros(len(rows)), where=norms > 0)


def _minus_squares(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    apart = queries - rows
    return -_products(apart, apart)


def _cosines_from(products: Tensor, norms: Tensor, query_norms: Tensor) -> Tensor:
    return products.mul_(norms.reciprocal().masked_fill_(norms == 0, 0))


def _minus_squares_from(products: Tensor, norms: Tensor, query_norms: Tensor) -> Tensor:
    return products.mul_(2).sub_(norms.square()).sub_(query_norms.square()[:, None])


DOT = Metric(
    "dot", False, lambda p, _, __: p, lambda m, _, widest, norms: m * widest * norms, _products, lambda likeness: likeness
)
COSINE = Metric(
    "cosine", True, _cosines_from, lambda m, sums, _, norms: (m + 2 * sums) * norms, _cosines, lambda likeness: likeness
)
L2 = Metric(
    "l2",
    False,
    _minus_squares_from,
    # The squared norms are rounded, too, as sums of as many numbers are.
    lambda m, sums, widest, norms: 2 * m * widest * norms + 2 * sums * (widest + norms) ** 2,
    _minus_squares,
    lambda likeness: np.sqrt(-likeness),
)
METRICS = {metric.name: metric for metric in (COSINE, L2, DOT)}


def metric_named(name: str) -> Metric:
    """A metric by name.

    Raises:
        BadInput: there is none of that name.
    """
    if name not in METRICS:
        close = difflib.get_close_matches(name, METRICS, 1, 0.4)
        raise BadInput(f"no metric {name!r}: " + (f"did you mean {close[0]}?" if close else f"there are {', '.join(METRICS)}"))
    return METRICS[name]
