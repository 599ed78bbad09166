"""Candidates that something quick has named, put into the order that exact search would give them; and what it missed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from striate.measure.retrieval.best import Best
from striate.measure.retrieval.metrics import metric_named
from striate.measure.retrieval.nearest import Nearest, as_query


def judged(
    queries: np.ndarray, take: Callable[[np.ndarray], np.ndarray], candidates: np.ndarray, k: int, metric: str = "cosine"
) -> Nearest:
    """The k nearest of each query's candidates, by the features themselves.

    Args:
        queries: (q, d).
        take: positions to rows (n, d).
        candidates: int64 (q, c), positions of each query's candidates, each once; -1: none.
        k: rows a query; those beyond the candidates are -1.
        metric: `cosine`, `l2` or `dot`.
    """
    rule = metric_named(metric)
    exact = as_query(queries, rule)
    best = Best(len(exact), k)
    for number, query in enumerate(exact):
        positions = np.sort(candidates[number][candidates[number] >= 0])
        likeness = rule.exact(query[None], take(positions).astype(np.float64))
        # What is no number is near nothing.
        shown = np.isfinite(likeness)
        best.offer(np.full(shown.sum(), number), positions[shown], likeness[shown])
    return Nearest.of(best, rule)


def share_found(truth: np.ndarray, found: np.ndarray) -> float:
    """Of each query's true neighbours (q, k), the share that is among those found (q, any)."""
    both = sum(len(np.intersect1d(a[a >= 0], b)) for a, b in zip(truth, found, strict=True))
    return both / max(int((truth >= 0).sum()), 1)
