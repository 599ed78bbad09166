"""The k nearest of many rows to each query, exactly, whatever format the products run in.

Blocks of rows are multiplied by all queries. A row goes on only if its likeness, plus what rounding can have taken from it,
reaches the k-th best so far; those few (about k log(n / k) a query) are judged again in float64. So the answer is that of a
search in float64: the same for any block, number of threads, device and format of the products. Of equals the first in order
wins. Cost: the product, a comparison a pair, and one more look at each row, for its norm, while it is in cache. Benchmark:
search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from striate.errors import BadInput
from striate.measure.retrieval.best import Best
from striate.measure.retrieval.metrics import Metric, metric_named
from striate.measure.retrieval.rounding import product_margin

# Rows in float32 that stay in cache until their norms are known; bf16 products want more rows at once.
_CACHED_BYTES, _BF16_BYTES, _GPU_BYTES = 8 << 20, 64 << 20, 1 << 30
# Where bf16 lets through more pairs than this share, float32 is quicker.
_MANY = 0.02
_JUDGED_BYTES = 32 << 20


class Rows(Protocol):
    """Rows (n, d) that are read range by range: an array, a memory map, a tensor, or anything like it."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, part: slice, /) -> Any:
        """An array or tensor (stop - start, d) of floats."""
        ...


@dataclass(frozen=True)
class Nearest:
    """What was found.

    Attributes:
        positions: int64 (queries, k), nearest first; -1 where there were fewer rows than k.
        scores: float64 (queries, k): cosine, inner product, or distance; NaN there.
    """

    positions: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, best: Best, rule: Metric) -> Nearest:
        """The best of all rows, in a metric's own terms."""
        found = best.positions >= 0
        return cls(best.positions, np.where(found, rule.shown(np.where(found, best.likeness, 0)), np.nan))


def nearest(
    queries: np.ndarray,
    rows: Rows,
    k: int,
    metric: str = "cosine",
    *,
    norms: np.ndarray | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda count: None,
) -> Nearest:
    """The k rows nearest to each query.

    Args:
        queries: (q, d), finite.
        rows: (n, d) of any float format, read block by block; rows whose norm is no finite number are never found.
        k: rows a query.
        metric: `cosine`, `l2` or `dot`.
        norms: those of the rows, float32 (n,), if known: spares a look at every row.
        dtype: of the products' operands, float32 or bfloat16; None: bfloat16 where rows are. The answer is the same.
        device: where products run.
        progress: called with the number of rows done since the last call.

    Raises:
        BadInput: widths differ, a query is not finite or (for `cosine`) zero, or k is not between 1 and n.
    """
    rule, device = metric_named(metric), torch.device(device)
    exact = _checked(queries, rows, k, rule)
    screen = _Screen(exact, rule, dtype or _own_dtype(rows), device)
    best = Best(len(exact), k)
    start = 0
    while start < len(rows):
        block = as_tensor(rows[start : start + screen.at_once])
        known = None if norms is None else torch.from_numpy(norms[start : start + len(block)])
        row, query = screen.candidates(block, known, best.least, k)
        if screen.dtype != torch.float32 and len(row) > _MANY * len(block) * len(exact) + 4 * k * len(exact):
            screen = _Screen(exact, rule, torch.float32, device)
            continue
        _judge(exact, block, row, query, start, best, rule)
        progress(len(block))
        start += len(block)
    return Nearest.of(best, rule)


def row_norms(rows: Rows) -> np.ndarray:
    """Norms of rows, float32 (n,), to be given to `nearest` again and again."""
    out = np.empty(len(rows), dtype=np.float32)
    start = 0
    while start < len(rows):
        block = as_tensor(rows[start : start + 512])
        out[start : start + len(block)] = _norms(block).cpu().numpy()
        start += len(block)
    return out


def as_tensor(block: np.ndarray | Tensor) -> Tensor:
    """An array as a tensor that shares its memory, be it a map opened for reading only."""
    if isinstance(block, Tensor):
        return block
    return torch.from_numpy(block if block.flags.writeable else np.asarray(_Unlocked(block)))


class _Unlocked:
    """Memory that is read only, described as if it were not: torch warns of the first, and nothing here writes to it."""

    def __init__(self, array: np.ndarray) -> None:
        self._kept = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def as_query(queries: np.ndarray, rule: Metric) -> np.ndarray:
    """Queries (q, d) as a metric takes them, float64.

    Raises:
        BadInput: one is not finite, or zero where directions are compared.
    """
    exact = np.asarray(queries, dtype=np.float64)
    if not np.isfinite(exact).all():
        raise BadInput("a query holds numbers that are not finite: nothing is near it")
    if rule.unit_queries:
        norms = np.sqrt(np.einsum("ij,ij->i", exact, exact))[:, None]
        if not norms.all():
            raise BadInput("a query of zeros points nowhere: by direction nothing is near it, `l2` compares distances")
        exact = exact / norms
    return exact


