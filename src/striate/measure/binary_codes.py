"""Search by short binary codes: packed bits, Hamming distances, and how many true neighbours they find.

Source: Salakhutdinov and Hinton 2007; Krizhevsky, Sutskever, Hinton 2012, section 6.1, suggests it for retrieval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from striate.errors import BadInput
from striate.measure.intervals import wilson

_QUERIES = 256


@dataclass(frozen=True)
class Recall:
    """Of each query's true neighbours, the share that codes find among as many candidates.

    Attributes:
        value: mean over queries.
        low, high: 95% interval (Wilson, over all neighbours asked for).
        k: true neighbours a query.
        candidates: how many the codes may name.
        n: queries.
        bytes_a_picture: of the codes.
    """

    value: float
    low: float
    high: float
    k: int
    candidates: int
    n: int
    bytes_a_picture: int


def pack(bits: np.ndarray) -> np.ndarray:
    """Bool (n, width) to uint64 words (n, ceil(width / 64)); what is left of the last word is zero."""
    if bits.ndim != 2:
        raise BadInput(f"codes are rows of bits, found an array of shape {bits.shape}")
    padded = np.zeros((len(bits), -(-bits.shape[1] // 64) * 64), dtype=bool)
    padded[:, : bits.shape[1]] = bits
    return np.packbits(padded, axis=1).view(np.uint64)


def hamming(queries: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Bits in which packed codes differ: (queries, words), (base, words) -> uint16 (queries, base)."""
    out = np.zeros((len(queries), len(base)), dtype=np.uint16)
    for word in range(base.shape[1]):
        out += np.bitwise_count(queries[:, word, None] ^ base[None, :, word])
    return out


def recall_at(
    query_codes: np.ndarray,
    base_codes: np.ndarray,
    query_rows: np.ndarray,
    base_rows: np.ndarray,
    k: int,
    candidates: int | None = None,
) -> Recall:
    """Recall of the k nearest rows (Euclidean, exact) among the nearest codes (Hamming, ties by position).

    Args:
        query_codes, base_codes: packed.
        query_rows, base_rows: float (n, d), what distances truly are.
        k: neighbours.
        candidates: how many codes are looked at; by default k.
    """
    candidates = candidates or k
    if not 1 <= k <= candidates <= len(base_rows):
        raise BadInput(f"recall of {k} among {candidates} candidates needs as many rows to search, found {len(base_rows)}")
    squares = np.einsum("ij,ij->i", base_rows, base_rows)
    found = 0
    for start in range(0, len(query_rows), _QUERIES):
        part = slice(start, start + _QUERIES)
        true = np.argpartition(squares - 2 * query_rows[part] @ base_rows.T, k - 1, axis=1)[:, :k]
        named = np.argsort(hamming(query_codes[part], base_codes), axis=1, kind="stable")[:, :candidates]
        found += sum(len(np.intersect1d(a, b)) for a, b in zip(true, named, strict=True))
    total = k * len(query_rows)
    low, high = wilson(found, total)
    return Recall(found / total, low, high, k, candidates, len(query_rows), base_codes.shape[1] * 8)
