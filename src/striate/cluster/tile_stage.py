"""One process's part of a stage: its own places' filters, and the stage's objective with borders in place of a whole picture.

The half-steps are the model's own (`autoencode`, `pool`, `blurred`, `divided`); here they are arranged around what must travel.
Places that see nothing but the process's own maps are worked out while borders are on their way, the others when they are here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from striate.cluster.borders import Borders, fetched, given
from striate.cluster.tiles import NOTHING, Rect, StageTiles
from striate.cluster.wire import Wire
from striate.models.sparse.filtering import autoencode, encode
from striate.models.sparse.net import Stage, Terms
from striate.models.sparse.places import Places
from striate.models.sparse.responses import band, blurred, divided, gaussian, pool


@dataclass(frozen=True)
class Piece:
    """A rectangle of a tile's blocks of places, multiplied at once.

    Attributes:
        blocks: in the tile's rows and columns of blocks.
        places: the piece's geometry.
        inputs: what it sees, in the tile's fields.
        interior: whether the process owns all of that.
    """

    blocks: Rect
    places: Places
    inputs: Rect
    interior: bool

    def of(self, held: Tensor) -> Tensor:
        """Its part of laid-out filters; a view."""
        return held[self.blocks.top : self.blocks.bottom, self.blocks.left : self.blocks.right]


class TileStage:
    """One process's places of one stage.

    Args:
        tiles: the stage cut up.
        wire: to the others.
        tied_decoder: whether the encoder rebuilds.
        lowest: whether it sees the picture itself, which every process has as a whole: nothing of it need travel.

    Attributes:
        stage: the tile as a stage of its own, whose picture is all that its filters see; None where there is no place in it.
        pieces: the tile's places; what is interior comes first.
    """

    def __init__(self, tiles: StageTiles, wire: Wire, tied_decoder: bool, lowest: bool) -> None:
        rank = wire.rank
        self.tiles, self.spec, self.lowest = tiles, tiles.sides.stage, lowest
        self.own, self.fields, self._given = tiles.filtered[rank], tiles.fields[rank], tiles.output[rank]
        self.stage = Stage(_own_sides(tiles, rank), tied_decoder) if self.own.area else None
        self.below = Borders(wire, tiles.seen, tiles.fields)
        self.filters = Borders(wire, tiles.filtered, tiles.pools)
        self.norm = _Norm(tiles, wire) if self.spec.norm and tiles.pooled[rank].area else None
        self.pieces = self._cut(tiles.seen[rank])

    def _cut(self, seen: Rect) -> list[Piece]:
        if self.stage is None:
            return []
        places = self.stage.places
        whole = Rect(0, places.blocks[0], 0, places.blocks[1])
        # Nothing travels, or filters are shared and laid out together.
        if self.lowest or self.below.places == (0, 0) or self.spec.period:
            return [_piece(places, whole, interior=self.below.places == (0, 0) and _inside(places, whole, self.fields, seen))]
        inner = _interior(places, self.fields, seen)
        if not inner.area:
            return [_piece(places, whole, interior=False)]
        around = (
            Rect(0, inner.top, 0, whole.right),
            Rect(inner.bottom, whole.bottom, 0, whole.right),
            Rect(inner.top, inner.bottom, 0, inner.left),
            Rect(inner.top, inner.bottom, inner.right, whole.right),
        )
        return [_piece(places, inner, True), *(_piece(places, one, False) for one in around if one.area)]

    def terms(
        self,
        x: Tensor,
        picture: Tensor | None,
        encoder: list[Tensor],
        decoder: list[Tensor],
        pool_floor: float,
        onward: bool = True,
    ) -> tuple[Terms, Tensor]:
        """This process's share of the stage's objective, and its tile of what the stage gives on; differentiable.

        Args:
            x: its tile of what the stage sees, (height, width, channels, batch).
            picture: of the lowest stage, all that its filters see; None elsewhere, where the others are asked.
            encoder: laid out, by piece, of x's dtype.
            decoder: the same.
            pool_floor: the paper's epsilon.
            onward: whether a stage above wants what is given on; else it is not normalised.
        """
        count = x.shape[3]

        def both(number: int, inputs: Tensor) -> tuple[Tensor, Tensor]:
            return autoencode(inputs, encoder[number], decoder[number], self.pieces[number].places)

        x, made = self._by_piece(x, picture, both)
        rebuilt = given(self._overlaid([one[1] for one in made], x), self.below)
        h = self._joined([one[0] for one in made], x)
        h, complete = fetched(h.float() if h.dtype == torch.bfloat16 else h, self.filters)
        wrong = rebuilt() - x
        pooled, out = self._respond(complete(), pool_floor, onward)
        energy = x.detach().float().square().sum() / count
        return Terms(wrong.square().sum() / count, pooled.sum() / count, energy), out

    def activity(self, x: Tensor, picture: Tensor | None, encoder: list[Tensor], pool_floor: float) -> Tensor:
        """Its tile of what the stage gives on, without rebuilding."""

        def one(number: int, inputs: Tensor) -> Tensor:
            return encode(inputs, encoder[number], self.pieces[number].places)

        x, made = self._by_piece(x, picture, one)
        h = self._joined(made, x)
        _, complete = fetched(h.float() if h.dtype == torch.bfloat16 else h, self.filters)
        return self._respond(complete(), pool_floor)[1]

    def _by_piece(self, x: Tensor, picture: Tensor | None, work: Callable[[int, Tensor], Any]) -> tuple[Tensor, list[Any]]:
        """Every piece's work: what needs no border while borders travel, then the rest."""
        if picture is not None:
            return x, [work(number, picture[_at(piece.inputs)]) for number, piece in enumerate(self.pieces)]
        x, complete = fetched(x, self.below)
        down, along = self.fields.top - self.below.own.top, self.fields.left - self.below.own.left
        made = [
            work(number, x[_at(piece.inputs.moved(down, along))]) for number, piece in enumerate(self.pieces) if piece.interior
        ]
        rectangle = complete()
        made += [work(number, rectangle[_at(one.inputs)]) for number, one in enumerate(self.pieces) if not one.interior]
        return x, made

    def _joined(self, made: list[Tensor], x: Tensor) -> Tensor:
        """Answers of all pieces, (rows, columns, maps, batch)."""
        if len(made) == 1:
            return made[0]
        if not made:
            return x.new_zeros(self.own.height, self.own.width, self.spec.maps, x.shape[3]).requires_grad_(
                torch.is_grad_enabled()
            )
        inner = self.pieces[0].blocks
        places = dict(zip([_side(inner, piece.blocks) for piece in self.pieces], made))
        middle = [places[side] for side in ("left", "inner", "right") if side in places]
        rows = [torch.cat(middle, dim=1) if len(middle) > 1 else middle[0]]
        return torch.cat(
            [*(places[s] for s in ("top",) if s in places), *rows, *(places[s] for s in ("bottom",) if s in places)]
        )

    def _overlaid(self, made: list[Tensor], x: Tensor) -> Tensor:
        """What all pieces rebuild, added up over the tile's fields."""
        if len(made) == 1:
            return made[0]
        if not made:
            exact = torch.promote_types(x.dtype, torch.float32)
            empty = x.new_zeros(self.fields.height, self.fields.width, *x.shape[2:], dtype=exact)
            return empty.requires_grad_(torch.is_grad_enabled())
        return _Overlay.apply(self.fields, [piece.inputs for piece in self.pieces], *made)

    def _respond(self, h: Tensor, pool_floor: float, onward: bool = True) -> tuple[Tensor, Tensor]:
        stage = self.spec
        if not self.filters.want.area:
            # Others pool what is owned here: a sum of nothing keeps their errors' way back.
            out = h.new_zeros(self._given.height, self._given.width, *h.shape[2:]).requires_grad_(h.requires_grad)
            return h.sum(), out
        pooled = pool(h, stage.pool, stage.pool_stride, stage.pool_maps, pool_floor, group=stage.pool_group)
        return pooled, self.norm(pooled) if onward and self.norm is not None else pooled


