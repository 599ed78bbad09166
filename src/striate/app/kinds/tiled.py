"""A sparse autoencoder whose places several processes share (Le et al. 2012, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from striate.app.kinds.kind import Prepared, Subject, schedule_settings
from striate.app.kinds.sharing import profiles
from striate.app.load import Parts
from striate.app.recipe import SparseGroup
from striate.cluster.neighbours import meet
from striate.cluster.profile import Profile
from striate.cluster.tiled import TiledLearner, TiledNet, bytes_a_step
from striate.cluster.tiles import Grid, grid_of
from striate.cluster.wire import Wire
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.sparse import NetSpec, SparseNet
from striate.models.sparse.trained import TrainedSparseNet
from striate.train import schedule
from striate.train.sparse import SparseSettings


def build_tiled(
    prepared: Prepared,
    resumed: TrainedSparseNet | None,
    spec: NetSpec,
    settings: SparseSettings,
    dtype: torch.dtype,
    start_pictures: int,
    title: str,
) -> Subject:
    """The learner of this process's places.

    Args:
        prepared: as of every kind.
        resumed: the network of a run that goes on.
        spec: of the network.
        settings: of the learner.
        dtype: of products.
        start_pictures: first filters are taken from so many pictures.
        title: what the network is, in words.
    """
    recipe, group, share = prepared.recipe, prepared.recipe.model, prepared.share
    assert isinstance(group, SparseGroup)
    near = meet(share.rank, share.count, recipe.cluster.timeout_s)
    wire = Wire(share.rank, share.count, Profile(prepared.device, exact=prepared.profile), near=near)
    grid = chosen_grid(recipe.cluster.grid, share.count, spec)
    net = TiledNet(spec, grid, wire, group.tied_decoder, group.pool_floor)
    if resumed is not None:
        net.load(resumed.state)
    else:
        _begin(net, prepared, start_pictures)
    net.to(prepared.device)
    learner = TiledLearner(net, settings, schedule(schedule_settings(recipe.train), prepared.total_steps), dtype=dtype)
    level = 0 if settings.together == "greedy" else None
    moved = bytes_a_step(net, recipe.train.batch_size, dtype.itemsize, settings.together, level)
    if share.count > 1:
        prepared.say(
            f"{share.count} processes in {grid.rows} rows and {grid.columns} columns; the first receives {moved / 1e6:.3g} MB "
            f"a step, {moved / recipe.train.batch_size / 1e3:.3g} kB a picture"
        )

    def whole() -> TrainedSparseNet | None:
        state = learner.collected()
        if state is None:
            return None
        kept = {name: tensor.cpu() for name, tensor in state.items()}
        return TrainedSparseNet(spec, kept, group.tied_decoder, group.pool_floor)

    def filters() -> Tensor:
        found = whole()
        return torch.empty(0) if found is None else found.filters

    def take(given: Mapping[str, Tensor], source: str) -> None:
        raise BadInput(f"{source}: filters are taken over by one process; train without --init, or in one process")

    return Subject(
        learner,
        prepared.rows,
        parts=lambda: Parts(sparse=whole()),
        filters=filters,
        take=take,
        title=title,
        spread={"processes": share.count, "mode": "auto", "parts": None, "grid": [grid.rows, grid.columns]},
        profile=lambda: profiles(wire),
    )


def _begin(net: TiledNet, prepared: Prepared, pictures: int) -> None:
    """First filters, as one process would begin them."""
    recipe, group, spec = prepared.recipe, prepared.recipe.model, net.spec
    assert isinstance(group, SparseGroup)
    draws = Draws(recipe.seed, purpose="start/")
    if group.start == "noise":
        net.start(draws)
        return
    rows = prepared.rows.take(np.arange(min(len(prepared.rows), pictures)))
    if any(stage.period for stage in spec.stages):
        # Filters that places share are few: every process begins all of them.
        net.load(SparseNet(spec, group.tied_decoder, group.pool_floor).start_from(rows, draws).state())
    else:
        net.start_from(rows, draws)


def chosen_grid(wanted: tuple[int, int] | None, count: int, spec: NetSpec) -> Grid:
    """The recipe's grid of processes, or the one whose cuts are shortest.

    Raises:
        BadInput: the recipe's has another number of processes.
    """
    grid = Grid(*wanted) if wanted else grid_of(count, *spec.input[1:])
    if grid.count != count:
        raise BadInput(f"cluster.grid is {grid.rows} x {grid.columns}, but {count} processes were started")
    return grid
