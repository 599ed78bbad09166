"""Maps cut into tiles, one a process: who owns which places of every layer, and what each needs of the others'.

Every layer of a locally connected network is cut on its own, as evenly as its rows and columns go, by one grid of processes.
What a process needs to work its own places out (receptive fields, pools, windows) is a rectangle of the layer below that may
reach over several neighbours; where it reaches beyond the layer there are zeros. Source: Le et al. 2012, section 4.1.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from striate.errors import BadInput
from striate.models.sparse.shapes import Sides, sides
from striate.models.sparse.spec import NetSpec


@dataclass(frozen=True)
class Rect:
    """A rectangle of places: rows from `top` to before `bottom`, columns from `left` to before `right`."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return max(0, self.bottom - self.top)

    @property
    def width(self) -> int:
        """Columns."""
        return max(0, self.right - self.left)

    @property
    def area(self) -> int:
        """Places."""
        return self.height * self.width

    def __and__(self, other: Rect) -> Rect:
        """What both hold; empty where nothing is."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Rect(top, max(top, min(self.bottom, other.bottom)), left, max(left, min(self.right, other.right)))

    def within(self, other: Rect) -> tuple[slice, slice]:
        """Rows and columns of this one, counted from the corner of another that holds it."""
        return (
            slice(self.top - other.top, self.bottom - other.top),
            slice(self.left - other.left, self.right - other.left),
        )

    def moved(self, down: int, along: int) -> Rect:
        """The same elsewhere."""
        return Rect(self.top + down, self.bottom + down, self.left + along, self.right + along)

    def windows(self, size: int, stride: int, before: int) -> Rect:
        """All that windows of a size, one a place, see of a layer that so many zeros come before; in that layer's places."""
        if not self.area:
            return NOTHING
        top, bottom = self.top * stride - before, (self.bottom - 1) * stride + size - before
        left, right = self.left * stride - before, (self.right - 1) * stride + size - before
        return Rect(top, bottom, left, right)


NOTHING = Rect(0, 0, 0, 0)


@dataclass(frozen=True)
class Grid:
    """Processes in rows and columns, by rank row by row."""

    rows: int
    columns: int

    @property
    def count(self) -> int:
        """Of processes."""
        return self.rows * self.columns

    def cut(self, height: int, width: int) -> list[Rect]:
        """Everybody's tile of a layer, by rank; of a layer smaller than the grid some own nothing."""
        return [Rect(*rows, *columns) for rows in _even(height, self.rows) for columns in _even(width, self.columns)]


def _even(size: int, count: int) -> list[tuple[int, int]]:
    """Starts and stops of pieces that differ by one at most, spread so that pieces of all layers lie over one another."""
    return list(itertools.pairwise(size * piece // count for piece in range(count + 1)))


def grid_of(count: int, height: int, width: int) -> Grid:
    """The grid whose cuts are shortest; of equal ones that with more rows, whose borders lie together in memory."""
    grids = [Grid(count // columns, columns) for columns in range(1, count + 1) if count % columns == 0]
    fitting = [grid for grid in grids if grid.rows <= height and grid.columns <= width]
    if not fitting:
        raise BadInput(f"{count} processes cannot share {height}x{width} places: start fewer")
    return min(fitting, key=lambda grid: ((grid.rows - 1) * width + (grid.columns - 1) * height, grid.columns))


@dataclass(frozen=True)
class StageTiles:
    """One stage cut up: everybody's rectangles, by rank, each in the places of its own layer.

    Attributes:
        sides: the whole stage's shapes.
        seen: of what the stage sees.
        filtered: of the filters' places.
        fields: of what it sees, all that the filters of `filtered` see.
        pooled: of the pools.
        pools: of the filters' places, all that the pools of `pooled` see.
        output: of what the stage gives.
    """

    sides: Sides
    seen: list[Rect]
    filtered: list[Rect]
    fields: list[Rect]
    pooled: list[Rect]
    pools: list[Rect]
    output: list[Rect]

    @property
    def margin(self) -> int:
        """Rows and columns of pools that contrast normalisation crops on every side."""
        return (self.sides.pooled[1] - self.sides.output[1]) // 2

    @property
    def inner(self) -> list[Rect]:
        """Everybody's pools whose normalised answers are given on."""
        return [one.moved(self.margin, self.margin) if one.area else NOTHING for one in self.output]

    def windows(self, around: list[Rect]) -> list[Rect]:
        """What windows of contrast normalisation around pools see of the pools; cut off at the borders of the layer."""
        whole = Rect(0, self.sides.pooled[1], 0, self.sides.pooled[2])
        return [one.windows(self.sides.stage.norm, 1, self.sides.stage.norm // 2) & whole for one in around]


def plan(spec: NetSpec, grid: Grid) -> list[StageTiles]:
    """Every stage cut up for a grid."""
    found: list[StageTiles] = []
    seen = grid.cut(*spec.input[1:])
    for one in sides(spec):
        found.append(_stage(one, grid, seen))
        seen = found[-1].output
    return found


def _stage(one: Sides, grid: Grid, seen: list[Rect]) -> StageTiles:
    stage = one.stage
    filtered, output = grid.cut(*one.filtered[1:]), grid.cut(*one.output[1:])
    fields = [tile.windows(stage.size, stage.stride, stage.pad // 2) for tile in filtered]
    pooled = [_grown(tile, (one.pooled[1] - one.output[1]) // 2, one) for tile in output]
    pools = [tile.windows(stage.pool, stage.pool_stride, stage.pool_pad // 2) for tile in pooled]
    return StageTiles(one, seen, filtered, fields, pooled, pools, output)


def _grown(tile: Rect, margin: int, one: Sides) -> Rect:
    """The pools whose normalised answers a process owns; at the borders also those that are only looked at and cropped."""
    if not tile.area:
        return NOTHING
    (height, width), (rows, columns) = one.pooled[1:], one.output[1:]
    return Rect(
        0 if tile.top == 0 else tile.top + margin,
        height if tile.bottom == rows else tile.bottom + margin,
        0 if tile.left == 0 else tile.left + margin,
        width if tile.right == columns else tile.right + margin,
    )


def strips(own: Sequence[Rect], want: Sequence[Rect], rank: int) -> tuple[list[Rect], list[Rect]]:
    """What a process sends of its own to everybody else, and what it gets of theirs, by rank; empty where nothing is."""
    sent = [NOTHING if other == rank else own[rank] & want[other] for other in range(len(own))]
    got = [NOTHING if other == rank else own[other] & want[rank] for other in range(len(own))]
    return sent, got
