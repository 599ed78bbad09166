"""The weights a process holds, how they learn, and how the processes' shares make one matrix again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from striate.cluster.layout import Layout
from striate.cluster.slices import length
from striate.cluster.wire import Wire
from striate.train.updates import Rates, WeightUpdate


class Copies:
    """``rows``, of own hidden units to all visible ones; ``columns``, of all hidden units to own visible ones; or both.

    Attributes:
        rows: what learns them, in the shares of hidden units; None if not held.
        columns: likewise, in the shares of visible units.
        up: what hidden inputs are multiplied with, (own hidden, visible) in the products' format, or None.
        down: what visible inputs are multiplied with, (hidden, own visible), or None.
        twice: whether two processes learn most weights.
    """

    def __init__(
        self,
        weights: Tensor,
        hidden: Sequence[slice],
        visible: Sequence[slice],
        wire: Wire,
        layout: Layout,
        dtype: torch.dtype,
    ) -> None:
        self._wire, self._mode = wire, layout.mode
        self._hidden, self._visible = hidden, visible
        self._alone = len(hidden) == 1
        place = 0 if self._alone else wire.rank
        self._hid, self._vis = hidden[place], visible[place]
        self._exact = torch.float64 if dtype == torch.float64 else torch.float32
        self.twice = layout.mode == "both" and not self._alone
        held = weights.to(self._exact)
        combine = wire.sum_everywhere if layout.mode == "data" and wire.count > 1 else None
        self.rows: WeightUpdate | None = None
        self.columns: WeightUpdate | None = None
        if self._alone or layout.mode != "visible":
            self.rows = WeightUpdate(held[self._hid].clone(), dtype, apart=self.twice, combine=combine)
        if not self._alone and layout.mode in ("both", "visible"):
            self.columns = WeightUpdate(held[:, self._vis].clone(), dtype, apart=self.twice)
        self.up = None if self.rows is None else self.rows.operand
        self.down = self.up if self._alone else None if self.columns is None else self.columns.operand
        if layout.mode == "each-update" and not self._alone:
            self.down = held[:, self._vis].to(dtype).clone()

    @property
    def wide(self) -> bool:
        """Whether statistics need all hidden units' activities."""
        return self.columns is not None

    @property
    def _learned(self) -> WeightUpdate:
        """The copy that counts where there are two."""
        found = self.columns or self.rows
        assert found is not None
        return found

    def apply(
        self,
        hidden: Tensor,
        visible: Tensor,
        scale: float,
        rates: Rates,
        decay: float,
        arrived: Callable[[], None],
        overlap: Tensor | None,
    ) -> None:
        """One update of everything held, from rows of both phases, as `WeightUpdate.apply` takes them.

        Args:
            hidden: (rows, all hidden units, or own where no columns learn).
            visible: (rows, all visible units, or own where no rows are held).
            scale: 1 / batch.
            rates: this step's.
            decay: weight decay.
            arrived: fills what is missing of the chains' hidden activities.
            overlap: if given, filled for all visible units.
        """
        arrived()
        with self._wire.profile.part("updates"):
            if self.rows is not None:
                own = hidden[:, self._hid] if self.wide else hidden
                partly = overlap if self.columns is None else None
                self.rows.apply(own, visible, scale, rates, decay, partly)
            if self.columns is not None:
                own = visible if self.rows is None else visible[:, self._vis]
                part = None if overlap is None else overlap.new_empty(own.shape[1])
                self.columns.apply(hidden, own, scale, rates, decay, part)
                if overlap is not None and part is not None:
                    joined = self._wire.gather(part, [length(units) for units in self._visible]).wait()
                    overlap.copy_(torch.cat(joined))
        if overlap is not None and self.columns is None and not self._alone:
            self._wire.total(overlap)
        if self._mode == "each-update" and not self._alone:
            self._send_down()

    def _send_down(self) -> None:
        """Everybody's new weights to the owners of the visible units at their other end."""
        assert self.up is not None and self.down is not None
        with self._wire.profile.part("packing"):
            outgoing = [self.up[:, units].reshape(-1) for units in self._visible]
        pieces = self._wire.exchange(outgoing, [length(units) * length(self._vis) for units in self._hidden]).wait()
        with self._wire.profile.part("packing"):
            for units, piece in zip(self._hidden, pieces):
                self.down[units].copy_(piece.view(length(units), -1))

    def reconcile(self) -> Tensor:
        """The columns overwrite the rows; gives the largest difference there was beside the weights' root mean square."""
        assert self.rows is not None and self.columns is not None
        # One process's blocks at a time: this is a second copy of the weights otherwise.
        outgoing = [self.columns.weights[units].reshape(-1) for units in self._hidden]
        pieces = self._wire.exchange(outgoing, [length(units) * length(self._hid) for units in self._visible]).wait()
        drift = self.rows.weights.new_zeros(())
        for units, piece in zip(self._visible, pieces):
            block = self.rows.weights[:, units]
            true = piece.view(length(self._hid), length(units))
            drift = torch.maximum(drift, (block - true).abs().max())
            block.copy_(true)
        self.rows.refresh()
        self._wire.most(drift)
        squares = self._wire.total(torch.linalg.vector_norm(self.columns.weights).double().square())
        count = self._hidden[-1].stop * self._visible[-1].stop
        return drift / (squares / count).sqrt().clamp_min(1e-30)

    def squares(self) -> tuple[Tensor, Tensor]:
        """Sums of squares of this process's share of the weights and of their last change."""
        learned = self._learned
        return torch.linalg.vector_norm(learned.weights) ** 2, torch.linalg.vector_norm(learned.velocity) ** 2

    def collect(self) -> dict[str, Tensor]:
        """The whole weights and velocity on the first process, nothing on the others; rows' copies too where they differ."""
        found = self._collected(self._learned)
        if self.twice:
            rows = self._collected(self.rows, by_rows=True)
            if self._wire.rank == 0 and any(not torch.equal(rows[name], found[name]) for name in found):
                found |= {f"rows.{name}": tensor for name, tensor in rows.items()}
        return found

    def _collected(self, update: WeightUpdate | None, by_rows: bool = False) -> dict[str, Tensor]:
        assert update is not None
        tensors = {"weights": update.weights, "velocity.weights": update.velocity}
        if self._alone:
            return {} if self._wire.rank else {name: tensor.clone() for name, tensor in tensors.items()}
        by_rows = by_rows or self.columns is None
        shapes = [
            (length(hidden), self._visible[-1].stop) if by_rows else (self._hidden[-1].stop, length(visible))
            for hidden, visible in zip(self._hidden, self._visible)
        ]
        found = {}
        for name, tensor in tensors.items():
            nothing = tensor.new_empty(0)
            outgoing = [tensor.reshape(-1) if rank == 0 else nothing for rank in range(self._wire.count)]
            lengths = [down * across if self._wire.rank == 0 else 0 for down, across in shapes]
            pieces = self._wire.exchange(outgoing, lengths).wait()
            if self._wire.rank == 0:
                found[name] = torch.cat([piece.view(shape) for piece, shape in zip(pieces, shapes)], dim=0 if by_rows else 1)
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over this process's share of what `collect` gave, whole on every process."""
        for update, part, prefix in (
            (self.rows, (self._hid, slice(None)), "rows." if self.twice and "rows.weights" in state else ""),
            (self.columns, (slice(None), self._vis), ""),
        ):
            if update is not None:
                update.weights.copy_(state[f"{prefix}weights"][part])
                update.velocity.copy_(state[f"{prefix}velocity.weights"][part])
                update.refresh()
        if self._mode == "each-update" and not self._alone and self.down is not None:
            self.down.copy_(state["weights"][:, self._vis])
