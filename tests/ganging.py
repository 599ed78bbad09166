"""Small networks of stages trained by a gang of processes, each of which keeps the shards of its own places itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import tiling
from striate.cluster.by_process import by_process
from striate.cluster.flat import Flat
from striate.cluster.own_places import OwnPlaces
from striate.cluster.replica import Pace, Replica
from striate.cluster.server import Doors, Near, Server
from striate.cluster.shards import Shard
from striate.cluster.tiled import TiledLearner, TiledNet, bytes_a_step
from striate.cluster.tiles import Grid
from striate.cluster.wire import Wire
from striate.draws import Draws
from striate.models.sparse import SparseNet
from striate.train.contrastive import constant
from striate.train.exchanged import Exchanged
from striate.train.sparse import SparseLearner


def plain(case: dict[str, Any]) -> SparseLearner:
    """The whole network in one process."""
    net = SparseNet(tiling.NETS[case["net"]], case.get("tied_decoder", False)).start(Draws(7, purpose="start/"))
    dtype = tiling.DTYPES[case.get("dtype", "fp32")]
    for stage in net.stages:
        stage.encoder = stage.encoder.to(dtype)
        stage.decoder = None if stage.decoder is None else stage.decoder.to(dtype)
    return SparseLearner(net, tiling.settings(case), constant(case.get("rate", 0.05), case.get("momentum", 0.0)), dtype=dtype)


def own(rank: int, count: int, case: dict[str, Any], grid: tuple[int, int]) -> OwnPlaces:
    """One process's places of it."""
    dtype = tiling.DTYPES[case.get("dtype", "fp32")]
    net = TiledNet(
        tiling.NETS[case["net"]], Grid(*grid), Wire(rank, count), case.get("tied_decoder", False), dtype=dtype
    ).start(Draws(7, purpose="start/"))
    schedule = constant(case.get("rate", 0.05), case.get("momentum", 0.0))
    return OwnPlaces(TiledLearner(net, tiling.settings(case), schedule, dtype=dtype))


def joined(parameters: list[Exchanged], tensors: list[Tensor]) -> Tensor:
    """Tensors kept like parameters, side by side as they travel, in their own format."""
    out = [tensor.new_zeros(one.size) for one, tensor in zip(parameters, tensors, strict=True)]
    for one, tensor, piece in zip(parameters, tensors, out):
        one.read(tensor, piece)
    return torch.cat(out) if out else torch.empty(0)


def slopes(rank: int, count: int, wanted: list[tuple[dict[str, Any], tuple[int, int]]]) -> list[dict[str, Any]]:
    """What each process's learner would learn from, as it travels."""
    found = []
    for case, grid in wanted:
        learner = own(rank, count, case, grid)
        slope = learner.slope(tiling.pictures(learner.tiled.net.spec, 0))
        parameters = learner.exchanged()
        found.append(
            {
                "gradients": joined(parameters, list(slope.gradients)),
                "parameters": joined(parameters, [one.tensor for one in parameters]),
                "metrics": {name: float(value) for name, value in slope.metrics.items()},
            }
        )
    return found


def replicas(rank: int, count: int, wanted: list[tuple[dict[str, Any], tuple[int, int]]]) -> list[dict[str, Any]]:
    """A replica, alone in its rounds, of whose shards each process keeps its own; the whole network that comes of it."""
    found = []
    for case, grid in wanted:
        learner, gradients = own(rank, count, case, grid), case.get("gradients", True)
        section = by_process(plain(case), Grid(*grid))[rank]
        flat = Flat(section)
        cuts = flat.cuts(2) if flat.size else []
        values = flat.gather(flat.new())
        shards = [Shard(values[cut].numpy(), "sgd" if gradients else "delta", flat.rows(cut)) for cut in cuts]
        near = [Near(Server(shard, rounds=True)) for shard in shards]
        doors = Doors(near, cuts, "a")
        pace = Pace(rounds=True, push_every=case.get("push_every", 1))
        replica: Replica[Tensor] = Replica(learner, doors, pace, gradients=gradients)
        learner.tiled.net.wire.received, predicted = 0, 0
        for step in range(case.get("steps", 4)):
            batch = tiling.pictures(learner.tiled.net.spec, step)
            predicted += bytes_a_step(learner.tiled.net, tiling.BATCH, 4, learner.tiled.settings.together, learner.tiled.level)
            replica.step(batch)
        replica.flush()
        received = learner.received
        found.append(
            {
                "whole": learner.whole(), "size": flat.size, "pushed": doors.pushed_bytes, "pulled": doors.pulled_bytes,
                "received": received, "predicted": predicted,
                "handed": sum(one.tensor.nbytes for one in learner.tiled.net.held if one.shared) if rank else 0,
            }
        )  # fmt: skip
    return found
