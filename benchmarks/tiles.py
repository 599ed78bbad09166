"""Claim: two processes that share the places of a locally connected network are nearly twice as fast as one.

The network of `le2012/network` at its GPU size (96x96, 48 million encoder weights), joint training, minibatches of 64 and 256,
a thread a process, borders through shared memory. One job of two processes: in every round the first takes a step of the
plain learner while the other sleeps, then both take a shared step. What travels is counted beside what was predicted.
"""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.multiprocessing

from striate.app.kinds.sparse import net_spec
from striate.app.recipe import SparseGroup, find_recipe, load_recipe
from striate.cluster.neighbours import meet
from striate.cluster.parallel import Share, processes, wait_for_all
from striate.cluster.profile import Profile
from striate.cluster.tiled import TiledLearner, TiledNet, bytes_a_step
from striate.cluster.tiles import grid_of
from striate.cluster.wire import Wire
from striate.compute import keep_memory
from striate.draws import Draws
from striate.models.sparse import NetSpec, SparseNet
from striate.train.sparse import SparseLearner, SparseSettings
from striate.train.updates import Rates
from timing import row


def rows(quick: bool = False) -> list[dict[str, object]]:
    cases = [(batch, dtype) for batch in ((64,) if quick else (64, 256)) for dtype in ("fp32", "bf16")]
    found = [_measured(batch, dtype, 3 if quick else 5, quick) for batch, dtype in cases]
    return [one for pair in found for one in pair]


def network(quick: bool) -> NetSpec:
    group = load_recipe(find_recipe("le2012/network"), size="gpu").model
    assert isinstance(group, SparseGroup)
    return net_spec(group, (1, 64, 64) if quick else (1, 96, 96))


def _measured(batch: int, dtype: str, rounds: int, quick: bool) -> list[dict[str, object]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        told_to = Path(folder) / "told.pt"
        torch.multiprocessing.spawn(_process, (2, port, batch, dtype, rounds, quick, told_to), nprocs=2)
        told = torch.load(told_to)
    edge = network(quick).input[1]
    title = f"{edge}x{edge}, three stages, minibatch {batch}, {dtype}, a thread a process"
    peers = {"one process, s": told["plain"], "two, s": told["shared"], "one process of the shared code, s": told["alone"]}
    parts = {f"{name}, s": value for name, value in told["profile"].items()}
    return [
        row(
            f"speed-up of 2 processes that share places, {title}",
            told["plain"] / told["shared"],
            "ratio",
            ">= 1.75" if batch > 64 else "(none set)",
            peers | parts,
        ),
        row(
            f"bytes received in a step / predicted, {title}",
            told["received"] / told["predicted"],
            "ratio",
            "1",
            {"MB": told["received"] / 1e6, "largest loss apart": told["apart"]},
        ),
    ]


def _process(rank: int, count: int, port: int, batch: int, dtype: str, rounds: int, quick: bool, told_to: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ["WORLD_SIZE"] = str(count)
    torch.set_num_threads(1)
    keep_memory()
    with processes() as share:
        _race(share, batch, dtype, rounds, quick, told_to)


def _race(share: Share, batch: int, dtype_name: str, rounds: int, quick: bool, told_to: Path) -> None:
    spec, dtype = network(quick), {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype_name]
    wire = Wire(share.rank, share.count, Profile(), near=meet(share.rank, share.count))
    net = TiledNet(spec, grid_of(share.count, *spec.input[1:]), wire).start(Draws(0))
    shared = TiledLearner(net, SparseSettings(), _rates, dtype=dtype)
    plain = SparseLearner(SparseNet(spec).start(Draws(0)), SparseSettings(), _rates, dtype=dtype) if share.rank == 0 else None
    alone = None
    if share.rank == 0:
        whole = TiledNet(spec, grid_of(1, *spec.input[1:]), Wire()).start(Draws(0))
        alone = TiledLearner(whole, SparseSettings(), _rates, dtype=dtype)
    seconds: dict[str, list[float]] = {"plain": [], "alone": [], "shared": []}
    apart, profiles = 0.0, []
    for number in range(rounds + 1):
        pictures = Draws(1, number).normal("pictures", (batch, spec.input[1] * spec.input[2]))
        losses = {}
        for name, learner in (("plain", plain), ("alone", alone), ("shared", shared)):
            wait_for_all()
            before = dict(wire.profile.seconds)
            wire.received = 0
            begun = time.perf_counter()
            if learner is not None:
                losses[name] = float(learner.step(pictures)["loss"])
            if number and learner is not None:
                seconds[name].append(time.perf_counter() - begun)
        profiles.append({part: value - before[part] for part, value in wire.profile.seconds.items()})
        apart = max(apart, abs(losses["shared"] / losses.get("plain", losses["shared"]) - 1))
    if share.rank == 0:
        middle = {name: statistics.median(values) for name, values in seconds.items()}
        profile = {part: statistics.median(one[part] for one in profiles[1:]) for part in profiles[0] if profiles[0][part]}
        predicted = bytes_a_step(net, batch, dtype.itemsize)
        torch.save(
            {**middle, "profile": profile, "received": wire.received, "predicted": predicted, "apart": apart},
            told_to,
        )
    wait_for_all()


def _rates(step: int) -> Rates:
    return Rates(1e-2, 0.9)
