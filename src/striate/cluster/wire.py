"""Messages between the processes of a job, all of which make the same calls in the same order.

Two ways to move them: one collective for all, or a pair of messages for every two processes. On a processor's network (gloo)
collectives win by latency where messages are small and processes many, pairs by far where messages are large (Striate's
documentation has the numbers of one machine); `transport.py` measures where the change lies. NCCL sees to that itself.

Everything is started and waited for apart, so that products go on meanwhile; what arrives is counted, in bytes, here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from striate.cluster.profile import Profile
from striate.errors import StriateError


class Lost(StriateError):
    """Another process cannot be reached any more. Which one it is, a roll call tells (`parallel.py`)."""


class Broken(StriateError):
    """The job is over: a process was lost or failed.

    Args:
        message: which, and why.
        speaker: whether this process is the one to say it.
        exit_code: the failed process's.
    """

    def __init__(self, message: str, speaker: bool, exit_code: int = StriateError.exit_code) -> None:
        super().__init__(message)
        self.speaker, self.exit_code = speaker, exit_code


class Work(Protocol):
    """One message on its way."""

    def wait(self) -> object:
        """Until it is there."""


class Near(Protocol):
    """Another way to some of the others (`neighbours.py`)."""

    def __contains__(self, rank: int) -> bool:
        """Whether a process can be reached by it."""

    def send(self, tensor: Tensor, to: int) -> Work:
        """Begin to send."""

    def receive(self, tensor: Tensor, source: int) -> Work:
        """Begin to receive."""

    def leave(self) -> None:
        """Say that nothing more will come."""


class Arrival:
    """Messages on their way, and what must stay in memory until they are there."""

    def __init__(self, profile: Profile, works: Sequence[Work], incoming: list[Tensor], outgoing: Sequence[Tensor]) -> None:
        self._profile, self._works, self._incoming, self._outgoing = profile, works, incoming, outgoing

    def wait(self) -> list[Tensor]:
        """A message of every process, by rank, this one's own among them.

        Raises:
            Lost: one did not come.
        """
        with self._profile.part("waiting"), reached():
            for work in self._works:
                work.wait()
        self._works, self._outgoing = [], []
        return self._incoming


class Wire:
    """One process's end.

    Args:
        rank: this process, from 0.
        count: of how many.
        profile: where sending and waiting are counted.
        collective_up_to: messages of up to so many bytes to all go as one collective; the others in pairs.
        near: a shorter way to processes of this machine, for what is in memory and goes in pairs.
    """

    def __init__(
        self,
        rank: int = 0,
        count: int = 1,
        profile: Profile | None = None,
        collective_up_to: int = 0,
        near: Near | None = None,
    ) -> None:
        self.rank, self.count, self._near = rank, count, near
        self.profile = profile or Profile()
        self.collective_up_to = collective_up_to
        self.received = 0
        """Bytes that came from other processes, small talk (metrics, agreements) apart."""

    def leave(self) -> None:
        """Nothing more will come from here: whoever waits for this process is not to wait any longer."""
        if self._near is not None:
            self._near.leave()
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def gather(self, own: Tensor, lengths: Sequence[int]) -> Arrival:
        """Everybody's flat tensor to everybody.

        Args:
            own: this process's, contiguous; not to be changed before the others have it.
            lengths: of every process's, by rank.
        """
        if self.count == 1:
            return Arrival(self.profile, [], [own], [])
        longest = max(lengths) * own.element_size()
        if own.is_cuda or longest <= self.collective_up_to:
            return self._gather_at_once(own, lengths)
        return self.exchange([own] * self.count, lengths)

    def exchange(self, outgoing: Sequence[Tensor], lengths: Sequence[int]) -> Arrival:
        """A flat tensor of its own for everybody; nothing travels where a length is 0.

        Args:
            outgoing: what goes to every process, by rank; contiguous, of one format.
            lengths: of what comes from every process, by rank.
        """
        own = outgoing[self.rank]
        incoming = [own if rank == self.rank else own.new_empty(length) for rank, length in enumerate(lengths)]
        near = None if own.is_cuda else self._near
        operations: list[dist.P2POp] = []
        works: list[Work] = []
        with self.profile.part("sending"), reached():
            for distance in range(1, self.count):
                # Everybody begins with a neighbour of its own, so that no one is sent everything at once.
                to, source = (self.rank + distance) % self.count, (self.rank - distance) % self.count
                if outgoing[to].numel():
                    if near is not None and to in near:
                        works.append(near.send(outgoing[to], to))
                    else:
                        operations.append(dist.P2POp(dist.isend, outgoing[to], to))
                if lengths[source]:
                    self.received += incoming[source].nbytes
                    if near is not None and source in near:
                        works.append(near.receive(incoming[source], source))
                    else:
                        operations.append(dist.P2POp(dist.irecv, incoming[source], source))
            works += dist.batch_isend_irecv(operations) if operations else []
        return Arrival(self.profile, works, incoming, outgoing)

    def _gather_at_once(self, own: Tensor, lengths: Sequence[int]) -> Arrival:
        longest = max(lengths)
        padded = own if len(own) == longest else torch.cat([own, own.new_zeros(longest - len(own))])
        together = [torch.empty_like(padded) for _ in range(self.count)]
        self.received += (self.count - 1) * padded.nbytes
        with self.profile.part("sending"), reached():
            work = dist.all_gather(together, padded, async_op=True)
        incoming = [piece[:length] for piece, length in zip(together, lengths)]
        return Arrival(self.profile, [work] if work is not None else [], incoming, [padded])

    def total(self, values: Tensor) -> Tensor:
        """Sums over processes of a small tensor, changed in place."""
        return self.totals(values)()

    def totals(self, values: Tensor) -> Callable[[], Tensor]:
        """Begin to add up a small tensor over processes, changed in place; returns what waits for it."""
        with self.profile.part("sending"), reached():
            work = dist.all_reduce(values, async_op=True) if self.count > 1 else None

        def wait() -> Tensor:
            if work is not None:
                with self.profile.part("waiting"), reached():
                    work.wait()
            return values

        return wait

    def most(self, values: Tensor) -> Tensor:
        """Maxima over processes of a small tensor, changed in place."""
        if self.count > 1:
            with self.profile.part("waiting"), reached():
                dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def sum_everywhere(self, values: Tensor) -> Tensor:
        """Sums over processes of a large tensor, changed in place, its bytes counted as a ring would move them."""
        if self.count > 1:
            self.received += 2 * (self.count - 1) * values.nbytes // self.count
            with self.profile.part("waiting"), reached():
                dist.all_reduce(values)
        return values


@contextmanager
def reached() -> Iterator[None]:
    """Turn the engine's errors about a process that is gone into ours."""
    begun = time.monotonic()
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        if isinstance(error, StriateError):
            raise
        waited = time.monotonic() - begun
        raise Lost(f"another process cannot be reached any more, after {waited:.0f} s: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    """What happened, without the engine's place in its source and its advice."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].partition("] ")[2].partition(". This is")[0] or lines[0]
