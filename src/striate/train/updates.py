"""The update rule: momentum and weight decay, in place, a block of rows at a time.

velocity <- momentum * velocity + rate * (statistics - decay * weights);  weights <- weights + velocity.
(Rate and decay inside the velocity, as in the released code of 2009-2012; Hinton 2010, sections 9 and 10.)

Memory traffic sets the price: the weight matrix does not fit in cache, so every pass over it costs as much as a good part
of a product at minibatch 128. Rows are therefore taken in blocks that stay in cache: the statistics' product, the decay, the
step and the bf16 copy all touch a block while it is warm. What must cross the memory bus is then 18 bytes a weight in bf16
(velocity and weights read and written, the bf16 copy written). In fp32 the product adds into the velocity itself, and one
product of all rows beats blocks (281 ms a step against 307 at blocks of 512). Benchmark: `cd-step`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# 2^18 * 3 weights are 3 MB in fp32: velocity, weights and statistics of a block fit the last-level cache share of a core.
# (Measured at 3072 x 10,000, bf16: blocks of 256 rows 54 ms, 1,000 rows 60 ms, 2,000 rows 63 ms, product alone 37 ms.)
_BLOCK_WEIGHTS = 3 << 18

# Single precision products of 2,000 rows lose a fifth of their rate on blocks of 98 rows of weights, a twentieth on these
# (5,000 x 8,000 weights: 1.92 s, 1.62 s, the bare product 1.55 s).
_LEAST_ROWS = 1536


@dataclass(frozen=True)
class Rates:
    """What a schedule gives for one step. ``learning_rate`` multiplies statistics averaged over the batch."""

    learning_rate: float
    momentum: float


class WeightUpdate:
    """Holds the velocity of one weight matrix and applies in-place updates to it and to its copy for products.

    Args:
        weights: (hidden, visible) float32, changed in place.
        dtype: the products' format; where it differs from the weights' own a copy of the weights is kept in it.
        apart: take statistics apart from the velocity and round after every operation, so that from ones and zeros, whose
            products' sums are whole numbers, the same update follows however the products are cut up: two machines that learn
            the same weight then agree on it to the last bit (Krizhevsky 2009, section 4.2).
        combine: changes a block's statistics in place to the sums over those who share a batch.
    """

    def __init__(
        self,
        weights: Tensor,
        dtype: torch.dtype = torch.float32,
        *,
        apart: bool = False,
        combine: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.weights = weights
        self.velocity = torch.zeros_like(weights)
        self.operand = weights if dtype == weights.dtype else weights.to(dtype)
        self._same_format = dtype == weights.dtype
        self._apart, self._combine = apart, combine
        self._whole = self._same_format and not apart and combine is None
        self._rows = len(weights)
        if not self._whole:
            self._prepare_blocks()

    def apply(
        self,
        hidden: Tensor,
        visible: Tensor,
        scale: float,
        rates: Rates,
        decay: float,
        overlap: Tensor | None = None,
        clip: float | None = None,
    ) -> None:
        """One update from statistics ``scale * hidden' @ visible``; rows of the negative phase carry their minus sign.

        Args:
            hidden: (rows, hidden) in the products' format.
            visible: (rows, visible) in the products' format.
            scale: 1 / batch.
            rates: this step's.
            decay: weight decay, per unit of learning rate.
            clip: most length of a row of the averaged statistics; longer ones are scaled down to it.
            overlap: if given, filled with sum over hidden units of weights times statistics, (visible,) float32: what learned
                visible deviations need of these products, for one pass over blocks that are warm.
        """
        blocks = overlap is not None or clip is not None
        if blocks and not hasattr(self, "_statistics"):
            self._prepare_blocks()
        if overlap is not None:
            overlap.zero_()
        step = self._step_whole if self._whole and not blocks else self._step_apart if self._apart else self._step_mixed
        self._clip = clip
        for start in range(0, len(self.weights), self._rows):
            block = slice(start, start + self._rows)
            step(block, hidden[:, block].t(), visible, scale, rates)
            if overlap is not None:
                rows = self._statistics[: len(self.weights[block])]
                overlap.add_(rows.mul_(self.weights[block]).sum(dim=0), alpha=scale)
            if decay and self._apart:
                scaled = self._scaled[: len(self.weights[block])]
                self.velocity[block].sub_(torch.mul(self.weights[block], rates.learning_rate * decay, out=scaled))
            elif decay:
                self.velocity[block].add_(self.weights[block], alpha=-rates.learning_rate * decay)
            self.weights[block].add_(self.velocity[block])
            if not self._same_format:
                self.operand[block].copy_(self.weights[block])

    def _prepare_blocks(self) -> None:
        """In one format whole products are quicker; blocks are made where statistics must be seen."""
        self._rows = _block_rows(self.weights)
        if self._same_format and self._apart:
            self._rows = min(len(self.weights), max(self._rows, _LEAST_ROWS))
        self._statistics = torch.empty(self._rows, self.weights.shape[1], dtype=self.weights.dtype, device=self.weights.device)
        self._product = self._statistics if self._same_format else torch.empty_like(self._statistics, dtype=self.operand.dtype)
        if self._apart:
            self._scaled = torch.empty_like(self._statistics)

    def _step_whole(self, block: slice, hidden: Tensor, visible: Tensor, scale: float, rates: Rates) -> None:
        self.velocity[block].addmm_(hidden, visible, beta=rates.momentum, alpha=rates.learning_rate * scale)

    def _step_mixed(self, block: slice, hidden: Tensor, visible: Tensor, scale: float, rates: Rates) -> None:
        statistics = self._taken(hidden, visible, scale)
        self.velocity[block].mul_(rates.momentum).add_(statistics, alpha=rates.learning_rate * scale)

    def _step_apart(self, block: slice, hidden: Tensor, visible: Tensor, scale: float, rates: Rates) -> None:
        statistics = self._taken(hidden, visible, scale)
        scaled = torch.mul(statistics, rates.learning_rate * scale, out=self._scaled[: len(statistics)])
        self.velocity[block].mul_(rates.momentum).add_(scaled)

    def _taken(self, hidden: Tensor, visible: Tensor, scale: float) -> Tensor:
        # Adding bf16 to fp32 in one call takes torch's slow path for mixed formats: copy first.
        statistics = self._statistics[: len(hidden)]
        torch.mm(hidden, visible, out=self._product[: len(hidden)])
        if not self._same_format:
            statistics.copy_(self._product[: len(hidden)])
        if self._combine is not None:
            self._combine(statistics)
        if self._clip is not None:
            torch.renorm(statistics, 2, 0, self._clip / abs(scale), out=statistics)
        return statistics

    def refresh(self) -> None:
        """Make the copy for products anew, after the weights were changed from outside."""
        if not self._same_format:
            self.operand.copy_(self.weights)


def _block_rows(weights: Tensor) -> int:
    if weights.device.type != "cpu":
        return len(weights)
    return min(len(weights), max(16, _BLOCK_WEIGHTS // weights.shape[1]))


class BiasUpdate:
    """The same rule for a bias vector, without decay."""

    def __init__(self, bias: Tensor) -> None:
        self.bias = bias
        self.velocity = torch.zeros_like(bias)

    def apply(self, statistics: Tensor, rates: Rates) -> None:
        """One update from statistics averaged over the batch, of the bias's shape."""
        self.velocity.mul_(rates.momentum).add_(statistics, alpha=rates.learning_rate)
        self.bias.add_(self.velocity)
