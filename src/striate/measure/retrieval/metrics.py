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
        margin: how far those can be from the truth, (queries,), given bounds of the products' errors (queries,) (for rows of
            norm 1), that of sums in float32 (for |q||x| = 1), the largest norm of a row and the queries' norms.
        product: how large the product (twice it, for `l2`) is at most where the likeness is a given one (queries,), over the
            metric's own scale; given the least and largest norms of rows and the queries' norms.
        exact: likenesses (n,) of pairs, from queries and rows float64 (n, d).
        shown: likenesses to what people call the metric (a distance for `l2`).
    """

    name: str
    unit_queries: bool
    from_products: Callable[[Tensor, Tensor, Tensor], Tensor]
    margin: Callable[[np.ndarray, float, float, np.ndarray], np.ndarray]
    product: Callable[[np.ndarray, float, float, np.ndarray], np.ndarray]
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


def _largest_product(likeness: np.ndarray, least: float, most: float, norms: np.ndarray) -> np.ndarray:
    """Of -|q - x|^2 = 2 q.x - |x|^2 - |q|^2."""
    return np.maximum(np.abs(likeness + norms**2 + least**2), np.abs(likeness + norms**2 + most**2))


DOT = Metric(
    "dot",
    unit_queries=False,
    from_products=lambda products, _, __: products,
    margin=lambda errors, _, widest, __: errors * widest,
    product=lambda likeness, _, __, ___: np.abs(likeness),
    exact=_products,
    shown=lambda likeness: likeness,
)
COSINE = Metric(
    "cosine",
    unit_queries=True,
    from_products=_cosines_from,
    # The norm of a row is such a sum, too.
    margin=lambda errors, sums, _, norms: errors + 2 * sums * norms,
    product=lambda likeness, _, __, ___: np.abs(likeness),
    exact=_cosines,
    shown=lambda likeness: likeness,
)
L2 = Metric(
    "l2",
    unit_queries=False,
    from_products=_minus_squares_from,
    margin=lambda errors, sums, widest, norms: 2 * errors * widest + 2 * sums * (widest + norms) ** 2,
    product=_largest_product,
    exact=_minus_squares,
    shown=lambda likeness: np.sqrt(-likeness),
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
