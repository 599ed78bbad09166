"""Filters of one process's places: how they are kept and multiplied, and what they are in the whole network's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.cluster.tile_stage import TileStage
from striate.cluster.wire import Wire
from striate.errors import BadInput
from striate.models.sparse.net import Stage


@dataclass
class Held:
    """A tensor that learns: this process's filters, or the filters that all processes have alike.

    Attributes:
        name: as in a network's state.
        at: its stage.
        tensor: untied filters laid out (empty where the process has no place); shared ones by bank.
        memory: what the rule remembers of each.
    """

    name: str
    at: TileStage
    tensor: Tensor
    memory: Tensor

    @property
    def encodes(self) -> bool:
        """Whether these are an encoder's."""
        return self.name.endswith("encoder")

    @property
    def shared(self) -> bool:
        """Whether places share them."""
        return self.at.spec.period > 0

    @property
    def stage(self) -> Stage:
        """The process's tile as a stage of its own."""
        assert self.at.stage is not None
        return self.at.stage

    def banks(self) -> tuple[Tensor, Tensor]:
        """Which rows and columns of all banks this process's places take, in their order."""
        edges = (min(self.at.spec.period, edge) for edge in self.at.tiles.sides.filtered[1:])
        starts = (self.at.own.top, self.at.own.left)
        own = self.stage.places.banks
        rows, columns = ((first + torch.arange(n)) % edge for first, n, edge in zip(starts, own, edges))
        return rows, columns

    def operands(self, dtype: torch.dtype) -> list[Tensor]:
        """As products want them, by piece."""
        if not self.at.pieces:
            return []
        if not self.shared:
            return [piece.of(self.tensor).to(dtype) for piece in self.at.pieces]
        rows, columns = self.banks()
        return [self.stage.operand(self.tensor[rows][:, columns], dtype)]

    def filters(self, of: Tensor) -> Tensor:
        """Of this tensor or its memory: own places' filters (rows, columns, maps, size, size, channels), or all shared ones."""
        if self.shared:
            return of.clone()
        return of if self.at.stage is None else self.stage.filters(of)

    def put(self, of: Tensor, filters: Tensor) -> None:
        """The way back: the whole stage's filters into this tensor or its memory."""
        if self.shared:
            of.copy_(filters)
        elif self.at.stage is not None:
            own = self.at.own
            self.stage.places.lay_out(filters[own.top : own.bottom, own.left : own.right].to(of), of)


def held(name: str, stage: TileStage, dtype: torch.dtype) -> Held:
    """A stage's encoder or decoder, all zero."""
    spec, sides = stage.spec, stage.tiles.sides
    if spec.period:
        banks = (min(spec.period, edge) for edge in sides.filtered[1:])
        tensor = torch.zeros(*banks, spec.maps, spec.size, spec.size, sides.seen[0], dtype=dtype)
    elif stage.stage is None:
        tensor = torch.zeros(0, 0, spec.maps, spec.size, spec.size, sides.seen[0], dtype=dtype)
    else:
        tensor = stage.stage.places.empty_operand(dtype, "cpu")
    return Held(name, stage, tensor, torch.zeros_like(tensor))


def known(state: Mapping[str, Tensor], name: str, one: Held) -> Tensor:
    """A whole network's tensor of a name.

    Raises:
        BadInput: it is of another network.
    """
    sides = one.at.tiles.sides
    edges = (min(one.at.spec.period, edge) if one.shared else edge for edge in sides.filtered[1:])
    wanted = (*edges, one.at.spec.maps, one.at.spec.size, one.at.spec.size, sides.seen[0])
    if name not in state or tuple(state[name].shape) != wanted:
        found = tuple(state[name].shape) if name in state else "nothing"
        raise BadInput(f"the checkpoint holds {found} for {name}, this network needs {wanted}")
    return state[name]


def whole(one: Held, of: Tensor, wire: Wire) -> Tensor | None:
    """Everybody's filters put together on the first process."""
    own = one.filters(of)
    if one.shared or wire.count == 1:
        return own if wire.rank == 0 else None
    tiles, a_place = one.at.tiles.filtered, one.at.spec.maps * one.at.tiles.sides.fan_in
    received = wire.received
    empty = own.new_empty(0)
    outgoing = [own.reshape(-1) if to == 0 else empty for to in range(wire.count)]
    came = wire.exchange(outgoing, [tile.area * a_place if wire.rank == 0 else 0 for tile in tiles]).wait()
    # What a checkpoint moves is no part of a step.
    wire.received = received
    if wire.rank:
        return None
    out = own.new_empty(*one.at.tiles.sides.filtered[1:], *own.shape[2:])
    for tile, filters in zip(tiles, came):
        if tile.area:
            out[tile.top : tile.bottom, tile.left : tile.right] = filters.view(tile.height, tile.width, *own.shape[2:])
    return out
