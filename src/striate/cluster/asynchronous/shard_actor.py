"""A shard's process. Ray calls its methods; what they do is written in `striate.cluster.server`.

It is begun again by Ray if it dies, with the last snapshot's numbers; calls that it had not answered are sent to it again.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from striate.cluster.asynchronous.calling import LARGE, Shared
from striate.cluster.server import Message, Server, Values
from striate.cluster.shards import Receipt, Rows, Shard, Version
from striate.train.checkpoint import CheckpointFolder, write_text


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
        self._begun_s = time.monotonic()
        self._load = {"busy_s": 0.0, "pushes": 0, "pushed_bytes": 0, "pulled_bytes": 0}
        saved, _ = self._folder.newest()
        if saved is not None:
            shard = self._shard(saved.tensors["values"].numpy(), None)
            shard.load(saved.tensors, saved.state)
            self._serve(shard)

    def _shard(self, values: np.ndarray, memories: Sequence[np.ndarray] | None) -> Shard:
        told = self._beginning
        return Shard(values, told.rule, told.rows, memories, told.forget, life=secrets.randbits(63))

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
        with self._busy():
            return self._handed(*self._server.pull(known))

    async def push(self, message: Message) -> Receipt:
        """Apply a push."""
        self._keep_snapshots()
        with self._busy():
            receipt = self._server.push(message)
        self._load["pushes"] += 1
        self._load["pushed_bytes"] += message.packed.nbytes
        self._tell_waiting()
        return receipt

    async def swap(self, message: Message) -> tuple[Receipt, Values | Shared]:
        """Apply a push; what has become of the values, in rounds when all have come."""
        receipt = await self.push(message)
        while self._server.waits_for(message.replica):
            await self._round_done.wait()
        with self._busy():
            return receipt, self._handed(*self._server.pull(None))

    @contextmanager
    def _busy(self) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self._load["busy_s"] += time.perf_counter() - begun

    async def expect(self, members: Collection[str]) -> None:
        """Who takes part in rounds; kept, for a shard that is begun again."""
        write_text(self._members, json.dumps(sorted(members)))
        self._server.expect(members)
        self._tell_waiting()

    async def counted(self) -> dict[str, Any]:
        """See `Shard.counted`; the process's number; and what it has done since it began, by its own clock."""
        load = {**self._load, "up_s": time.monotonic() - self._begun_s}
        return {**self._server.counted(), "pid": os.getpid(), "load": load}

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
        self._load["pulled_bytes"] += values.nbytes
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