def _checked(queries: np.ndarray, rows: Rows, k: int, rule: Metric) -> np.ndarray:
    exact = as_query(queries, rule)
    width = rows[0:1].shape[1] if len(rows) else 0
    if exact.ndim != 2 or exact.shape[1] != width:
        raise BadInput(f"queries of shape {exact.shape} for rows of width {width}: they must agree")
    if not 1 <= k <= len(rows):
        raise BadInput(f"k = {k} of {len(rows):,} rows: expected 1 to {len(rows):,}")
    return exact


def _own_dtype(rows: Rows) -> torch.dtype:
    return torch.bfloat16 if getattr(rows, "dtype", None) == torch.bfloat16 else torch.float32


def _norms(block: Tensor) -> Tensor:
    return torch.linalg.vector_norm(block.float(), dim=1)


class _Screen:
    """Products in one format, and which pairs they let through."""

    def __init__(self, queries: np.ndarray, rule: Metric, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self._rule, self._device = dtype, rule, device
        single = torch.from_numpy(queries).float()
        self._norms = torch.linalg.vector_norm(single, dim=1).to(device)
        self._operand = single.t().to(device, dtype).contiguous()
        count, dim = queries.shape
        self._margin = product_margin(dim, dtype, device)
        wanted = _GPU_BYTES if device.type == "cuda" else _CACHED_BYTES if dtype == torch.float32 else _BF16_BYTES
        self.at_once = int(np.clip(wanted // (dim * dtype.itemsize), 64, 1 << 16))
        # Products (rows, queries), and rows in the products' format where they are in another.
        self._products = torch.empty(self.at_once, count, dtype=dtype, device=device)
        self._likeness = self._products if dtype == torch.float32 else torch.empty_like(self._products, dtype=torch.float32)
        self._rows: Tensor | None = None

    def candidates(self, block: Tensor, norms: Tensor | None, least: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (row, query) that may be among the best, given what a query's k-th best has reached."""
        operand = self._converted(block)
        count = len(block)
        products = torch.mm(operand, self._operand, out=self._products[:count])
        norms = (_norms(operand if operand.dtype == torch.float32 else block) if norms is None else norms).to(self._device)
        whole = norms.isfinite()
        likeness = products if self.dtype == torch.float32 else self._likeness[:count].copy_(products)
        likeness = self._rule.from_products(likeness, norms, self._norms)
        if not whole.all():
            likeness[~whole] = -torch.inf
        widest = float(norms[whole].max()) if whole.any() else 0.0
        margin = self._rule.margin(self._margin, widest, self._norms)
        line = torch.from_numpy(least).to(self._device) - margin
        if k < count and np.isneginf(least).any():
            # The block's own k-th best will do as well, if it is that.
            line = torch.maximum(line, likeness.topk(k, dim=0).values[-1] - 2 * margin)
        # Whatever is not finite fails: minus infinity must not reach minus infinity.
        line = line.float().clamp_(min=torch.finfo(torch.float32).min)
        hit = likeness >= torch.nextafter(line, torch.full_like(line, -torch.inf)).clamp_(min=torch.finfo(torch.float32).min)
        return _where(hit)

    def _converted(self, block: Tensor) -> Tensor:
        if block.dtype == self.dtype and block.device == self._device:
            return block
        if self._rows is None:
            self._rows = torch.empty(self.at_once, block.shape[1], dtype=self.dtype, device=self._device)
        return self._rows[: len(block)].copy_(block)


def _where(hit: Tensor) -> tuple[np.ndarray, np.ndarray]:
    # numpy looks for the few that are true three times as fast.
    return np.divmod(np.flatnonzero(hit.cpu().numpy()), hit.shape[1])


def _judge(exact: np.ndarray, block: Tensor, row: np.ndarray, query: np.ndarray, start: int, best: Best, rule: Metric) -> None:
    at_once = max(1, _JUDGED_BYTES // (8 * exact.shape[1]))
    for begin in range(0, len(row), at_once):
        i, j = row[begin : begin + at_once], query[begin : begin + at_once]
        best.offer(j, start + i, rule.exact(exact[j], block[torch.from_numpy(i)].cpu().double().numpy()))
