"""One shard as replicas reach it: messages in, answers out; and the same within one process, for tests and small trials.

The transport (`striate.cluster.asynchronous`, or none) carries messages and waits; what they do is all here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from striate.cluster.compress import Packed, Packer
from striate.cluster.pauses import Waiting
from striate.cluster.replica import Pulled, Sent
from striate.cluster.rounds import Rounds
from striate.cluster.shards import Push, Receipt, Shard, Version, as_tensor
from striate.train.updates import Rates

T = TypeVar("T")


@dataclass(frozen=True)
class Message:
    """A push to one shard as it travels; see `striate.cluster.shards.Push`."""

    replica: str
    sequence: int
    base: Version
    rates: Rates
    packed: Packed
    steps: int = 1


class Values(NamedTuple):
    """A shard's answer to a pull; no values where the caller has them."""

    version: Version
    values: np.ndarray | None


class Server:
    """A shard, alone in its pace or in rounds.

    Args:
        shard: see there.
        rounds: whether a push waits for all members'.
    """

    def __init__(self, shard: Shard, rounds: bool = False) -> None:
        self.shard, self.rounds = shard, Rounds(shard) if rounds else None

    def pull(self, known: Version | None) -> Values:
        """The values, not a copy."""
        return Values(*self.shard.pull(known))

    def push(self, message: Message) -> Receipt:
        """Apply a push, or take it into the round."""
        push = Push(message.replica, message.sequence, message.base, message.rates, message.packed.unpacked(), message.steps)
        return self.shard.push(push) if self.rounds is None else self.rounds.push(push)

    def waits_for(self, replica: str) -> bool:
        """Whether a replica's push is in a round that is not done."""
        return self.rounds is not None and self.rounds.waits_for(replica)

    def expect(self, members: Collection[str]) -> None:
        """Who takes part in rounds."""
        if self.rounds is not None:
            self.rounds.expect(members)

    def counted(self) -> dict[str, Any]:
        """Updates, refusals, repeats, losses and staleness so far."""
        return self.shard.counted()


class Door(Protocol):
    """One shard, wherever it is."""

    def pull(self, known: Version | None) -> Waiting[Values]:
        """Its values."""
        ...

    def push(self, message: Message) -> Waiting[Receipt]:
        """To it."""
        ...

    def swap(self, message: Message) -> Waiting[tuple[Receipt, Values]]:
        """Both, the round between them."""
        ...


class All(Generic[T]):
    """Answers of several, as one.

    Args:
        answers: waited for in this order.
        join: makes one of them.
    """

    def __init__(self, answers: Sequence[Waiting[Any]], join: Callable[[list[Any]], T]) -> None:
        self._answers, self._join = answers, join

    def ready(self, within_s: float = 0.0) -> bool:
        """Whether all are."""
        until = time.monotonic() + within_s
        return all(answer.ready(max(0.0, until - time.monotonic())) for answer in self._answers)

    def get(self) -> T:
        """All, joined."""
        return self._join([answer.get() for answer in self._answers])


class Doors:
    """All shards as one replica reaches them: `striate.cluster.replica.ParameterShards`.

    Args:
        doors: one a shard.
        cuts: their parts of the flat vector.
        replica: who sends; its pushes are numbered from 1, so a replica that takes a lost one's place needs a name of its own.
        packer: makes updates smaller.
    """

    def __init__(self, doors: Sequence[Door], cuts: Sequence[slice], replica: str, packer: Packer | None = None) -> None:
        self._doors, self._cuts, self._replica = doors, cuts, replica
        self._packer = packer or Packer()
        self._sequence, self.pulled_bytes, self.pushed_bytes = 0, 0, 0
        # One of several processes may have no shard.
        self._values = torch.empty(cuts[-1].stop if cuts else 0)

    def pull(self, known: tuple[Version, ...] | None) -> Waiting[Pulled]:
        """From all."""
        asked = known or (None,) * len(self._doors)
        return All([door.pull(version) for door, version in zip(self._doors, asked)], self._joined)

    def push(self, sent: Sent) -> Waiting[list[Receipt]]:
        """To all."""
        answers = [door.push(message) for door, message in zip(self._doors, self._messages(sent))]
        self._packer.settle(sent.update)
        return All(answers, list)

    def swap(self, sent: Sent) -> Waiting[tuple[list[Receipt], Pulled]]:
        """With all."""
        answers = [door.swap(message) for door, message in zip(self._doors, self._messages(sent))]
        self._packer.settle(sent.update)
        return All(answers, lambda found: ([receipt for receipt, _ in found], self._joined([values for _, values in found])))

    def _messages(self, sent: Sent) -> list[Message]:
        self._sequence += 1
        made = []
        for cut, base in zip(self._cuts, sent.base):
            packed = self._packer.pack(sent.update[cut])
            self.pushed_bytes += packed.nbytes
            made.append(Message(self._replica, self._sequence, base, sent.rates, packed, sent.steps))
        return made

    def _joined(self, found: Sequence[Values]) -> Pulled:
        newer = not found
        for cut, one in zip(self._cuts, found):
            if one.values is not None:
                newer = True
                self.pulled_bytes += one.values.nbytes
                self._values[cut].copy_(as_tensor(one.values))
        return Pulled(tuple(one.version for one in found), self._values if newer else None)


class Near:
    """A shard in this process; several replicas may be threads of it."""

    def __init__(self, server: Server) -> None:
        self.server, self._changed = server, threading.Condition()

    def pull(self, known: Version | None) -> Waiting[Values]:
        """At once."""
        with self._changed:
            return Now(self._copied(known))

    def push(self, message: Message) -> Waiting[Receipt]:
        """At once."""
        with self._changed:
            receipt = self.server.push(message)
            self._changed.notify_all()
            return Now(receipt)

    def swap(self, message: Message) -> Waiting[tuple[Receipt, Values]]:
        """When the round is done, which others of this process must see to."""
        with self._changed:
            receipt = self.server.push(message)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self.server.waits_for(message.replica))
            return Now((receipt, self._copied(None)))

    def expect(self, members: Collection[str]) -> None:
        """Who takes part in rounds."""
        with self._changed:
            self.server.expect(members)
            self._changed.notify_all()

    def _copied(self, known: Version | None) -> Values:
        version, values = self.server.pull(known)
        return Values(version, None if values is None else values.copy())


class Now(Generic[T]):
    """An answer that is there."""

    def __init__(self, value: T) -> None:
        self._value = value

    def ready(self, within_s: float = 0.0) -> bool:
        """Yes."""
        return True

    def get(self) -> T:
        """It."""
        return self._value


def shards_of(
    values: Tensor, cuts: Sequence[slice], make: Callable[[np.ndarray, int], Shard], rounds: bool = False
) -> list[Server]:
    """Servers of a flat vector's parts."""
    return [Server(make(values[cut].numpy(), number), rounds) for number, cut in enumerate(cuts)]