class _Norm:
    """Local contrast normalisation of a tile: of its neighbours' maps only their means over maps are needed."""

    def __init__(self, tiles: StageTiles, wire: Wire) -> None:
        stage, rank = tiles.sides.stage, wire.rank
        self._floor, self._window = stage.norm_floor, gaussian(stage.norm, torch.float64)
        self._edges = tiles.sides.pooled[1:]
        self._pooled, self._inner = tiles.pooled[rank], tiles.inner[rank]
        self._means = Borders(wire, tiles.pooled, tiles.windows(tiles.pooled))
        self._squares = Borders(wire, tiles.pooled, tiles.windows(tiles.inner))

    def __call__(self, x: Tensor) -> Tensor:
        """(height, width, maps, batch) of own pools to those of own places of the output."""
        centred = x - self._blurred(x.mean(dim=2, keepdim=True), self._means, self._pooled)
        spread = self._blurred(centred.square().mean(dim=2, keepdim=True), self._squares, self._inner)
        return divided(centred[_at(self._inner.moved(-self._pooled.top, -self._pooled.left))], spread, self._floor)

    def _blurred(self, means: Tensor, borders: Borders, around: Rect) -> Tensor:
        _, complete = fetched(means, borders)
        want, window = borders.want, self._window.to(means.device, means.dtype)
        rows = band(self._edges[0], window)[around.top : around.bottom, want.top : want.bottom]
        columns = band(self._edges[1], window)[around.left : around.right, want.left : want.right]
        return blurred(complete(), rows, columns)


