"""Claim: replicas, grids of processes and shared RBMs take what their models of costs say, within 15%.

Replicas: a step alone, and beside another; handing over and taking in, a shard's part of an exchange and what carries it, each
by itself, in seconds of a processor. From these `striate.cluster.simulate` says, before they run, what one replica and two do
on this machine's processors, which they share with the shard. Grids: rates of whole networks side by side and of messages; then
two processes share one network. RBMs: rates as `--processes` measures them. Nothing is fitted to what is predicted.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.multiprocessing

from shared_places import GridPoint, grid_point
from small_fleet import fleet, learner, losses, mean_staleness, rate, standardised
from striate.cluster.ahead import Ahead
from striate.cluster.asynchronous.calling import RayDoor
from striate.cluster.asynchronous.engine import ray_cluster
from striate.cluster.contents import Gradients
from striate.cluster.flat import Flat
from striate.cluster.job import Job
from striate.cluster.layout import Mode
from striate.cluster.replica import Sent
from striate.cluster.server import Doors
from striate.cluster.simulate import simulate
from striate.cluster.trial import Trial, try_out
from striate.compute import keep_memory
from striate.train import Batches, MemoryRows
from striate.train.updates import Rates
from timing import row

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BAR = "0.85 to 1.15"
# Steps that a replica runs ahead of shards that do not answer, as `striate.cluster.replica` has it.
AHEAD = 20


def rows(quick: bool = False) -> list[dict[str, object]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    found = []
    for batch in (256,) if quick else (64, 256):
        found += _replicas(batch, (1, 16) if quick else (1, 4, 16), 60 if quick else 400)
    for batch in (64,) if quick else (64, 256):
        found.append(_grid(grid_point(batch, quick)))
    torch.set_num_threads(threads)
    return found + _rbms(quick)


@dataclass(frozen=True)
class Parts:
    """Seconds of a processor.

    Attributes:
        step: of a replica: gradients, added up.
        ahead: of a step of its own between pulls.
        crowded: a step's speed beside another's, of its speed alone.
        jitter: of the logarithm of a step's length.
        copy: to hand over an update, or take in parameters.
        update: of the shard, for one exchange.
        engine: of all others who carry it.
        latency: seconds that an idle exchange takes beyond these, one way.
    """

    step: float
    ahead: float
    crowded: float
    jitter: float
    copy: float
    update: float
    engine: float
    latency: float

    def job(self, replicas: int, every: int, batch: int) -> Job:
        """Of so many replicas on this machine."""
        return Job(
            replicas,
            self.step + self.ahead * (1 - 1 / every),
            batch,
            parameter_bytes=0.0,
            pull_every=every,
            push_every=every,
            update_s=self.update,
            latency_s=self.latency,
            jitter=self.jitter,
            swaps=True,
            ahead=AHEAD,
            copy_s=self.copy,
            engine_s=self.engine,
            processors=CORES,
            crowded=self.crowded,
        )


def _replicas(batch: int, intervals: tuple[int, ...], steps: int) -> list[dict[str, object]]:
    found = []
    alone, beside = _steps(batch, 1), _steps(batch, 2)
    with ray_cluster(None, 4) as ray, tempfile.TemporaryDirectory() as folder:
        parts = _parts(ray, Path(folder) / "parts", alone, statistics.mean(one.step for one in beside))
        held = ray.put(standardised().numpy())
        for every in intervals:
            for count in (1, 2):
                crew = fleet(ray, Path(folder) / f"{every}-{count}", learner(), count, rows=held, batch=batch, every=every)
                told = losses(crew, count * steps)
                counted = crew.counted()
                crew.close()
                found += _points(parts, count, every, batch, rate(told[len(told) // 3 :], batch), counted["staleness"])
    return found


def _points(
    parts: Parts, count: int, every: int, batch: int, measured: float, staleness: dict[str, int]
) -> list[dict[str, object]]:
    job = parts.job(count, every, batch)
    span = 400 * every * job.step_s
    said = simulate(job, span, settle_s=span / 4)
    title = f"{count} replica{'s' if count > 1 else ''}, minibatch {batch}, exchanging every {every}"
    peers = {f"{name}_ms": 1e3 * getattr(parts, name) for name in ("step", "ahead", "copy", "update", "engine", "latency")}
    peers |= {"crowded": parts.crowded, "predicted": said.images_per_s, "measured": measured}
    found = [row(f"images a second, predicted / measured, {title}", said.images_per_s / measured, "ratio", BAR, peers)]
    if count > 1:
        # One alone is never stale.
        ours, theirs = float(np.mean(said.staleness)), mean_staleness(staleness)
        told = {"predicted": ours, "measured": theirs}
        found.append(row(f"mean staleness, predicted / measured, {title}", ours / max(theirs, 1e-9), "ratio", BAR, told))
    return found


@dataclass(frozen=True)
class Stepped:
    """Seconds of a step, of one of its own besides, and how they vary."""

    step: float
    ahead: float
    jitter: float


def _steps(batch: int, count: int) -> list[Stepped]:
    """So many processes that step side by side, without an engine."""
    context = torch.multiprocessing.get_context("spawn")
    together, told = context.Barrier(count), context.SimpleQueue()
    made = [context.Process(target=_stepping, args=(batch, together, told)) for _ in range(count)]
    for process in made:
        process.start()
    found = [Stepped(*told.get()) for _ in made]
    for process in made:
        process.join()
    return found


def _stepping(batch: int, together: Any, told: Any) -> None:
    torch.set_num_threads(1)
    keep_memory()
    one, batches = learner(), Batches(MemoryRows(standardised()), batch, 0)
    flat = Flat(one.exchanged())
    content: Gradients[torch.Tensor] = Gradients(one, flat)
    ahead, gradient = Ahead("adagrad", flat, 1), torch.full((flat.size,), 1e-3)
    for step in range(3):
        content.learn(batches.at(step))
    together.wait()

    def learn(number: int) -> Callable[[], object]:
        return lambda: content.learn(batches.at(number))

    steps = [_seconds(learn(number))[0] for number in range(max(15, 6000 // batch))]
    together.wait()
    # What is learned does not matter, how long it takes does.
    own = [_seconds(lambda: ahead.step(gradient, Rates(1e-9, 0.0)))[0] for _ in range(15)]
    together.wait()
    told.put((statistics.median(steps), statistics.median(own), float(np.log(steps).std())))


def _seconds(call: Callable[[], object]) -> tuple[float, float]:
    """On the clock, and of this thread's processor."""
    begun, worked = time.perf_counter(), time.thread_time()
    call()
    return time.perf_counter() - begun, time.thread_time() - worked


