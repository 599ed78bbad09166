"""One point of a grid of processes: two that share the places of a network, predicted from parts and measured."""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.multiprocessing

from striate.cluster.costs import Problem
from striate.cluster.measuring import measure
from striate.cluster.neighbours import meet
from striate.cluster.parallel import Share, processes, wait_for_all
from striate.cluster.profile import Profile
from striate.cluster.tile_costs import GridRates, grid_cost, most_to_do
from striate.cluster.tiled import TiledLearner, TiledNet
from striate.cluster.tiles import grid_of, plan
from striate.cluster.wire import Wire
from striate.compute import keep_memory
from striate.draws import Draws
from striate.train.sparse import SparseSettings
from striate.train.updates import Rates
from tiles import network

# Rates of the network between processes do not hang on what travels.
_SIZES = Problem(1024, 1024, 64)


@dataclass(frozen=True)
class GridPoint:
    """Seconds of a step.

    Attributes:
        batch: pictures in it.
        beside: of one process that has the whole network, while another does the same with its own.
        measured: of two that share it.
        predicted: of those, from the rates.
        rates: of whole networks side by side, and of messages.
    """

    batch: int
    beside: float
    measured: float
    predicted: float
    rates: GridRates


def grid_point(batch: int, quick: bool) -> GridPoint:
    """Measured by two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        told_to = Path(folder) / "told.pt"
        torch.multiprocessing.spawn(_process, (port, batch, quick, told_to), nprocs=2)
        told = torch.load(told_to)
    rates = GridRates(*told["rates"])
    predicted = grid_cost(network(quick), grid_of(2, *network(quick).input[1:]), batch, rates).step_s
    return GridPoint(batch, told["beside"], told["measured"], predicted, rates)


def _process(rank: int, port: int, batch: int, quick: bool, told_to: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ["WORLD_SIZE"] = "2"
    torch.set_num_threads(1)
    keep_memory()
    with processes() as share:
        _point(share, batch, quick, told_to)


def _point(share: Share, batch: int, quick: bool, told_to: Path) -> None:
    spec, rounds = network(quick), 3 if quick else 7
    wire = Wire(share.rank, share.count, Profile(), near=meet(share.rank, share.count))
    machine = measure(wire, _SIZES, torch.float32, torch.device("cpu"))
    whole = TiledLearner(TiledNet(spec, grid_of(1, *spec.input[1:]), Wire()).start(Draws(0)), SparseSettings(), _rates)
    beside = _timed(whole, spec.input, batch, rounds)
    net = TiledNet(spec, grid_of(share.count, *spec.input[1:]), wire).start(Draws(0))
    measured = _timed(TiledLearner(net, SparseSettings(), _rates), spec.input, batch, rounds)
    load = most_to_do(plan(spec, grid_of(1, *spec.input[1:])), 1, batch)
    # The slower of the two sets the pace of what they share.
    beside = float(wire.most(torch.tensor([beside], dtype=torch.float64))[0])
    flops = load.flops / (beside - load.passed_bytes / machine.memory)
    if share.rank == 0:
        rates = (flops, machine.memory, machine.bandwidth, machine.latency_s)
        torch.save({"beside": beside, "measured": measured, "rates": rates}, told_to)
    wait_for_all()


def _timed(learner: TiledLearner, shape: tuple[int, int, int], batch: int, rounds: int) -> float:
    seconds = []
    for number in range(rounds + 1):
        pictures = Draws(1, number).normal("pictures", (batch, shape[1] * shape[2]))
        wait_for_all()
        begun = time.perf_counter()
        learner.step(pictures)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


def _rates(step: int) -> Rates:
    return Rates(1e-2, 0.9)
