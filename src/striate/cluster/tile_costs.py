"""What sharing a network's places costs: bytes that travel, to the last one, and seconds by a machine's rates.

Bytes are arithmetic on rectangles and are what a job counts. Seconds are a model: products and passes over weights of the
process that has most, exchanges one after another; those of receptive fields hide behind places that need no border.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from striate.cluster.tiles import Grid, Rect, StageTiles, plan, strips
from striate.models.sparse.spec import NetSpec
from striate.train.sparse import Together

# Passes over weights in a step: gradient written and read, weights and sums of squares read and written, copies for products.
_PASSES = 6
# Passes over maps besides products: answers, squares, roots, means, what is rebuilt, all of it back.
_MAP_PASSES = 20


@dataclass(frozen=True)
class Crossing:
    """One exchange of a step.

    Attributes:
        come: bytes that a process receives in it.
        hidden: whether places that need no border are worked out meanwhile.
    """

    come: int
    hidden: bool = False


def crossings(
    tiles: Sequence[StageTiles],
    rank: int,
    batch: int,
    itemsize: int,
    together: Together = "joint",
    level: int | None = None,
) -> Iterator[Crossing]:
    """Every exchange of one step, as one process sees it: borders of maps, and of errors on their way back.

    Args:
        tiles: the network cut up.
        rank: the process.
        batch: pictures in a step.
        itemsize: bytes of a number in products; what is rebuilt and what is pooled travels in float32 at least.
        together: how stages learn; only `joint` sends errors from stage to stage.
        level: the stage that learns, from 0, where one does.
    """
    exact, back = max(itemsize, 4), together == "joint"
    for number, stage in enumerate(tiles[: None if level is None else level + 1]):
        learns = level is None or number == level
        come, go = _places(stage.seen, stage.fields, rank)
        seen = stage.sides.seen[0] * batch
        if number:
            yield Crossing(come * seen * itemsize, hidden=True)
            if back:
                yield Crossing(go * seen * itemsize, hidden=True)
        if learns:
            yield Crossing(go * seen * exact)
            yield Crossing(come * seen * exact)
        come, go = _places(stage.filtered, stage.pools, rank)
        answers = stage.sides.stage.maps * batch * exact
        yield Crossing(come * answers)
        if learns:
            yield Crossing(go * answers)
        if stage.sides.stage.norm and number + 1 < len(tiles) and number != level:
            for around in (stage.pooled, stage.inner):
                come, go = _places(stage.pooled, stage.windows(around), rank)
                yield Crossing(come * batch * exact)
                if back:
                    yield Crossing(go * batch * exact)


def _places(own: Sequence[Rect], want: Sequence[Rect], rank: int) -> tuple[int, int]:
    sent, got = strips(own, want, rank)
    return sum(one.area for one in got), sum(one.area for one in sent)


def received_bytes(
    tiles: Sequence[StageTiles],
    rank: int,
    batch: int,
    itemsize: int,
    together: Together = "joint",
    level: int | None = None,
) -> int:
    """What a process receives in a step; gradients of filters that places share apart."""
    return sum(one.come for one in crossings(tiles, rank, batch, itemsize, together, level))


@dataclass(frozen=True)
class GridRates:
    """Rates of one process and of the network between processes.

    Attributes:
        flops: operations/s of the products.
        memory: bytes/s of passes over weights and maps.
        bandwidth: bytes/s that a process receives while it sends as many.
        latency_s: of an exchange.
    """

    flops: float
    memory: float
    bandwidth: float
    latency_s: float


@dataclass(frozen=True)
class GridCost:
    """One step of a grid of processes, in seconds of the one that has most to do.

    Attributes:
        products: in products.
        passes: over weights and maps.
        waiting: for borders, of which `hidden` more is behind work.
        hidden: seconds.
        received: bytes, by the process that receives most.
    """

    products: float
    passes: float
    waiting: float
    hidden: float
    received: int

    @property
    def step_s(self) -> float:
        """Seconds a step."""
        return self.products + self.passes + self.waiting


@dataclass(frozen=True)
class Load:
    """What the process that has most to do does in a step.

    Attributes:
        flops: operations of its products.
        passed_bytes: that pass through its processor beside them.
    """

    flops: float
    passed_bytes: float


def most_to_do(tiles: Sequence[StageTiles], count: int, batch: int) -> Load:
    """Of a network cut up for so many processes."""
    work, weights, units = ([0.0] * count for _ in range(3))
    for number, stage in enumerate(tiles):
        maps, fan_in = stage.sides.stage.maps, stage.sides.fan_in
        for rank, own in enumerate(stage.filtered):
            work[rank] += 2.0 * own.area * maps * fan_in * batch * (6 if number else 5)
            weights[rank] += 2.0 * own.area * maps * fan_in
            units[rank] += batch * (own.area * maps + stage.seen[rank].area * stage.sides.seen[0])
    return Load(max(work), max(weights) * 4 * _PASSES + max(units) * 4 * _MAP_PASSES)


def grid_cost(spec: NetSpec, grid: Grid, batch: int, rates: GridRates, itemsize: int = 4) -> GridCost:
    """A step of joint training of a network with filters of every place's own."""
    tiles = plan(spec, grid)
    load = most_to_do(tiles, grid.count, batch)
    products, passes = load.flops / rates.flops, load.passed_bytes / rates.memory
    if grid.count == 1:
        return GridCost(products, passes, 0.0, 0.0, 0)
    # Corners, edges and the middle of a grid differ; one of each is enough.
    ranks = {row * grid.columns + column for row in _kinds(grid.rows) for column in _kinds(grid.columns)}
    exchanges = {rank: list(crossings(tiles, rank, batch, itemsize)) for rank in ranks}
    busiest = max(ranks, key=lambda rank: sum(one.come for one in exchanges[rank]))
    free = products * _interior(tiles, busiest)
    behind = sum(one.come / rates.bandwidth for one in exchanges[busiest] if one.hidden)
    open_ = sum(one.come / rates.bandwidth for one in exchanges[busiest] if not one.hidden)
    hidden = min(behind, free)
    waiting = open_ + behind - hidden + len(exchanges[busiest]) * rates.latency_s
    return GridCost(products, passes, waiting, hidden, sum(one.come for one in exchanges[busiest]))


def _kinds(count: int) -> set[int]:
    return {0, count // 2, count - 1}


def _interior(tiles: Sequence[StageTiles], rank: int) -> float:
    """The share of places, above the lowest stage, that see own maps alone."""
    inner, places = 0.0, 0
    for stage in tiles[1:]:
        own, seen, fields = stage.filtered[rank], stage.seen[rank], stage.fields[rank]
        if not own.area:
            continue
        stride = stage.sides.stage.stride
        lost_rows = (max(0, seen.top - fields.top) + max(0, fields.bottom - seen.bottom)) / stride
        lost_columns = (max(0, seen.left - fields.left) + max(0, fields.right - seen.right)) / stride
        inner += max(0.0, own.height - lost_rows) * max(0.0, own.width - lost_columns)
        places += own.area
    return inner / places if places else 0.0
