"""The processes: one a shard, one a replica. Ray calls their methods; what they do is written elsewhere.

A shard's process is begun again by Ray if it dies, with the last snapshot's numbers; calls that it had not answered are sent
to it again. A replica's is replaced by the driver, under another name.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from striate.cluster.asynchronous.calling import LARGE, RayDoor, Shared
from striate.cluster.compress import Packer
from striate.cluster.replica import Pace, Replica
from striate.cluster.server import Doors, Message, Server, Values
from striate.cluster.shards import Receipt, Rows, Shard, Version
from striate.compute import keep_memory
from striate.train.checkpoint import CheckpointFolder, write_text

# Whoever has had nothing to do for so long begins with fresh parameters.
_IDLE_S = 0.2


@dataclass(frozen=True)
class Beginning:
    """A shard before any update.

    Attributes:
        rule: see `striate.cluster.rules`.
        rows: filters of norm one.
        forget: see `Shard`.
        rounds: whether pushes wait for one another.
        folder: for snapshots; on a disk that every machine on which the shard may live sees.
        every_s: seconds from snapshot to snapshot.
    """

    rule: str
    rows: Sequence[Rows]
    forget: float
    rounds: bool
    folder: Path
    every_s: float


class ShardActor:
    """A shard's process. Its methods run one at a time, but for waiting.

    Args:
        beginning: see there.
    """

    def __init__(self, beginning: Beginning) -> None:
        torch.set_num_threads(1)
        self._beginning, self._folder = beginning, CheckpointFolder(beginning.folder)
        self._members = beginning.folder / "members.json"
        self._round_done = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._put: tuple[Version, Any] | None = None
        saved, _ = self._folder.newest()
        if saved is not None:
            shard = self._shard(saved.tensors["values"].numpy(), None)
            shard.load(saved.tensors, saved.state)
            self._serve(shard)

    def _shard(self, values: np.ndarray, memories: Sequence[np.ndarray] | None) -> Shard:
        told = self._beginning
        return Shard(values, told.rule, told.rows, memories, told.forget, life=time.time_ns())

    def _serve(self, shard: Shard) -> None:
        self._server, self._saved = Server(shard, self._beginning.rounds), shard.updates
        if self._members.exists():
            self._server.expect(json.loads(self._members.read_text()))

    async def begin(self, values: np.ndarray, memories: Sequence[np.ndarray] | None) -> None:
        """Take the first values, and what the rule is to remember of before; unless there is a snapshot of later ones."""
        if not hasattr(self, "_server"):
            shard = self._shard(values, memories)
            self._folder.save(0, *shard.state())
            self._serve(shard)

    async def pull(self, known: Version | None) -> Values | Shared:
        """The values unless they are known; large ones by reference, put into shared memory once a version."""
        return self._handed(*self._server.pull(known))

    async def push(self, message: Message) -> Receipt:
        """Apply a push."""
        self._keep_snapshots()
        receipt = self._server.push(message)
        self._tell_waiting()
        return receipt

    async def swap(self, message: Message) -> tuple[Receipt, Values | Shared]:
        """Apply a push; what has become of the values, in rounds when all have come."""
        receipt = await self.push(message)
        while self._server.waits_for(message.replica):
            await self._round_done.wait()
        return receipt, self._handed(*self._server.pull(None))

    async def expect(self, members: Collection[str]) -> None:
        """Who takes part in rounds; kept, for a shard that is begun again."""
        write_text(self._members, json.dumps(sorted(members)))
        self._server.expect(members)
        self._tell_waiting()

    async def counted(self) -> dict[str, Any]:
        """See `Shard.counted`; and the process's number."""
        return {**self._server.counted(), "pid": os.getpid()}

    async def weigh(self, update: np.ndarray) -> None:
        """Nothing, of an update that was sent to see how long that takes."""

    async def update_s(self) -> float:
        """See `Shard.update_s`."""
        return self._server.shard.update_s()

    async def memories(self) -> list[np.ndarray]:
        """What the rule remembers, copied."""
        return [memory.numpy().copy() for memory in self._server.shard.memories]

    def _handed(self, version: Version, values: np.ndarray | None) -> Values | Shared:
        if values is None:
            return Values(version, None)
        if values.nbytes < LARGE:
            return Values(version, values.copy())
        if self._put is None or self._put[0] != version:
            import ray

            self._put = (version, ray.put(values))
        return Shared(version, [self._put[1]])

    def _tell_waiting(self) -> None:
        done, self._round_done = self._round_done, asyncio.Event()
        done.set()

    def _keep_snapshots(self) -> None:
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._beginning.every_s)
            shard = self._server.shard
            if shard.updates != self._saved:
                tensors, counted = shard.state()
                self._saved = shard.updates
                # Copied at one moment, written while others go on.
                await asyncio.to_thread(self._folder.save, self._saved, tensors, counted)


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
class Report:
    """What became of a lease of minibatches.

    Attributes:
        metrics: of each, by name; numbers that are not finite are left out.
        seconds: they took.
        waited_s: of those, spent waiting for shards.
        exchanged: pulls, pushes, refusals and bytes of this replica so far.
    """

    metrics: list[dict[str, float]]
    seconds: float
    waited_s: float
    exchanged: dict[str, int] = field(default_factory=dict)


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
        self._replica: Replica[Any] = Replica(self._bench.learner, self._doors, job.pace, gradients=job.gradients)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[int, Future[Any]] | None = None
        self._rounds, self._last_s = job.pace.rounds, 0.0

    def work(self, slots: Sequence[int], following: int | None) -> Report:
        """Learn from minibatches by number; the one that will follow is read meanwhile."""
        if time.monotonic() - self._last_s > _IDLE_S and not self._rounds:
            self._replica.catch_up()
        begun, waited, metrics = time.monotonic(), self._replica.traffic.waited_s, []
        for slot, then in zip(slots, [*slots[1:], following]):
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
        )

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
