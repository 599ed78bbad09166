"""Parameters of a network of places in the order in which a gang's processes hold them, and their cuts into shards.

A process of a gang exchanges its own places' filters (`own_places.py`). So the flat vector goes process by process, within one
by parameter, and no shard has two processes' filters: its updates, its rounds and the staleness of its pushes are then those of
one process of every replica. Checkpoints know none of this: the whole network is read from, and written to, where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate

from striate.cluster.flat import Flat
from striate.cluster.tile_costs import received_bytes
from striate.cluster.tiles import Grid, Rect, plan
from striate.errors import BadInput
from striate.models.sparse.places import Places
from striate.train.exchanged import Exchanged, Layout
from striate.train.sparse import SparseLearner


def by_process(learner: SparseLearner, grid: Grid) -> list[list[Exchanged]]:
    """What every process of a gang exchanges, by rank, as views into the whole network's learner.

    Each is, number by number and in the same order, what that process's `OwnPlaces.exchanged` shows.
    """
    tiles = plan(learner.net.spec, grid)
    found: list[list[Exchanged]] = [[] for _ in range(grid.count)]
    for one in learner.exchanged():
        number = int(one.name.partition(".")[0].removeprefix("stage"))
        if one.layout is None:
            found[0].append(one)
            continue
        for own, tile in zip(found, tiles[number - 1].filtered):
            if tile.area:
                own.append(_part(one, one.layout.shape, learner.net.stages[number - 1].places, tile))
    return found


def _part(one: Exchanged, shape: Sequence[int], places: Places, tile: Rect) -> Exchanged:
    """The filters of a tile, wherever the whole is kept."""
    corner = (tile.top, tile.left)
    layout = Layout(
        (tile.height, tile.width, *shape[2:]), partial(places.gather, corner=corner), partial(places.lay_out, corner=corner)
    )
    return replace(one, layout=layout)


def border_bytes(learner: SparseLearner, grid: Grid, batch: int) -> list[int]:
    """What every process of a gang receives from the others in a step: borders, and filters that places share.

    Those come as gradients, summed as a ring would move them, and once more from the first process.
    """
    level, together, tiles = learner.level, learner.settings.together, plan(learner.net.spec, grid)
    shared = [one for one in learner.exchanged() if one.layout is None]
    handed = sum(one.tensor.nbytes for one in shared)
    summed = sum(one.tensor.nbytes for one in shared if level is None or one.name.startswith(f"stage{level + 1}."))
    return [
        received_bytes(tiles, rank, batch, learner.dtype.itemsize, together, level)
        + 2 * (grid.count - 1) * summed // grid.count
        + (handed if rank else 0)
        for rank in range(grid.count)
    ]


def shards_by_process(flat: Flat, sizes: Sequence[int], count: int) -> list[list[slice]]:
    """Cuts of a flat vector that goes process by process: every process's own shards, the more the more it holds.

    Args:
        flat: of everything.
        sizes: what of it is whose, in its order.
        count: of shards, over all processes.

    Raises:
        BadInput: fewer than processes that hold something.
    """
    holding = [rank for rank, size in enumerate(sizes) if size]
    if count < len(holding):
        raise BadInput(
            f"cluster.exchange.shards must be at least {len(holding)}, found {count}: every process of a replica has shards "
            "of its own places"
        )
    each = dict.fromkeys(holding, 1)
    for _ in range(count - len(holding)):
        each[max(holding, key=lambda rank: sizes[rank] / each[rank])] += 1
    ends = [0, *accumulate(sizes)]
    return [flat.cuts(each[rank], *ends[rank : rank + 2]) if rank in each else [] for rank in range(len(sizes))]
