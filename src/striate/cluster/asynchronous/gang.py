"""A replica that is a gang of processes: each holds a part of the model, and exchanges it with shards of its own.

To the driver a gang is one process, its first: that one hands every lease on to the others, and reports for all of them.
Parameters do not pass through it. The processes form a gloo group of their own and take their steps together; one that is lost,
or fails, breaks the group, the others notice at once, and the driver replaces the gang as it would a single process.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from striate.cluster.asynchronous.actors import Job, Order, ReplicaActor, Report, Workbench
from striate.cluster.asynchronous.causes import cause
from striate.cluster.connections import interface_of
from striate.cluster.parallel import Share
from striate.cluster.wire import Lost, reached
from striate.errors import BadInput, StriateError

# How long whoever noticed first waits to hear what the others have to say.
_LAST_WORDS_S = 3.0


@dataclass(frozen=True)
class Told:
    """What all processes of a gang are told.

    Attributes:
        name: of the replica's pushes.
        bring: makes a workbench from what was brought, prepared pictures or None, and a process's share.
        shards: every process's own, by rank.
        cuts: their parts of what that process exchanges.
        job: see there.
    """

    name: str
    bring: Callable[[Any, np.ndarray | None, Share], Workbench]
    shards: Sequence[Sequence[Any]]
    cuts: Sequence[Sequence[slice]]
    job: Job

    @property
    def count(self) -> int:
        """Of processes."""
        return len(self.cuts)


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a gang meet: in a folder of their machine, or at the first one's address."""

    folder: str | None
    host: str = ""
    port: int = 0


class GangProcess:
    """One process of a gang.

    Args:
        rank: which one, from 0.
        told: see there.
        brought: for the workbench.
        rows: prepared pictures in shared memory, or None.
    """

    def __init__(self, rank: int, told: Told, brought: Any, rows: np.ndarray | None) -> None:
        torch.set_num_threads(told.job.threads)
        self._share, self._told, self._brought, self._rows = Share(rank, told.count), told, brought, rows

    def machine(self) -> str:
        """The one that this is on, by Ray's name."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def meet(self, meeting: Meeting, store: dist.Store | None = None) -> None:
        """Form the group, make the workbench, and begin with the shards' parameters."""
        rank, told = self._share.rank, self._told
        with self._leaving():
            _join(meeting, self._share, store)
            self._bench = told.bring(self._brought, self._rows, self._share)
            self._replica = ReplicaActor(
                told.name, lambda *_: self._bench, None, None, told.shards[rank], told.cuts[rank], told.job
            )

    def work(self, order: Order) -> Report:
        """As of a replica; the first process's metrics stand for all."""
        with self._leaving():
            report = self._replica.work(order)
        return replace(report, metrics=[] if self._share.rank else report.metrics, exchanged=self._counted(report.exchanged))

    def rehearse(self, slot: int) -> float:
        """As of a replica."""
        with self._leaving():
            seconds = self._replica.rehearse(slot)
        self._bench.learner.tare()
        return seconds

    def flush(self) -> dict[str, int]:
        """As of a replica."""
        with self._leaving():
            return self._counted(self._replica.flush())

    def state(self) -> dict[str, np.ndarray]:
        """The whole learner's, on the first process."""
        with self._leaving():
            found = self._bench.learner.whole()
        return {} if self._share.rank else {name: tensor.detach().cpu().numpy() for name, tensor in found.items()}

    def pid(self) -> int:
        """The process's number."""
        return os.getpid()

    def _counted(self, exchanged: dict[str, int]) -> dict[str, int]:
        return {**exchanged, "border_bytes": self._bench.learner.received}

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        """Whoever fails leaves the group, so that nobody waits for it."""
        try:
            yield
        except BaseException:
            if hasattr(self, "_bench"):
                self._bench.learner.leave()
            elif dist.is_initialized():
                dist.destroy_process_group()
            raise


