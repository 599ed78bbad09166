"""Gangs of processes: small networks of stages, without an engine; and parts of weights that count, on Ray."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist  # noqa: TID251
from torch import Tensor

import crews
import tiling
from striate.cluster import server
from striate.cluster.asynchronous.actors import Workbench
from striate.cluster.asynchronous.fleet import Crew, Fleet
from striate.cluster.by_process import border_bytes, by_process
from striate.cluster.flat import Flat
from striate.cluster.neighbours import meet
from striate.cluster.own_places import OwnPlaces
from striate.cluster.parallel import Share
from striate.cluster.replica import Pace, Replica
from striate.cluster.server import Doors, Server
from striate.cluster.shards import Shard
from striate.cluster.tiled import TiledLearner, TiledNet
from striate.cluster.tiles import Grid
from striate.cluster.wire import Lost, Near, Wire
from striate.draws import Draws
from striate.errors import BadInput, StriateError
from striate.models.sparse import SparseNet
from striate.train.contrastive import constant
from striate.train.exchanged import Exchanged, Slope
from striate.train.sparse import SparseLearner
from striate.train.updates import Rates


def plain(case: dict[str, Any]) -> SparseLearner:
    """The whole network in one process."""
    net = SparseNet(tiling.NETS[case["net"]], case.get("tied_decoder", False)).start(Draws(7, purpose="start/"))
    dtype = tiling.DTYPES[case.get("dtype", "fp32")]
    for stage in net.stages:
        stage.encoder = stage.encoder.to(dtype)
        stage.decoder = None if stage.decoder is None else stage.decoder.to(dtype)
    return SparseLearner(net, tiling.settings(case), constant(case.get("rate", 0.05), case.get("momentum", 0.0)), dtype=dtype)


def own(rank: int, count: int, case: dict[str, Any], grid: tuple[int, int], near: Near | None = None) -> OwnPlaces:
    """One process's places of it."""
    dtype = tiling.DTYPES[case.get("dtype", "fp32")]
    net = TiledNet(
        tiling.NETS[case["net"]], Grid(*grid), Wire(rank, count, near=near), case.get("tied_decoder", False), dtype=dtype
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
        doors_near = [server.Near(Server(shard, rounds=True)) for shard in shards]
        doors = Doors(doors_near, cuts, "a")
        pace = Pace(rounds=True, push_every=case.get("push_every", 1))
        replica: Replica[Tensor] = Replica(learner, doors, pace, gradients=gradients)
        learner.tare()
        for step in range(case.get("steps", 4)):
            batch = tiling.pictures(learner.tiled.net.spec, step)
            replica.step(batch)
        replica.flush()
        received = learner.received
        found.append(
            {
                "whole": learner.whole(), "size": flat.size, "pushed": doors.pushed_bytes, "pulled": doors.pulled_bytes,
                "received": received,
                "planned": border_bytes(plain(case), Grid(*grid), tiling.BATCH)[rank],
            }
        )  # fmt: skip
    return found


class CountingPart:
    """One process's part of weights that count minibatches; every step needs all processes of the gang."""

    own_rule, finished, dtype = "sgd", False, torch.float32

    def __init__(self, share: Share, brought: dict[str, Any]) -> None:
        self._share, self.received, self.step_number = share, 0, 0
        self.weight = torch.zeros(brought["size"] // share.count)
        self._mishaps, self._folder = brought.get("mishaps", {}), Path(brought.get("folder", "."))
        if "lacking" in self._mishaps and share.rank == self._mishaps["lacking"]:
            raise BadInput("no pictures here")

    def slope(self, batch: int) -> Slope:
        if (self._share.rank, batch) in self._mishaps:
            self._mishap(batch, self._mishaps[self._share.rank, batch])
        came = torch.ones(1)
        dist.all_reduce(came)
        assert int(came) == self._share.count
        self.received += came.nbytes
        self.step_number += 1
        return Slope({"loss": torch.tensor(1.0)}, [torch.full_like(self.weight, -1.0)], Rates(1.0, 0.0))

    def step(self, batch: int) -> dict[str, Tensor]:
        slope = self.slope(batch)
        self.weight.sub_(slope.gradients[0])
        return slope.metrics

    def _mishap(self, batch: int, kind: str) -> None:
        """What is to go wrong, once in a run."""
        with suppress(FileExistsError):
            (self._folder / f"{kind}-{batch}").touch(exist_ok=False)
            if kind == "fail":
                raise StriateError("no more of this")
            os.kill(os.getpid(), signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
            time.sleep(1)

    def exchanged(self) -> list[Exchanged]:
        return [Exchanged("weight", self.weight)]

    def refresh(self) -> None:
        pass

    def leave(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    def tare(self) -> None:
        self.received = 0

    def state(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "step": torch.tensor(self.step_number)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.weight.copy_(state["weight"])
        self.step_number = int(state["step"])

    def whole(self) -> dict[str, Tensor]:
        parts = [torch.empty_like(self.weight) for _ in range(self._share.count)]
        dist.all_gather(parts, self.weight)
        return {"weight": torch.cat(parts), "step": torch.tensor(self.step_number)}


def bring(brought: dict[str, Any], rows: None, share: Share) -> Workbench:
    """In a gang's process."""
    return Workbench(CountingPart(share, brought), lambda slot: slot)


def fleet(ray: ModuleType, crew: Crew, total: int, size: int = 10, said: list[str] | None = None, **told: Any) -> Fleet:
    """A fleet of gangs, begun."""
    whole, heard = crews.Counting(size), said if said is not None else []
    parts = whole.weight.split(size // crew.processes)
    sections = [[Exchanged(f"weight{rank}", part)] for rank, part in enumerate(parts)]
    made = Fleet(
        whole,
        crew,
        ray,
        bring,
        lambda state: {"size": size, **told},
        None,
        total,
        10,
        heard.append,
        sections=sections,
        border_bytes=[4, 4],
    )
    made.load_state(whole.state())
    return made


def left_alone(rank: int, count: int, folder: str, near: bool) -> str:
    """The second process leaves before a step that needs it; what the first makes of that."""
    learner = own(rank, count, {"net": "valid"}, (count, 1), meet(rank, count) if near else None)
    said = ""
    if rank == 0:
        try:
            learner.slope(tiling.pictures(learner.tiled.net.spec, 0))
        except Lost as lost:
            said = str(lost)
    learner.leave()
    # The job ends with a last roll call of its own.
    dist.init_process_group("gloo", init_method=f"file://{folder}/again-{near}", rank=rank, world_size=count)
    return said
