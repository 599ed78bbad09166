"""The best so far of each query, while rows go by block after block."""

from __future__ import annotations

import numpy as np


class Best:
    """The k likest rows of each query among those offered; of equals, the first in the rows' order.

    Args:
        queries: how many.
        k: rows a query.

    Attributes:
        positions: int64 (queries, k), likest first; -1 where fewer were offered.
        likeness: float64 (queries, k); minus infinity there.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.positions = np.full((queries, k), -1, dtype=np.int64)
        self.likeness = np.full((queries, k), -np.inf)

    @property
    def least(self) -> np.ndarray:
        """What a row must reach to be among a query's best, (queries,)."""
        return self.likeness[:, -1]

    def offer(self, query: np.ndarray, positions: np.ndarray, likeness: np.ndarray) -> None:
        """Take rows in: (n,) of each; positions not offered before."""
        better = likeness >= self.least[query]
        query, positions, likeness = query[better], positions[better], likeness[better]
        touched = np.unique(query)
        if not len(touched):
            return
        k = self.positions.shape[1]
        query = np.concatenate([np.repeat(touched, k), query])
        positions = np.concatenate([self.positions[touched].ravel(), positions])
        likeness = np.concatenate([self.likeness[touched].ravel(), likeness])
        order = np.lexsort((positions, -likeness, query))
        # Each query's rows lie together now, the likest first: the first k of each are kept.
        starts = np.searchsorted(query[order], touched)
        kept = order[starts[:, None] + np.arange(k)]
        self.positions[touched], self.likeness[touched] = positions[kept], likeness[kept]
