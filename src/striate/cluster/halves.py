"""Half-steps of Gibbs sampling between processes: a layer's activities from the other's, and on to whoever needs them.

A half-step goes through a batch part by part: wait for a part's activities, multiply, draw, send; what was sent is waited for
in the next half-step, while its later parts are still on their way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.cluster.bits import pack, unpack
from striate.cluster.copies import Copies
from striate.cluster.slices import length
from striate.cluster.wire import Arrival, Wire

Done = Callable[[], None]
"""Waits until a part's activities are where they are needed; to be called any number of times."""


def at_once() -> None:
    """For what is there already."""


@dataclass(frozen=True)
class Layer:
    """One layer as a process sees it.

    Attributes:
        owners: whose units are whose, by rank.
        own: this process's.
        place: its rank among them.
        bias: of its own units; changed in place by updates.
        scale: what to divide the bias by (sigma of its own units, changed in place too), or None for binary units.
        binary: whether means are probabilities.
    """

    owners: Sequence[slice]
    place: int
    bias: Tensor
    scale: Tensor | None = None
    binary: bool = True

    @property
    def own(self) -> slice:
        """This process's units."""
        return self.owners[self.place]

    @property
    def size(self) -> int:
        """How many units there are in all."""
        return int(self.owners[-1].stop)


class Halves:
    """Both directions.

    Args:
        copies: the weights held.
        hidden: the hidden layer.
        visible: the visible layer.
        wire: to the other processes.
        dtype: the products' operands, which is also how means travel.
    """

    def __init__(self, copies: Copies, hidden: Layer, visible: Layer, wire: Wire, dtype: torch.dtype) -> None:
        self._copies, self._wire, self._dtype = copies, wire, dtype
        self._profile = wire.profile
        self.hidden, self.visible = hidden, visible
        self._alone = len(hidden.owners) == 1

    def to_hidden(
        self, seen: Tensor, means: Tensor, parts: Sequence[slice], ready: Sequence[Done], then: Callable[[slice], Done]
    ) -> list[Done]:
        """Means of own hidden units from rows of visible activities (all, or own where no rows are held)."""
        up = self._copies.up
        if up is not None:
            return self._multiplied(seen, up.t(), means, self.hidden, parts, ready, then)
        assert self._copies.down is not None
        return self._summed(seen, self._copies.down.t(), means, self.hidden, parts, ready, then)

    def to_visible(
        self, states: Tensor, means: Tensor, parts: Sequence[slice], ready: Sequence[Done], then: Callable[[slice], Done]
    ) -> list[Done]:
        """Means of own visible units, in units of sigma, from rows of hidden states (all, or own where no columns are held)."""
        down = self._copies.down
        if down is not None:
            return self._multiplied(states, down, means, self.visible, parts, ready, then)
        assert self._copies.up is not None
        return self._summed(states, self._copies.up, means, self.visible, parts, ready, then)

    def _multiplied(
        self,
        given: Tensor,
        weights: Tensor,
        means: Tensor,
        layer: Layer,
        parts: Sequence[slice],
        ready: Sequence[Done],
        then: Callable[[slice], Done],
    ) -> list[Done]:
        following = []
        for part, done in zip(parts, ready):
            self._finish(self._product(given[part], weights, done), means[part], layer)
            following.append(then(part))
        return following

    def _summed(
        self,
        given: Tensor,
        weights: Tensor,
        means: Tensor,
        layer: Layer,
        parts: Sequence[slice],
        ready: Sequence[Done],
        then: Callable[[slice], Done],
    ) -> list[Done]:
        """Inputs that are sums over processes: everybody sends every owner its part of theirs; added up by rank."""
        sent: list[Arrival] = []
        for part, done in zip(parts, ready):
            product = self._product(given[part], weights, done)
            with self._profile.part("packing"):
                outgoing = [product[:, units].reshape(-1) for units in layer.owners]
            sent.append(self._wire.exchange(outgoing, [length(part) * length(layer.own)] * len(layer.owners)))
        following = []
        for part, arrival in zip(parts, sent):
            pieces = arrival.wait()
            with self._profile.part("packing"):
                total = pieces[0].to(means.dtype, copy=True)
                for piece in pieces[1:]:
                    total += piece.to(means.dtype)
            self._finish(total.view(length(part), -1), means[part], layer)
            following.append(then(part))
        return following

    def _product(self, given: Tensor, weights: Tensor, ready: Done) -> Tensor:
        ready()
        with self._profile.part("products"):
            return torch.mm(given, weights)

    def _finish(self, inputs: Tensor, means: Tensor, layer: Layer) -> None:
        with self._profile.part("products"):
            # Not one mixed-format call: those take torch's slow path.
            means.copy_(inputs).add_(layer.bias if layer.scale is None else layer.bias / layer.scale)
            if layer.binary:
                means.sigmoid_()

    def tell(self, own: Tensor, out: Tensor, layer: Layer, bits: bool) -> Done:
        """Activities of own units, (rows, own), into ``out``: everybody's if it is as wide as the layer, or own alone.

        Args:
            own: the activities; booleans, or floats to be sent in the products' format.
            out: (rows, units).
            layer: whose.
            bits: whether ``own`` is boolean.
        """
        if self._alone or out.shape[1] != layer.size:
            out.copy_(own)
            return at_once
        rows = len(own)
        with self._profile.part("packing"):
            out[:, layer.own].copy_(own)
            message = pack(own) if bits else own.to(self._dtype).reshape(-1)
        counts = [rows * length(units) for units in layer.owners]
        arrival = self._wire.gather(message, [-(-count // 8) for count in counts] if bits else counts)
        left = [arrival]

        def done() -> None:
            if not left:
                return
            pieces = left.pop().wait()
            with self._profile.part("packing"):
                for rank, (units, piece) in enumerate(zip(layer.owners, pieces)):
                    if rank == layer.place:
                        continue
                    if bits:
                        unpack(piece, out[:, units])
                    else:
                        out[:, units].copy_(piece.view(rows, -1))

        return done
