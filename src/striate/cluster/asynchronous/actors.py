"""A replica's process. Ray calls its methods; what they do is written in `striate.cluster.replica`.

If it dies, the driver puts another in its place, under another name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from striate.cluster.asynchronous.calling import RayDoor
from striate.cluster.compress import Packer
from striate.cluster.replica import Pace, Replica
from striate.cluster.server import Doors
from striate.compute import keep_memory
from striate.train.updates import Rates

# Whoever has had nothing to do for so long begins with fresh parameters.
_IDLE_S = 0.2


@dataclass(frozen=True)
class Workbench:
    """What a replica works with.

    Attributes:
        learner: in the run's last saved state.
        batch: minibatches by number.
    """

    learner: Any
    batch: Callable[[int], Any]


@dataclass(frozen=True)
class Job:
    """How a replica is to work.

    Attributes:
        pace: see there.
        packer: see there.
        gradients: whether it sends gradients.
        threads: of its products.
    """

    pace: Pace
    packer: Packer
    gradients: bool
    threads: int


@dataclass(frozen=True)
class Order:
    """A lease of minibatches, and what goes with it.

    Attributes:
        slots: their numbers.
        following: the one that will probably follow.
        rates: for the shards' rule, where they depend on how many replicas there are; None: the job's.
        threads: of products from now on; None: the job's.
        every: steps from pull to pull and from push to push from now on; None: the job's.
        fresh: whether to begin with the shards' parameters of now, after others may have gone on alone.
    """

    slots: Sequence[int]
    following: int | None
    rates: Rates | None = None
    threads: int | None = None
    every: tuple[int, int] | None = None
    fresh: bool = False


@dataclass(frozen=True)
class Report:
    """What became of a lease of minibatches.

    Attributes:
        metrics: of each, by name; numbers that are not finite are left out.
        seconds: they took.
        waited_s: of those, spent waiting for shards.
        exchanged: pulls, pushes, refusals and bytes of this replica so far.
        unsaid: minibatches, this lease's last and perhaps earlier ones, that shards have not said to have.
    """

    metrics: list[dict[str, float]]
    seconds: float
    waited_s: float
    exchanged: dict[str, int] = field(default_factory=dict)
    unsaid: int = 0


class ReplicaActor:
    """A replica's process.

    Args:
        name: of its pushes.
        bring: makes the workbench from what was brought.
        brought: whatever that needs.
        rows: prepared pictures in shared memory, or None.
        shards: their processes.
        cuts: their parts.
        job: see there.
    """

    def __init__(
        self,
        name: str,
        bring: Callable[[Any, np.ndarray | None], Workbench],
        brought: Any,
        rows: np.ndarray | None,
        shards: Sequence[Any],
        cuts: Sequence[slice],
        job: Job,
    ) -> None:
        torch.set_num_threads(job.threads)
        keep_memory()
        self._bench = bring(brought, rows)
        self._doors = Doors([RayDoor(shard) for shard in shards], cuts, name, job.packer)
        self._gradients = job.gradients
        self._replica = self._begun(job.pace)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[int, Future[Any]] | None = None
        self._rounds, self._threads, self._last_s = job.pace.rounds, job.threads, 0.0

    def _begun(self, pace: Pace) -> Replica[Any]:
        return Replica(self._bench.learner, self._doors, pace, gradients=self._gradients)

    def work(self, order: Order) -> Report:
        """Learn from minibatches by number; the one that will follow is read meanwhile."""
        self._take(order)
        begun, waited, metrics = time.monotonic(), self._replica.traffic.waited_s, []
        for slot, then in zip(order.slots, [*order.slots[1:], order.following]):
            batch = self._fetched(slot)
            self._next = None if then is None else (then, self._reader.submit(self._bench.batch, then))
            # Draws and schedules go by the minibatch, whoever learns from it.
            self._replica.step_number = slot
            metrics.append(self._replica.step(batch))
        self._last_s = time.monotonic()
        told = [{name: float(value) for name, value in one.items()} for one in metrics]
        return Report(
            [{name: value for name, value in one.items() if np.isfinite(value)} for one in told],
            time.monotonic() - begun,
            self._replica.traffic.waited_s - waited,
            self._exchanged(),
            self._replica.unsaid,
        )

    def _take(self, order: Order) -> None:
        pace = self._replica.pace
        pull_every, push_every = order.every or (pace.pull_every, pace.push_every)
        if (pull_every, push_every) != (pace.pull_every, pace.push_every):
            # As at the beginning, which is when it happens: nothing but the learner is kept.
            self._replica.flush()
            self._replica = self._begun(replace(pace, pull_every=pull_every, push_every=push_every))
        if order.rates is not None:
            self._replica.pace = replace(self._replica.pace, rates=order.rates)
        threads = order.threads or self._threads
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        idle = time.monotonic() - self._last_s > _IDLE_S and not self._rounds
        if order.fresh or idle:
            self._replica.catch_up()

    def _fetched(self, slot: int) -> Any:
        if self._next is not None and self._next[0] == slot:
            return self._next[1].result()
        return self._bench.batch(slot)

    def rehearse(self, slot: int) -> float:
        """Seconds of a step, the best of two on a learner that is put back as it was."""
        learner = self._bench.learner
        before = {name: tensor.clone() for name, tensor in learner.state().items()}
        batch, seconds = self._bench.batch(slot), []
        for _ in range(2):
            begun = time.monotonic()
            learner.step(batch)
            seconds.append(time.monotonic() - begun)
        self._replica.load_state(before)
        return min(seconds)

    def flush(self) -> dict[str, int]:
        """Send what is left."""
        self._replica.flush()
        return self._exchanged()

    def state(self) -> dict[str, np.ndarray]:
        """The learner's, parameters and all."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self._replica.state().items()}

    def _exchanged(self) -> dict[str, int]:
        traffic = self._replica.traffic
        return {
            "pulls": traffic.pulls,
            "pushes": traffic.pushes,
            "pulled_bytes": self._doors.pulled_bytes,
            "pushed_bytes": self._doors.pushed_bytes,
        }

    def pid(self) -> int:
        """The process's number; answers when all is ready."""
        return os.getpid()
