"""Candidates from FAISS's inverted lists: rows, as principal components of a byte each, lie in cells; few are looked into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from striate.app.quick_search.quick import Finder
from striate.errors import BadInput
from striate.measure.embedding import find_components

_COMPONENTS = 128
# Candidates a neighbour: bytes for components blur the order of near ones.
_CANDIDATES = 10


class InvertedLists:
    """Effort: cells that are looked into.

    Raises:
        BadInput: FAISS is not installed.
    """

    kind = "inverted lists"
    suffix = "faiss"
    efforts: Sequence[int] = tuple(2**power for power in range(2, 13))

    def __init__(self) -> None:
        try:
            import faiss
        except ImportError:
            raise BadInput("--index faiss needs an extra: pip install 'striate[faiss]'") from None
        self._faiss = faiss

    def make(self, sample: np.ndarray, blocks: Iterator[np.ndarray], count: int, file: Path) -> None:
        """Learn components and cells, and put all rows that are numbers into them."""
        index = self._empty(sample, count)
        start = 0
        for rows in blocks:
            shown = np.flatnonzero(np.isfinite(rows).all(axis=1))
            index.add_with_ids(np.ascontiguousarray(rows[shown]), start + shown)
            start += len(rows)
        self._faiss.write_index(index, str(file))

    def open(self, file: Path) -> Finder:
        """Search of those lists."""
        index = self._faiss.read_index(str(file))
        lists = self._faiss.extract_index_ivf(index)

        def candidates(queries: np.ndarray, k: int, effort: int) -> np.ndarray:
            lists.nprobe = min(effort, lists.nlist)
            found: np.ndarray = index.search(queries, min(k * _CANDIDATES, index.ntotal))[1]
            return found

        return candidates

    def _empty(self, sample: np.ndarray, count: int) -> Any:
        """Learnt components, cells and ranges of the bytes, no rows yet."""
        faiss = self._faiss
        components = find_components(sample, _COMPONENTS)
        dim, kept = components.directions.shape
        turn = faiss.LinearTransform(dim, kept, True)
        faiss.copy_array_to_vector(components.directions.t().contiguous().numpy().ravel(), turn.A)
        faiss.copy_array_to_vector(-(components.mean @ components.directions).numpy(), turn.b)
        turn.is_trained = True
        # Cells of some hundred rows, and enough of the sample for each.
        cells = int(max(1, min(4 * np.sqrt(count), len(sample) // 40)))
        lists = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatL2(kept), kept, cells, faiss.ScalarQuantizer.QT_8bit)
        index = faiss.IndexPreTransform(turn, lists)
        index.train(sample)
        return index