class Gang:
    """The first process, which stands for all.

    Args:
        told: see there.
        brought: as of every process.
        rows: likewise.
        others: the other processes, by rank.
    """

    def __init__(self, told: Told, brought: Any, rows: np.ndarray | None, others: Sequence[Any]) -> None:
        import ray

        self._ray, self._count, self._others = ray, told.count, others
        self._own = GangProcess(0, told, brought, rows)
        machines = self._together("machine")
        folder = tempfile.mkdtemp(prefix="striate-gang-") if len(set(machines)) == 1 else None
        meeting, store = _opened(folder, told.count)
        try:
            self._together("meet", meeting, own=partial(self._own.meet, meeting, store))
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _together(self, method: str, *arguments: Any, own: Callable[[], Any] | None = None) -> list[Any]:
        """Every process's answer to the same call, by rank.

        Raises:
            StriateError: one was lost, or failed: that one's words, not those of who lost it.
        """
        answers = [getattr(other, method).remote(*arguments) for other in self._others]
        try:
            first = own() if own else getattr(self._own, method)(*arguments)
            return [first, *self._ray.get(answers)]
        except Exception as error:
            raise self._reason(answers, error) from None

    def _reason(self, answers: Sequence[Any], noticed: Exception) -> Exception:
        self._ray.wait(list(answers), num_returns=len(answers), timeout=_LAST_WORDS_S)
        for rank, answer in enumerate(answers, start=1):
            if not self._ray.wait([answer], timeout=0)[0]:
                continue
            try:
                self._ray.get(answer)
            except self._ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, Lost):
                    kind = BadInput if isinstance(error.cause, BadInput) else StriateError
                    return kind(f"process {rank} of {self._count}: {cause(error)}")
            except self._ray.exceptions.RayError as error:
                return StriateError(f"process {rank} of {self._count}: {cause(error)}")
        return noticed

    def work(self, order: Order) -> Report:
        """A lease, learned from together."""
        reports: list[Report] = self._together("work", order)
        waited, unsaid = max(report.waited_s for report in reports), max(report.unsaid for report in reports)
        return replace(reports[0], waited_s=waited, exchanged=_sums([report.exchanged for report in reports]), unsaid=unsaid)

    def rehearse(self, slot: int) -> float:
        """Seconds of a step."""
        return float(max(self._together("rehearse", slot)))

    def flush(self) -> dict[str, int]:
        """Everybody sends what is left."""
        return _sums(self._together("flush"))

    def state(self) -> dict[str, np.ndarray]:
        """The whole learner's, put together."""
        whole: dict[str, np.ndarray] = self._together("state")[0]
        return whole

    def pid(self) -> int:
        """The first process's number; answers when all are ready."""
        return self._own.pid()

    def pids(self) -> list[int]:
        """The processes' numbers, by rank."""
        return self._together("pid")


def _sums(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    summed: Counter[str] = Counter()
    for one in counts:
        summed.update(one)
    return dict(summed)


def _opened(folder: str | None, count: int) -> tuple[Meeting, dist.Store | None]:
    """A place to meet, and what keeps it open. On one machine nothing listens for it."""
    if folder is not None:
        return Meeting(folder), None
    host = _own_address()
    store = dist.TCPStore(host, 0, count, is_master=True, wait_for_workers=False)
    return Meeting(None, host, store.port), store


def _loopback() -> str | None:
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)


def _own_address() -> str:
    """At which other machines of Ray's reach this one."""
    import ray

    return str(ray.util.get_node_ip_address())


def _join(meeting: Meeting, share: Share, store: dist.Store | None) -> None:
    # What is said on one machine is not to be heard on others. Between machines gloo would go by this one's name, to which many
    # systems give an address of the loopback.
    interface = _loopback() if meeting.folder is not None else interface_of(_own_address())
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    if meeting.folder is not None:
        store = dist.FileStore(str(Path(meeting.folder) / "store"), share.count)
    elif store is None:
        store = dist.TCPStore(meeting.host, meeting.port, share.count, is_master=False, wait_for_workers=False)
    with reached():
        dist.init_process_group("gloo", store=store, rank=share.rank, world_size=share.count)
