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

from striate.compute import as_tensor, choose_dtype
from striate.errors import BadInput
from striate.measure.retrieval.best import Best
from striate.measure.retrieval.metrics import Metric, metric_named
from striate.measure.retrieval.rounding import UNIT, product_errors, sum_error

# Rows in float32 that stay in cache until their norms are known; bf16 products want more rows at once.
_CACHED_BYTES, _BF16_BYTES, _GPU_BYTES = 8 << 20, 64 << 20, 1 << 30
_NORM_BYTES = 1 << 20
_LIKENESS_BYTES = 64 << 20
_MANY_QUERIES = 16
# Where bf16 lets through more pairs than this share, float32 is quicker.
_MANY = 0.02
_JUDGED_BYTES = 2 << 20


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
        dtype: of the products' operands, float32 or bfloat16; None: what is faster here. The answer is the same.
        device: where products run.
        progress: called with the number of rows done since the last call.

    Raises:
        BadInput: widths differ, a query is not finite or (for `cosine`) zero, or k is not between 1 and n.
    """
    rule, device = metric_named(metric), torch.device(device)
    exact = _checked(queries, rows, k, rule)
    own = _own_dtype(rows)
    screen = _Screen(exact, rule, dtype or _quickest(own, exact.shape, device), device, own)
    best = Best(len(exact), k)
    start = 0
    while start < len(rows):
        block = as_tensor(rows[start : start + screen.at_once])
        likeness, norms_between = screen.likeness(block, None if norms is None else norms[start : start + len(block)])
        judge = _Judge(exact, screen, block, start, best, rule, norms_between[1])
        if np.isneginf(best.least).any():
            # The likest of the first block, by the screen, set the line for its other rows.
            judge.pairs(*_take_likest(likeness, min(k, len(block))))
        query, row = _reaching(likeness, screen.line(best.least, *norms_between))
        if screen.dtype != torch.float32 and len(row) > _MANY * len(block) * len(exact):
            screen = screen.in_float32()
        judge.pairs(query, row)
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
    width = rows[0:1].shape[1] if len(rows) else 0
    if queries.ndim != 2 or queries.shape[1] != width:
        raise BadInput(f"queries of shape {queries.shape} for rows of width {width}: they must agree")
    if not 1 <= k <= len(rows):
        raise BadInput(f"k = {k} of {len(rows):,} rows: expected 1 to {len(rows):,}")
    return as_query(queries, rule)


def _own_dtype(rows: Rows) -> torch.dtype:
    return as_tensor(rows[0:1]).dtype


def _quickest(own: torch.dtype, shape: tuple[int, ...], device: torch.device) -> torch.dtype:
    if own == torch.bfloat16:
        return torch.bfloat16
    # A few queries wait for memory, not for products; and float16 takes long to convert.
    if own != torch.float32 or shape[0] < _MANY_QUERIES:
        return torch.float32
    return choose_dtype("auto", device, (shape[0], shape[1], 4096))


def _norms(block: Tensor) -> Tensor:
    return torch.linalg.vector_norm(block.float(), dim=1)


class _Screen:
    """Products in one format, as likenesses that may be off by a margin."""

    def __init__(
        self, queries: np.ndarray, rule: Metric, dtype: torch.dtype, device: torch.device, own: torch.dtype | None
    ) -> None:
        self.dtype, self._queries, self._rule, self._device = dtype, queries, rule, device
        self.single = queries.astype(np.float32)
        dim = queries.shape[1]
        self._norms = np.sqrt(np.einsum("ij,ij->i", queries, queries))
        self._operand = torch.from_numpy(self.single).to(device, dtype)
        self._errors = product_errors(queries, self._operand, rows_rounded=own != dtype)
        wanted = _GPU_BYTES if device.type == "cuda" else _CACHED_BYTES if dtype == torch.float32 else _BF16_BYTES
        fitting = min(wanted // (dim * dtype.itemsize), _LIKENESS_BYTES // (4 * max(1, len(queries))))
        self.at_once = int(np.clip(fitting, 64, 1 << 16))
        # Rows in the products' format, where they come in another.
        self._rows: Tensor | None = None

    def in_float32(self) -> _Screen:
        """The same in float32."""
        return _Screen(self._queries, self._rule, torch.float32, self._device, None)

    def likeness(self, block: Tensor, norms: np.ndarray | None) -> tuple[Tensor, tuple[float, float]]:
        """Likenesses (queries, rows) float32, minus infinity for rows that are no numbers; and the least and largest norms."""
        operand, widths = self._prepared(block, None if norms is None else as_tensor(norms))
        likeness = torch.mm(self._operand, operand.t()).float()
        likeness = self._rule.from_products(likeness, widths, torch.from_numpy(self._norms).to(likeness))
        whole = widths.isfinite()
        if not whole.all():
            likeness[:, ~whole] = -torch.inf
        widths = widths[whole]
        return likeness, (float(widths.min()), float(widths.max())) if len(widths) else (0.0, 0.0)

    def line(self, least: np.ndarray, narrowest: float, widest: float) -> np.ndarray:
        """What a row's likeness must be, as it was computed, for the true one to reach `least`, (queries,)."""
        sums = sum_error(self.single.shape[1])
        margin = self._rule.margin(self._errors, sums, widest, self._norms)
        if self.dtype != torch.float32:
            # The product was rounded once more, relative to itself.
            found = np.isfinite(least)
            product = self._rule.product(np.where(found, least, 0), narrowest, widest, self._norms)
            margin = margin + np.where(found, UNIT[self.dtype] * (1 + UNIT[self.dtype]) * (product + margin), 0)
        return least - margin

    def single_line(self, least: np.ndarray, widest: float) -> np.ndarray:
        """The same for likenesses in float32 throughout."""
        sums = sum_error(self.single.shape[1])
        return least - self._rule.margin(sums * self._norms, sums, widest, self._norms)

    def _prepared(self, block: Tensor, norms: Tensor | None) -> tuple[Tensor, Tensor]:
        """A block in the products' format, and its norms."""
        as_it_is = block.dtype == self.dtype and block.device == self._device
        if as_it_is and norms is not None:
            return block, norms.to(self._device)
        if not as_it_is and self._rows is None:
            self._rows = torch.empty(self.at_once, block.shape[1], dtype=self.dtype, device=self._device)
        operand = block if as_it_is or self._rows is None else self._rows[: len(block)]
        found = []
        # Some rows at a time, so that the second look at them, for their norms, finds them in cache.
        once = norms is not None or self._device.type == "cuda"
        step = len(block) if once else max(1, _NORM_BYTES // (4 * block.shape[1]))
        for start in range(0, len(block), step):
            part = block[start : start + step]
            if not as_it_is:
                converted = operand[start : start + step].copy_(part)
                # Norms of what rows are, not of what bf16 makes of them.
                part = converted if self.dtype == torch.float32 else part
            if norms is None:
                found.append(_norms(part))
        return operand, (torch.cat(found) if norms is None else norms).to(self._device)


def _take_likest(likeness: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k likest rows of each query as pairs (query, row), which are taken out: set to minus infinity."""
    likeness.nan_to_num_(nan=-torch.inf, neginf=-torch.inf)
    rows = likeness.topk(k, dim=1).indices
    there = likeness.gather(1, rows).isfinite().cpu().numpy()
    likeness.scatter_(1, rows, -torch.inf)
    query, place = np.nonzero(there)
    return query, rows.cpu().numpy()[query, place]


def _reaching(likeness: Tensor, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (query, row) whose likeness is a query's line or more."""
    # Rounded down, and never minus infinity, which is what rows that are no numbers reach.
    lowest = torch.finfo(torch.float32).min / 2
    single = np.nextafter(np.maximum(line, lowest).astype(np.float32), np.float32(-np.inf))
    hit = likeness >= torch.from_numpy(single).to(likeness.device)[:, None]
    # numpy looks for the few that are true three times as fast.
    return np.divmod(np.flatnonzero(hit.cpu().numpy()), hit.shape[1])


@dataclass(frozen=True)
class _Judge:
    """Rows of a block that passed the screen: judged in float32, and those that may still be among the best in float64."""

    exact: np.ndarray
    screen: _Screen
    block: Tensor
    start: int
    best: Best
    rule: Metric
    widest: float

    def pairs(self, query: np.ndarray, row: np.ndarray) -> None:
        """Offer pairs to the best."""
        at_once = max(1, _JUDGED_BYTES // (4 * self.exact.shape[1]))
        for begin in range(0, len(row), at_once):
            i, j = query[begin : begin + at_once], row[begin : begin + at_once]
            rows = self.block[torch.from_numpy(j)].cpu().float().numpy()
            likely = self.rule.exact(self.screen.single[i], rows) >= self.screen.single_line(self.best.least, self.widest)[i]
            i, j, rows = i[likely], j[likely], rows[likely]
            self.best.offer(i, self.start + j, self.rule.exact(self.exact[i], rows.astype(np.float64)))
