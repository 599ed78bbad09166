"""Borders of tiles on their way: what a process needs of its neighbours' maps, and what it adds to theirs.

`fetched` completes a process's tile to the rectangle that it wants; `given` is the way back: every process's rectangle is added
up where the places are owned. Each is the other's gradient. Both come in two halves, so that work that needs no border is
done while borders travel; on the way back the engine takes nodes in the reverse order, and the same work hides the borders of
gradients. Every process takes these steps in one order, which is what matches its messages with the others'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from striate.cluster.tiles import Rect, strips
from striate.cluster.wire import Arrival, Wire


class Borders:
    """Who has what of a layer and who wants what, for one process.

    Args:
        wire: to the others.
        own: everybody's tile, by rank; together the whole layer.
        want: everybody's rectangle; it may reach beyond the layer, where there are zeros.
    """

    def __init__(self, wire: Wire, own: Sequence[Rect], want: Sequence[Rect]) -> None:
        self.wire, self.own, self.want = wire, own[wire.rank], want[wire.rank]
        self.sent, self.got = strips(own, want, wire.rank)
        self._inside = self.own & self.want

    @property
    def places(self) -> tuple[int, int]:
        """Places that come from others when maps are fetched, and when they are given."""
        return sum(one.area for one in self.got), sum(one.area for one in self.sent)

    def send_tile(self, tile: Tensor) -> Arrival:
        """Begin to fetch: own maps (height, width, ...) go to whoever wants them."""
        return self._exchange(tile, self.own, self.sent, self.got)

    def send_rectangle(self, rectangle: Tensor) -> Arrival:
        """Begin to give: parts of a rectangle go to their owners."""
        return self._exchange(rectangle, self.want, self.got, self.sent)

    def rectangle(self, tile: Tensor, arrival: Arrival) -> Tensor:
        """End of fetching: the rectangle (height, width, ...), of own maps and what came."""
        wanted = (self.want.height, self.want.width, *tile.shape[2:])
        covered = self._inside.area + sum(one.area for one in self.got)
        out = tile.new_empty(wanted) if covered == self.want.area else tile.new_zeros(wanted)
        out[self._inside.within(self.want)] = tile[self._inside.within(self.own)]
        for place, came in zip(self.got, arrival.wait()):
            if place.area:
                out[place.within(self.want)] = came.view(place.height, place.width, *tile.shape[2:])
        return out

    def tile(self, rectangle: Tensor) -> Tensor:
        """A process's own part of a rectangle, zeros where it wants nothing of its own; a copy."""
        out = rectangle.new_zeros(self.own.height, self.own.width, *rectangle.shape[2:])
        out[self._inside.within(self.own)] = rectangle[self._inside.within(self.want)]
        return out

    def add(self, tile: Tensor, arrival: Arrival) -> Tensor:
        """End of giving: what came is added to the tile, in place, by rank."""
        for place, came in zip(self.sent, arrival.wait()):
            if place.area:
                tile[place.within(self.own)].add_(came.view(place.height, place.width, *tile.shape[2:]))
        return tile

    def _exchange(self, maps: Tensor, corner: Rect, out: Sequence[Rect], come: Sequence[Rect]) -> Arrival:
        a_place = math.prod(maps.shape[2:])
        with self.wire.profile.part("packing"):
            outgoing = [maps[one.within(corner)].reshape(-1) if one.area else maps.new_empty(0) for one in out]
        return self.wire.exchange(outgoing, [one.area * a_place for one in come])


class _Slot:
    """What the two halves of an exchange share: messages on their way there, and later those of errors on their way back."""

    def __init__(self, borders: Borders) -> None:
        self.borders = borders
        self.there: Any = None
        self.back: Any = None


def fetched(tile: Tensor, borders: Borders) -> tuple[Tensor, Callable[[], Tensor]]:
    """Begin to complete a tile (height, width, maps, batch); differentiable.

    Returns:
        The tile, for work that needs no border, and what waits for the rectangle.
    """
    slot = _Slot(borders)
    sent = _SendTile.apply(tile, slot)
    return sent, lambda: _Complete.apply(sent, slot)


def given(rectangle: Tensor, borders: Borders) -> Callable[[], Tensor]:
    """Begin to add rectangles up where their places are owned; differentiable. Returns what waits for the tile."""
    slot = _Slot(borders)
    own = _SendRectangle.apply(rectangle, slot)
    return lambda: _AddUp.apply(own, slot)


class _SendTile(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tile: Tensor, slot: _Slot) -> Tensor:
        ctx.slot = slot
        slot.there = slot.borders.send_tile(tile)
        return tile.view_as(tile)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        slot = ctx.slot
        if slot.back is None:
            # Nothing of the rectangle was used here; others may have used what is owned here.
            want = slot.borders.want
            slot.back = slot.borders.send_rectangle(above[0].new_zeros(want.height, want.width, *above[0].shape[2:]))
        return slot.borders.add(above[0].clone(), slot.back), None


class _Complete(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tile: Tensor, slot: _Slot) -> Tensor:
        ctx.slot = slot
        return slot.borders.rectangle(tile, slot.there)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        slot = ctx.slot
        slot.back = slot.borders.send_rectangle(above[0])
        return slot.borders.tile(above[0]), None


class _SendRectangle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rectangle: Tensor, slot: _Slot) -> Tensor:
        ctx.slot = slot
        slot.there = slot.borders.send_rectangle(rectangle)
        return slot.borders.tile(rectangle)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        slot = ctx.slot
        return slot.borders.rectangle(above[0], slot.back), None


class _AddUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tile: Tensor, slot: _Slot) -> Tensor:
        ctx.slot = slot
        ctx.mark_dirty(tile)
        return slot.borders.add(tile, slot.there)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        slot = ctx.slot
        slot.back = slot.borders.send_tile(above[0])
        return above[0], None
