"""Neighbours through FAISS's inverted lists, for collections beyond what all pairs can be compared in: fast, and not exact.

Short rows are put into cells around centres; a row's neighbours are looked for in the nearest cells only. What that misses is
measured on a sample against the exact search and reported. Whoever is found is judged by the same distances as ever.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from striate.draws import generator
from striate.errors import BadInput
from striate.measure.duplicates import Compared, Search
from striate.measure.duplicates.finding import Found, Neighbours
from striate.measure.duplicates.rows import PictureRows
from striate.measure.duplicates.search import near_pairs

_QUERIES = 4096
_SAMPLE = 500


def indexed_neighbours(probes: int = 32) -> Neighbours:
    """A search for neighbours that looks into so many cells.

    Raises:
        BadInput: FAISS is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise BadInput("--index faiss needs an extra: pip install 'striate[faiss]'") from None

    def neighbours(short: Tensor, reach: float, other: Tensor | None) -> Found:
        base = (short if other is None else other).numpy()
        shown = np.flatnonzero(~np.isnan(base[:, 0]))
        cells = int(max(1, min(4 * np.sqrt(len(shown)), len(shown) // 40)))
        quantiser = faiss.IndexFlatL2(base.shape[1])
        index = faiss.IndexIVFFlat(quantiser, base.shape[1], cells)
        index.train(base[shown[:: max(1, len(shown) // (64 * cells))]])
        index.add_with_ids(base[shown], shown)
        index.nprobe = min(probes, cells)
        return _pairs(index, short.numpy(), reach, other is None)

    return neighbours


def _pairs(index: object, queries: np.ndarray, reach: float, once: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    shown = np.flatnonzero(~np.isnan(queries[:, 0]))
    for start in range(0, len(shown), _QUERIES):
        rows = shown[start : start + _QUERIES]
        limits, _, found = index.range_search(queries[rows], float(reach * reach))  # type: ignore[attr-defined]
        first = np.repeat(rows, np.diff(limits.astype(np.int64)))
        second = found.astype(np.int64)
        if once:
            # Each row finds the other, if not the same way: a pair is kept whoever found it.
            different = first != second
            first, second = np.minimum(first, second)[different], np.maximum(first, second)[different]
        yield first, second


def index_recall(compared: Compared, search: Search, neighbours: Neighbours, seed: int) -> float:
    """Of a sample's neighbours within reach, the share that the index finds."""
    short = compared.short
    chosen = np.sort(generator(seed, "index").choice(len(short), min(_SAMPLE, len(short)), replace=False))
    aligned = search.crops > 0 and isinstance(compared.rows, PictureRows)
    reach = search.reach if aligned else search.threshold
    sample = short[torch.from_numpy(chosen)]

    def keyed(pairs: Found) -> set[tuple[int, int]]:
        return {
            (int(a), int(b)) for first, second in pairs for a, b in zip(first, second, strict=True) if chosen[int(a)] != int(b)
        }

    exact, found = keyed(near_pairs(sample, reach, short, search.device)), keyed(neighbours(sample, reach, short))
    return len(exact & found) / len(exact) if exact else 1.0
