"""Messages between processes of one machine: bytes through memory that they share, a pipe each way to say that they are there.

The engine's own way between neighbours is TCP over the loopback, whose copies, and the thread that makes them, cost a tenth of
a step of tiles. Here a message is copied into the receiver's memory and out of it. Nothing has a name in a file system: memory
and pipes are opened through the other process's entry in /proc, and vanish with the last that has them open, however it ends.

Every process has an inbox with a ring for each neighbour (`ring.py`), and a pipe for each, on which it is told of bytes that
were written for it and of bytes of its own that were read. A pipe whose writer is gone says so at once. Whoever loses a
neighbour tells the others, who may be waiting for somebody else.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from striate.cluster.neighbour import Neighbour
from striate.cluster.parallel import DEFAULT_TIMEOUT_S, tell_all
from striate.cluster.ring import RingEnd
from striate.cluster.wire import Lost

_RING = 16 << 20
# A page, with the key by which an inbox is known.
_HEAD, _KEY = mmap.PAGESIZE, 32
# How long to look again and again before the kernel is asked to wake this process: shorter than a wake-up takes.
_EAGER_S = 1e-4


class Passing:
    """A message on its way."""

    def __init__(self, neighbours: Neighbours, one: Neighbour, done: Callable[[], bool]) -> None:
        self._neighbours, self._one, self._done = neighbours, one, done

    def wait(self) -> None:
        """Until it is there, or written, its memory free and the other told.

        Raises:
            Lost: the other process is gone, or has been silent for too long.
        """
        self._neighbours.until(self._one, self._done)


class Neighbours:
    """One process's end of what it shares with others of its machine.

    Args:
        others: by rank.
        timeout_s: how long to wait for one.
    """

    def __init__(self, others: Sequence[Neighbour], timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._others = {one.rank: one for one in others}
        self._by_pipe = {one.tells: one for one in others}
        self._timeout_s = timeout_s
        self._poll = select.poll()
        for pipe in self._by_pipe:
            self._poll.register(pipe, select.POLLIN)

    def __contains__(self, rank: int) -> bool:
        return rank in self._others

    def send(self, tensor: Tensor, to: int) -> Passing:
        """Begin to send a contiguous tensor, not to be changed before it is written."""
        one = self._others[to]
        number = one.sent + len(one.sending)
        one.sending.append(_bytes(tensor))
        one.advance()
        return Passing(self, one, lambda: one.sent > number and not one.untold[0])

    def receive(self, tensor: Tensor, source: int) -> Passing:
        """Begin to fill a contiguous tensor."""
        one = self._others[source]
        number = one.received + len(one.receiving)
        one.receiving.append(_bytes(tensor))
        return Passing(self, one, lambda: one.received > number)

    def leave(self) -> None:
        """Say that nothing more will come from here, though this process does not end."""
        for other in self._others.values():
            other.alarm()

    def until(self, one: Neighbour, done: Callable[[], bool]) -> None:
        """Go on with everything until something is done with one of them."""
        begun = time.monotonic()
        one.listen()
        one.advance()
        while not done():
            waited = time.monotonic() - begun
            if one.gone or self._alarmed or waited > self._timeout_s:
                raise self._lost(one, waited)
            self._hear(0 if waited < _EAGER_S else 1000)

    @property
    def _alarmed(self) -> bool:
        return any(other.alarmed for other in self._others.values())

    def _hear(self, most_ms: int) -> None:
        """What others tell; and tell those for whom there was no room."""
        untold = [other for other in self._others.values() if any(other.untold)]
        for other in untold:
            self._poll.register(other.hears, select.POLLOUT)
        ready = self._poll.poll(most_ms)
        for other in untold:
            self._poll.unregister(other.hears)
            other.advance()
        for pipe, _ in ready:
            if pipe in self._by_pipe:
                self._listen(pipe)

    def _listen(self, pipe: int) -> None:
        other = self._by_pipe[pipe]
        other.listen()
        other.advance()
        if other.gone:
            self._poll.unregister(pipe)

    def _lost(self, one: Neighbour, waited: float) -> Lost:
        self.leave()
        why = f"process {one.rank} has ended" if one.gone else "another was lost" if self._alarmed else "nothing came"
        return Lost(f"another process cannot be reached any more, after {waited:.0f} s: {why}")


def meet(rank: int, count: int, timeout_s: float = DEFAULT_TIMEOUT_S) -> Neighbours | None:
    """Find the processes of a job that run on this machine; all of them ask at the same time.

    Args:
        rank: this process.
        count: of how many.
        timeout_s: how long to wait for one.

    Returns:
        None where there are none, or where the system has no such memory; the engine's way serves everywhere.
    """
    if count == 1:
        return None
    inbox = Inbox.made(rank, count)
    told = [json.loads(text) for text in tell_all(json.dumps(None if inbox is None else inbox.address))]
    found = {} if inbox is None else inbox.opened({other: one for other, one in enumerate(told) if one and other != rank})
    reached = [set(json.loads(text)) for text in tell_all(json.dumps(sorted(found)))]
    # Everybody has opened what it could: from here on a pipe has one writer, and ends with it.
    if inbox is not None:
        inbox.let_go()
    both = [one for other, one in found.items() if rank in reached[other]]
    return Neighbours(both, timeout_s) if both else None


class Inbox:
    """Memory into which the others write, and the pipes on which they say so."""

    def __init__(self, rank: int, count: int) -> None:
        self._rank, self._key = rank, secrets.token_bytes(_KEY)
        self._file = os.memfd_create("striate-inbox")
        os.ftruncate(self._file, _HEAD + count * _RING)
        self._memory = mmap.mmap(self._file, _HEAD + count * _RING)
        self._memory[:_KEY] = self._key
        self._pipes = {other: os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) for other in range(count) if other != rank}

    @classmethod
    def made(cls, rank: int, count: int) -> Inbox | None:
        """One, where the system has such memory."""
        with suppress(AttributeError, OSError):
            return cls(rank, count)
        return None

    @property
    def address(self) -> dict[str, object]:
        """Where others of this machine find it."""
        pipes = {str(other): ends[1] for other, ends in self._pipes.items()}
        return {"process": os.getpid(), "memory": self._file, "pipes": pipes, "key": self._key.hex()}

    def opened(self, addresses: dict[int, dict]) -> dict[int, Neighbour]:
        """The others that are of this machine, and may be opened."""
        found = {}
        for other, address in addresses.items():
            with suppress(OSError, ValueError):
                found[other] = self._opened(other, address)
        return found

    def _opened(self, other: int, address: dict) -> Neighbour:
        there = Path("/proc", str(address["process"]), "fd")
        with (there / str(address["memory"])).open("r+b") as file:
            if file.read(_KEY).hex() != address["key"]:
                raise ValueError("the inbox of somebody else")
            theirs = mmap.mmap(file.fileno(), _RING, offset=_HEAD + self._rank * _RING)
        hears = os.open(there / str(address["pipes"][str(self._rank)]), os.O_WRONLY | os.O_NONBLOCK)
        own = np.frombuffer(self._memory, np.uint8, _RING, _HEAD + other * _RING)
        return Neighbour(
            other, RingEnd(np.frombuffer(theirs, np.uint8), True), RingEnd(own, False), hears, self._pipes[other][0]
        )

    def let_go(self) -> None:
        """Close the writing ends of own pipes, which the others have opened for themselves."""
        for _, writes in self._pipes.values():
            os.close(writes)


def _bytes(tensor: Tensor) -> np.ndarray:
    return tensor.detach().view(-1).view(torch.uint8).numpy()
