"""The k nearest of many packed codes to each query by Hamming distance, exactly; of equals the first in order.

In plain numpy: codes lie word after word, a block of them in cache is compared with a query, counted, and held against the
k-th best so far; what is far is never sorted. FAISS's scan takes a third of the time where it is installed, with the same
answers. Benchmark: search.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from striate.errors import BadInput
from striate.measure.binary_codes import hamming
from striate.measure.retrieval.best import Best
from striate.measure.retrieval.nearest import Nearest

# Codes that are compared at once: a block of words, what differs, and counts stay in a core's second cache.
_CODES = 1 << 14


class Codes:
    """Packed codes to search.

    Args:
        packed: uint64 (n, words), as `striate.measure.binary_codes.pack` makes them.
        engine: `faiss` or `numpy`; `auto` is FAISS where it is installed.

    Raises:
        BadInput: the array is something else, or FAISS was asked for and is not installed.
    """

    def __init__(self, packed: np.ndarray, engine: Literal["auto", "faiss", "numpy"] = "auto") -> None:
        if packed.ndim != 2 or packed.dtype != np.uint64:
            raise BadInput(f"codes are rows of uint64 words, found an array {packed.dtype} {packed.shape}")
        self._faiss = _faiss(engine)
        self._count, self._words = packed.shape
        self._packed = np.ascontiguousarray(packed if self._faiss else packed.T)

    def __len__(self) -> int:
        return self._count

    def nearest(self, queries: np.ndarray, k: int) -> Nearest:
        """The k nearest codes to each query, uint64 (q, words); scores are bits that differ.

        Raises:
            BadInput: k is not between 1 and n, or the queries have other words.
        """
        if not 1 <= k <= len(self):
            raise BadInput(f"k = {k} of {len(self):,} codes: expected 1 to {len(self):,}")
        if queries.ndim != 2 or queries.shape[1] != self._words:
            raise BadInput(f"queries of shape {queries.shape} for codes of {self._words} words: they must agree")
        return self._by_faiss(queries, k) if self._faiss else self._by_numpy(queries, k)

    def _by_numpy(self, queries: np.ndarray, k: int) -> Nearest:
        best = Best(len(queries), k)
        counter = _Counter(self._words)
        for start in range(0, len(self), _CODES):
            block = self._packed[:, start : start + _CODES]
            least = best.least
            for number, query in enumerate(queries):
                # A later one must be nearer: equals stay in order.
                line = -least[number] if np.isfinite(least[number]) else self._words * 64 + 1
                near = counter.below(query, block, line)
                if len(near):
                    apart = hamming(query[None], block[:, near].T)[0].astype(np.float64)
                    best.offer(np.full(len(near), number), start + near, -apart)
        return Nearest(best.positions, -best.likeness)

    def _by_faiss(self, queries: np.ndarray, k: int) -> Nearest:
        apart, positions = self._faiss.knn_hamming(_bytes(queries), _bytes(self._packed), k)
        # Its heap drops the last of equals, but hands the rest over in no order.
        order = np.lexsort((positions, apart))
        apart, positions = np.take_along_axis(apart, order, 1), np.take_along_axis(positions, order, 1)
        return Nearest(positions.astype(np.int64), apart.astype(np.float64))


class _Counter:
    """Which codes of a block differ from a query in fewer bits than a line."""

    def __init__(self, words: int) -> None:
        self._differ = np.empty((words, _CODES), dtype=np.uint64)
        self._counts = np.empty((words, _CODES), dtype=np.uint8)

    def below(self, query: np.ndarray, block: np.ndarray, line: float) -> np.ndarray:
        count = block.shape[1]
        differ, counts = self._differ[:, :count], self._counts[:, :count]
        np.bitwise_xor(block, query[:, None], out=differ)
        np.bitwise_count(differ, out=counts)
        return np.flatnonzero(_sum(counts) < line)


def _sum(counts: np.ndarray) -> np.ndarray:
    """Sums over words (words, n), exact."""
    # Three words of 64 bits fit a byte.
    parts = [np.add.reduce(counts[first : first + 3], axis=0, dtype=np.uint8) for first in range(0, len(counts), 3)]
    total = parts[0].astype(np.uint16)
    for part in parts[1:]:
        total += part
    return total


def _bytes(codes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(codes).view(np.uint8)


def _faiss(engine: str) -> Any:
    if engine == "numpy":
        return None
    try:
        import faiss
    except ImportError:
        if engine == "faiss":
            raise BadInput("FAISS is not installed: pip install 'striate[faiss]'") from None
        return None
    return faiss
