"""All pairs of short rows within a reach, found by blocked products that miss none.

|a - b|^2 = |a|^2 + |b|^2 - 2 a.b, so a pair is near if its product is large. Products run in bf16 where that is faster, the
threshold lowered by what rounding can do; whoever is let through is judged again in float32. Rows are taken in the order
of their norms: blocks whose norms lie further apart than the reach hold no pair. Cost: a multiply-add a component and a
comparison a pair, about 0.9 ns on two cores for 65 components; memory: one block of products.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from striate.compute import as_tensor, choose_dtype

_ROWS, _COLUMNS = 2048, 4096
# Two operands rounded to bf16 are off by up to 2^-8 of themselves each, so is the product as it is stored, and so is what it
# is held against: 2^-7 of the norms' product and of the limit, and a little for what is of second order.
_BF16_MARGIN = 1.02 * 2.0**-7
_FP32_MARGIN = 2.0**-16


@dataclass(frozen=True)
class _Side:
    """Short rows in the order of their norms, in the products' format."""

    rows: Tensor
    norms: Tensor
    order: Tensor

    @classmethod
    def of(cls, short: Tensor, dtype: torch.dtype, device: torch.device) -> _Side:
        norms = short.norm(dim=1)
        order = norms.argsort()
        # What cannot be compared comes last, and is left out.
        order = order[: int((~norms.isnan()).sum())]
        return cls(short[order].to(device, dtype), norms[order].to(device), order)


def near_pairs(
    short: Tensor,
    reach: float,
    other: Tensor | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] = lambda share: None,
    dtype: torch.dtype | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions (first, second) of all pairs of rows within a distance, block by block.

    Args:
        short: (n, d) float32; rows of NaN match nothing.
        reach: the largest distance.
        other: (m, d), what the second of a pair is looked for in; None: in `short` itself, each pair once, first < second.
        device: where products run.
        progress: called with the share of the pairs done since the last call.
        dtype: of the products' operands; None: what is faster here. The pairs are the same.
    """
    blocks = Blocks.of(short, reach, other, device, dtype)
    total = blocks.pairs
    for top in blocks.tops:
        yield from blocks.found(top, lambda pairs: progress(pairs / total))


@dataclass(frozen=True)
class Blocks:
    """The same search, cut into blocks of rows that are looked for one by one.

    Attributes:
        short: (n, d) float32.
        other: (m, d), or None.
        reach: the largest distance.
        device: where products run.
        dtype: of their operands.
        shown: rows of `short` that can be compared, and of what they are looked for in.
    """

    short: np.ndarray
    other: np.ndarray | None
    reach: float
    device: torch.device
    dtype: torch.dtype
    shown: tuple[int, int]

    @classmethod
    def of(
        cls, short: Tensor, reach: float, other: Tensor | None, device: torch.device | str, dtype: torch.dtype | None = None
    ) -> Blocks:
        """See `near_pairs`."""
        device = torch.device(device)
        dtype = dtype or choose_dtype("auto", device, (_ROWS, short.shape[1], _COLUMNS))
        first, second = (int((~rows.norm(dim=1).isnan()).sum()) for rows in (short, short if other is None else other))
        return cls(short.numpy(), None if other is None else other.numpy(), reach, device, dtype, (first, second))

    @property
    def tops(self) -> range:
        """Where blocks begin, of rows in the order of their norms."""
        return range(0, self.shown[0], _ROWS)

    @property
    def pairs(self) -> int:
        """Pairs of rows, each way."""
        return max(1, self.shown[0] * self.shown[1])

    def pairs_of(self, top: int) -> int:
        """Of those, a block's."""
        return min(_ROWS, self.shown[0] - top) * self.shown[1]

    def __call__(self, top: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """All pairs of a block."""
        return list(self.found(top))

    @functools.cached_property
    def _sides(self) -> tuple[_Side, _Side]:
        first = _Side.of(as_tensor(self.short), self.dtype, self.device)
        return first, first if self.other is None else _Side.of(as_tensor(self.other), self.dtype, self.device)

    @functools.cached_property
    def _scratch(self) -> tuple[Tensor, Tensor]:
        return tuple(torch.empty(_ROWS, _COLUMNS, dtype=kind, device=self.device) for kind in (self.dtype, torch.bool))  # type: ignore[return-value]

    def found(self, top: int, progress: Callable[[int], None] = lambda pairs: None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of a block, piece by piece."""
        (first, second), (products, hits) = self._sides, self._scratch
        once, reach = self.other is None, self.reach
        margin = _BF16_MARGIN if self.dtype == torch.bfloat16 else _FP32_MARGIN
        short = as_tensor(self.short)
        others = short if self.other is None else as_tensor(self.other)
        rows, norms = first.rows[top : top + _ROWS], first.norms[top : top + _ROWS]
        for left in range(0, len(second.rows), _COLUMNS):
            columns, widths = second.rows[left : left + _COLUMNS], second.norms[left : left + _COLUMNS]
            progress(len(rows) * len(columns))
            above = once and left + len(columns) <= top + 1
            if above or float(widths[0] - norms[-1]) > reach or float(norms[0] - widths[-1]) > reach:
                continue
            product = torch.mm(rows, columns.t(), out=products[: len(rows), : len(columns)])
            least = 0.5 * (norms.square() + widths[0].square() - reach * reach)
            least = least - margin * (norms * widths[-1] + least.abs()) - 1e-6
            hit = torch.ge(product, least.to(self.dtype)[:, None], out=hits[: len(rows), : len(columns)])
            i, j = _found(hit)
            if once:
                later = top + i < left + j
                i, j = i[later], j[later]
            yield from _within(short, others, first.order[top + i], second.order[left + j], reach)


def _found(hit: Tensor) -> tuple[Tensor, Tensor]:
    if hit.device.type != "cpu":
        i, j = hit.nonzero(as_tuple=True)
        return i.cpu(), j.cpu()
    # numpy looks for the few that are true three times as fast.
    rows, columns = np.divmod(np.flatnonzero(hit.numpy()), hit.shape[1])
    return torch.from_numpy(rows), torch.from_numpy(columns)


def _within(
    short: Tensor, other: Tensor, first: Tensor, second: Tensor, reach: float, at_once: int = 1 << 17
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Those of the pairs that float32 finds within reach."""
    for start in range(0, len(first), at_once):
        a, b = first[start : start + at_once], second[start : start + at_once]
        near = (short[a] - other[b]).norm(dim=1) <= reach * (1 + 1e-5) + 1e-6
        a, b = a[near], b[near]
        if other is short:
            a, b = torch.minimum(a, b), torch.maximum(a, b)
        if len(a):
            yield a.numpy(), b.numpy()
