"""The arrays of a sharded contrastive step, made once for a batch size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.cluster.slices import length


@dataclass(frozen=True)
class Widths:
    """How many units of each layer a process works out (own) and how many it needs beside them (held)."""

    own_hidden: slice
    own_visible: slice
    states: int
    statistics: int
    visible: int


class Room:
    """Arrays for the examples a process works on: ``examples`` of the ``whole`` batch, and its own chains likewise.

    Rows of the negative phase follow the data's. ``states0`` and ``states`` are the hidden states of data and chains, of all
    hidden units where the process needs them all; `own` gives its own units' columns of such an array.
    """

    def __init__(
        self,
        widths: Widths,
        examples: slice,
        whole: int,
        chains: slice | None,
        whole_chains: int | None,
        parts: int,
        dtype: torch.dtype,
        exact: torch.dtype,
        device: torch.device,
    ) -> None:
        self._widths = widths
        own_hidden, own_visible = length(widths.own_hidden), length(widths.own_visible)
        self.size, self.examples, self.whole = length(examples), examples, whole
        self.chains = examples if chains is None else chains
        self.whole_negative = whole if whole_chains is None else whole_chains
        self.num_negative = length(self.chains)
        self.parts = cut(self.size, parts)
        self.chain_parts = cut(self.num_negative, parts)
        most, both = max(self.size, self.num_negative), self.size + self.num_negative

        def empty(rows: int, units: int, kind: torch.dtype) -> Tensor:
            return torch.empty(rows, units, dtype=kind, device=device)

        self.visible = empty(both, widths.visible, dtype)
        self.hidden = empty(both, widths.statistics, dtype)
        self.v0 = empty(self.size, own_visible, exact)
        self.v_mean = empty(most, own_visible, exact)
        self.h_mean = empty(self.size, own_hidden, exact)
        self.chain_mean = self.h_mean if chains is None else empty(self.num_negative, own_hidden, exact)
        self.states0 = empty(self.size, widths.states, dtype)
        self.states = empty(self.num_negative, widths.states, dtype)
        self.activity = torch.empty(own_hidden, dtype=exact, device=device)
        self._coins = torch.empty(most * max(own_hidden, own_visible), device=device)
        self.entered: Callable[[], None] = _nothing
        """Completes the rows of statistics; to be called before they are used."""

    def own(self, hidden: Tensor) -> Tensor:
        """The columns of this process's hidden units."""
        return hidden if hidden.shape[1] == length(self._widths.own_hidden) else hidden[:, self._widths.own_hidden]

    def own_visible(self, visible: Tensor) -> Tensor:
        """The columns of this process's visible units."""
        return visible if visible.shape[1] == length(self._widths.own_visible) else visible[:, self._widths.own_visible]

    def coins(self, part: slice, units: slice) -> Tensor:
        """Room for draws, (part, units) float32."""
        return self._coins[: length(part) * length(units)].view(length(part), length(units))


def cut(size: int, parts: int) -> list[slice]:
    """At most so many pieces, none of them empty."""
    step = -(-size // min(parts, size)) if size else 1
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _nothing() -> None:
    """For statistics that are complete."""
