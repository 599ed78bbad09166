"""A pool of Ray's tasks: work on the parts of a store, each done by whoever is free, results in order.

Any number of workers gives the same: parts are cut by the work, and results are taken in the parts' order. A part that was lost
with its worker (or machine) is done again, at least once in all, and its result used once. So many parts are on their way at a
time, and so much memory is used, whatever the store's size. Work that goes by a store's path needs it there on every machine.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from striate.cluster.asynchronous.engine import ray_cluster
from striate.cluster.chores import Chore, Done, carry_out, own_versions, pack
from striate.errors import BadInput, StriateError

In = TypeVar("In")
Out = TypeVar("Out")

# An item that was lost so often is taken for the cause.
_TRIES = 3
# Items on their way or waiting for those before them, for each that may be under way.
_READY = 2
# Machines come and go: how often they are counted, and how long nobody may be there.
_COUNT_EVERY_S, _PATIENCE_S = 5.0, 60.0
_NUMBERS = itertools.count()


@dataclass
class _Errand:
    """An item on its way."""

    item: Any
    reference: Any
    tries: int = 1
    done: Done | None = None


class Pool:
    """Workers of a cluster, as a `striate.images.work.Each`.

    Args:
        ray: connected.
        workers: so many items are worked on at a time; None: as many as the cluster has room for.
        threads: of products, in each.
        device: `cuda`: each needs a GPU of its own; `auto`: if the cluster has any; `cpu`.

    Attributes:
        ray: the connection.
        device: what they compute on.
        lost: how often an item was lost with its worker.

    Raises:
        BadInput: the cluster has no processor, or no GPU, for them.
    """

    def __init__(self, ray: ModuleType, workers: int | None = None, threads: int = 1, device: str = "cpu") -> None:
        self.ray, self._asked, self._threads = ray, workers, threads
        self._gpu = device.startswith("cuda") or (device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
        self.device = "cuda" if self._gpu else "cpu"
        self._task = ray.remote(carry_out)
        self.lost = 0
        self._counted_s = self._there_s = float("-inf")
        if self._room() == 0:
            raise BadInput(f"the Ray cluster has no {'GPU' if self._gpu else 'processor'} to work on: see `ray status`")

    def _room(self) -> int:
        """How many items the cluster can work on at a time, as it is now."""
        now = time.monotonic()
        if now - self._counted_s > _COUNT_EVERY_S:
            there = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
            # A machine of fewer processors than the driver has threads takes one item, too.
            self._share = max(1, min([self._threads, *(int(one["CPU"]) for one in there if one.get("CPU", 0) >= 1)]))
            each = [min(one.get("CPU", 0) // self._share, one.get("GPU", 0) if self._gpu else 1 << 30) for one in there]
            self._places, self._counted_s = int(sum(each)), now
        if self._places:
            self._there_s = now
        return self._places

    def _most(self) -> int:
        """How many items may be under way: two a worker, that none waits for the driver, unless processors are to stay free."""
        room = self._room()
        wanted = self._asked or max(1, room)
        return wanted if wanted < room else 2 * wanted

    def __call__(
        self, work: Callable[[In], Out], items: Iterable[In], otherwise: Callable[[In], Out] | None = None
    ) -> Iterator[tuple[In, Out]]:
        """Each item and its result, in order. All are pickled; arrays in results cannot be written to.

        Raises:
            StriateError: what the work raised for the first item, in order, for which it did; or an item ended its workers.
        """
        chore = Chore(f"{os.getpid()}.{next(_NUMBERS)}", [self.ray.put(pack(work))], self._threads, own_versions())
        waiting: deque[_Errand] = deque()
        left = iter(items)
        try:
            while True:
                self._receive(chore, waiting, 0.0)
                self._send(chore, left, waiting)
                if not waiting:
                    return
                while (done := waiting[0].done) is None:
                    self._receive(chore, waiting, _COUNT_EVERY_S)
                    self._send(chore, left, waiting)
                errand = waiting.popleft()
                if done is _LOST:
                    yield errand.item, _given_up(errand, otherwise)
                elif done.error is not None:
                    raise done.error
                else:
                    yield errand.item, done.result
        finally:
            for errand in waiting:
                if errand.done is None:
                    self.ray.cancel(errand.reference, force=True)

    def _send(self, chore: Chore, left: Iterator[In], waiting: deque[_Errand]) -> None:
        """Hand out items while there is room for them."""
        most = self._most()
        busy = sum(errand.done is None for errand in waiting)
        while busy < most and len(waiting) < _READY * most:
            for item in left:
                waiting.append(_Errand(item, self._begin(chore, item)))
                busy += 1
                break
            else:
                return

    def _begin(self, chore: Chore, item: Any) -> Any:
        options = {"num_cpus": self._share, "num_gpus": int(self._gpu), "max_retries": 0, "scheduling_strategy": "SPREAD"}
        return self._task.options(**options).remote(chore, item)

    def _receive(self, chore: Chore, waiting: deque[_Errand], within_s: float) -> None:
        """Take what has come, or comes within a time; what was lost is begun again."""
        busy = {errand.reference: errand for errand in waiting if errand.done is None}
        if not busy:
            return
        came, _ = self.ray.wait(list(busy), num_returns=1 if within_s else len(busy), timeout=within_s)
        for reference in came:
            errand = busy[reference]
            errand.done = self._taken(reference)
            if errand.done is _LOST:
                self.lost += 1
                if errand.tries < _TRIES:
                    errand.tries, errand.reference, errand.done = errand.tries + 1, self._begin(chore, errand.item), None
        if self._room() == 0 and time.monotonic() - self._there_s > _PATIENCE_S:
            raise StriateError(f"the Ray cluster has had nobody to work for {_PATIENCE_S:.0f} s: see `ray status`")

    def _taken(self, reference: Any) -> Done:
        lost = self.ray.exceptions
        try:
            return Done(*self.ray.get(reference))
        except (lost.WorkerCrashedError, lost.NodeDiedError, lost.ObjectLostError, lost.OutOfMemoryError):
            return _LOST


_LOST = Done(None, StriateError("lost with its worker"))


def _given_up(errand: _Errand, otherwise: Callable[[Any], Any] | None) -> Any:
    """An item that was lost each time, done some other way."""
    if otherwise is None:
        raise StriateError(
            f"the same piece of work was lost {errand.tries} times with its workers: they may be short of memory "
            "(fewer --workers), or the machines go away"
        )
    return otherwise(errand.item)


@contextmanager
def pool(address: str, workers: int | None, threads: int = 1, device: str = "cpu") -> Iterator[Pool]:
    """Workers, for as long as they are needed.

    Args:
        address: of a running Ray cluster, HOST:PORT or `auto`; `local` starts one here.
        workers: see `Pool`; of a local one, by default as many as this machine has processors for.
        threads: of products, in each.
        device: see `Pool`.

    Raises:
        BadInput: Ray is not installed, nobody answers, or there is nobody to work.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    here = address == "local"
    if here and workers is None:
        workers = max(1, cores // threads)
    processors = (workers or 1) * threads
    answer = signal.getsignal(signal.SIGTERM)
    with ray_cluster(None if here else address, processors) as ray:
        if threading.current_thread() is threading.main_thread():
            # Ray would end the process, and say nothing of what is saved.
            signal.signal(signal.SIGTERM, answer)
        yield Pool(ray, workers, threads, device)