class _Overlay(torch.autograd.Function):
    """Adds rectangles up where they overlap."""

    @staticmethod
    def forward(ctx: Any, whole: Rect, places: list[Rect], *made: Tensor) -> Tensor:
        ctx.places = places
        out = made[0].new_zeros(whole.height, whole.width, *made[0].shape[2:])
        for place, one in zip(places, made):
            out[_at(place)].add_(one)
        return out

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(above[0][_at(place)] for place in ctx.places)


def _own_sides(tiles: StageTiles, rank: int) -> Any:
    """A tile as a stage whose picture is all that its filters see, padding included."""
    whole, own, fields = tiles.sides, tiles.filtered[rank], tiles.fields[rank]
    shape = (whole.stage.maps, own.height, own.width)
    seen = (whole.seen[0], fields.height, fields.width)
    return replace(whole, stage=replace(whole.stage, pad=0), seen=seen, filtered=shape)


def _piece(places: Places, blocks: Rect, interior: bool) -> Piece:
    """A rectangle of blocks as a layer of its own."""
    rows = min(blocks.bottom * places.block[0], places.grid[0]) - blocks.top * places.block[0]
    columns = min(blocks.right * places.block[1], places.grid[1]) - blocks.left * places.block[1]
    high, wide = ((count - 1) * places.stride + places.size for count in (rows, columns))
    top, left = (first * block * places.stride for first, block in zip((blocks.top, blocks.left), places.block))
    inputs = Rect(top, top + high, left, left + wide)
    return Piece(blocks, replace(places, shape=(places.shape[0], high, wide)), inputs, interior)


def _inside(places: Places, blocks: Rect, fields: Rect, seen: Rect) -> bool:
    inputs = _piece(places, blocks, False).inputs.moved(fields.top, fields.left)
    return inputs & seen == inputs


def _interior(places: Places, fields: Rect, seen: Rect) -> Rect:
    """The blocks that see nothing but own places."""
    rows = [b for b in range(places.blocks[0]) if _owned(b, 0, places, fields.top, seen.top, seen.bottom)]
    columns = [b for b in range(places.blocks[1]) if _owned(b, 1, places, fields.left, seen.left, seen.right)]
    if not rows or not columns:
        return NOTHING
    return Rect(rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)


def _owned(block: int, axis: int, places: Places, corner: int, first: int, stop: int) -> bool:
    """Whether all places of a row or column of blocks see rows or columns from first to before stop only."""
    size = places.block[axis]
    last = min((block + 1) * size, places.grid[axis]) - 1
    return corner + block * size * places.stride >= first and corner + last * places.stride + places.size <= stop


def _side(inner: Rect, blocks: Rect) -> str:
    if blocks == inner:
        return "inner"
    if blocks.bottom <= inner.top or blocks.top >= inner.bottom:
        return "top" if blocks.bottom <= inner.top else "bottom"
    return "left" if blocks.right <= inner.left else "right"


def _at(one: Rect) -> tuple[slice, slice]:
    return slice(one.top, one.bottom), slice(one.left, one.right)
