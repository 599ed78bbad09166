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
        up, down = self._copies.up, self._copies.down
        weights = down if up is None else up
        assert weights is not None
        return self._half_step(seen, weights.t(), up is None, means, self.hidden, parts, ready, then)

    def to_visible(
        self, states: Tensor, means: Tensor, parts: Sequence[slice], ready: Sequence[Done], then: Callable[[slice], Done]
    ) -> list[Done]:
        """Means of own visible units, in units of sigma, from rows of hidden states (all, or own where no columns are held)."""
        up, down = self._copies.up, self._copies.down
        weights = up if down is None else down
        assert weights is not None
        return self._half_step(states, weights, down is None, means, self.visible, parts, ready, then)

    def _half_step(
        self,
        given: Tensor,
        weights: Tensor,
        partly: bool,
        means: Tensor,
        layer: Layer,
        parts: Sequence[slice],
        ready: Sequence[Done],
        then: Callable[[slice], Done],
    ) -> list[Done]:
        """Part by part: wait, multiply, finish. Inputs that are given ``partly`` are sums over processes, sent before that."""

        def finish(part: slice, inputs: Tensor) -> Done:
            self._finish(inputs, means[part], layer)
            return then(part)

        products = (self._product(given[part], weights, done) for part, done in zip(parts, ready))
        if not partly:
            return [finish(part, product) for part, product in zip(parts, products)]
        sent = [self._sent(product, layer) for product in products]
        return [finish(part, self._total(arrival, part, means.dtype)) for part, arrival in zip(parts, sent)]

    def _sent(self, product: Tensor, layer: Layer) -> Arrival:
        """To every owner of units its columns."""
        with self._profile.part("packing"):
            outgoing = [product[:, units].reshape(-1) for units in layer.owners]
        return self._wire.exchange(outgoing, [len(product) * length(layer.own)] * len(layer.owners))

    def _total(self, arrival: Arrival, part: slice, dtype: torch.dtype) -> Tensor:
        """Everybody's share of own inputs, added up by rank, so that all would get the same sum."""
        pieces = arrival.wait()
        with self._profile.part("packing"):
            total = pieces[0].to(dtype, copy=True)
            for piece in pieces[1:]:
                total += piece.to(dtype)
        return total.view(length(part), -1)

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