def _parts(ray: ModuleType, folder: Path, alone: list[Stepped], beside_s: float) -> Parts:
    """An exchange by itself: nobody learns meanwhile."""
    crew = fleet(ray, folder, learner(), replicas=0)
    doors = Doors([RayDoor(actor) for actor in crew.shards.actors], crew.shards.cuts, "bench")
    own = learner()
    flat = Flat(own.exchanged())
    ahead = Ahead("adagrad", flat, 1)
    base, update = doors.pull(None).get().versions, flat.new()
    handed, taken, whole = [], [], []

    def exchange() -> None:
        nonlocal base
        begun = time.perf_counter()
        waiting: list[Any] = []
        handed.append(_seconds(lambda: waiting.append(doors.swap(Sent(update, base, Rates(1e-9, 0.0), 1))))[1])
        while not waiting[0].ready(1.0):
            pass

        def take() -> None:
            nonlocal base
            _, pulled = waiting[0].get()
            assert pulled.values is not None
            base = pulled.versions
            flat.scatter(pulled.values)
            ahead.take_in(pulled.values, base[0].updates)

        taken.append(_seconds(take)[1])
        whole.append(time.perf_counter() - begun)

    for _ in range(20):
        exchange()
    for kept in (handed, taken, whole):
        kept.clear()
    (shard,) = ray.get([actor.counted.remote() for actor in crew.shards.actors])
    before, rounds = _worked(), 60
    for _ in range(rounds):
        exchange()
    after = _worked()
    crew.close()
    updated = (after[shard["pid"]] - before[shard["pid"]]) / rounds
    others = sum(after[pid] - before.get(pid, 0.0) for pid in after if pid not in (shard["pid"], os.getpid())) / rounds
    copy = (statistics.median(handed) + statistics.median(taken)) / 2
    latency = max(0.0, statistics.median(whole) - 2 * copy - updated) / 2
    (one,) = alone
    return Parts(one.step, one.ahead, min(1.0, one.step / beside_s), one.jitter, copy, updated, others, latency)


def _worked() -> dict[int, float]:
    """Processor seconds so far of this process and all that it started, by process."""
    parents: dict[int, list[int]] = {}
    seconds: dict[int, float] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(file.parent.name)
        parents.setdefault(int(fields[1]), []).append(pid)
        seconds[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    found, left = {}, [os.getpid()]
    while left:
        pid = left.pop()
        found[pid] = seconds[pid]
        left += parents.get(pid, [])
    return found


def _grid(point: GridPoint) -> dict[str, object]:
    peers = {"predicted_s": point.predicted, "measured_s": point.measured, "one_beside_another_s": point.beside}
    peers |= {"gflops": point.rates.flops / 1e9, "mb_s": point.rates.bandwidth / 1e6, "latency_ms": 1e3 * point.rates.latency_s}
    title = f"2 processes that share places, minibatch {point.batch}, fp32"
    return row(f"seconds a step, predicted / measured, {title}", point.predicted / point.measured, "ratio", BAR, peers)


def _rbms(quick: bool) -> list[dict[str, object]]:
    found = []
    sizes = (1000, 2500) if quick else (4000, 10_000)
    for batch in (1000,) if quick else (1000, 100):
        base = Trial(*sizes, batch, steps=3)
        modes: tuple[Mode, ...] = ("both", "hidden")
        for mode, (told, *_) in zip(modes, try_out([replace(base, mode=mode) for mode in modes], 2)):
            said = told.predicted(base, 2)
            title = f"2 processes that share an RBM of {sizes[0]} x {sizes[1]} units, minibatch {batch}, {mode}"
            peers = {"predicted_s": said, "measured_s": told.step_s}
            found.append(row(f"seconds a step, predicted / measured, {title}", said / told.step_s, "ratio", BAR, peers))
    return found
