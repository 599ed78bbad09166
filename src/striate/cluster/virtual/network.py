"""Shards behind queues, and messages that take their time: what a replica's doors lead to where machines are imagined."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from types import ModuleType
from typing import Any, Generic, TypeVar

from striate.cluster.compress import Packed
from striate.cluster.server import Message, Server, Values
from striate.cluster.shards import Receipt, Version
from striate.cluster.virtual.team import Machines

T = TypeVar("T")
Events = Generator[Any, Any, T]


class Answer(Generic[T]):
    """What is on its way to a replica: there when the clock has brought it."""

    def __init__(self) -> None:
        self._there: list[T] = []

    def bring(self, value: T) -> None:
        """It came."""
        self._there.append(value)

    def ready(self, within_s: float = 0.0) -> bool:
        """Whether it did; nobody waits here."""
        return bool(self._there)

    def get(self) -> T:
        """It."""
        return self._there[0]


class Desk:
    """A shard, and the queues before it: of updates, and of its connection each way."""

    def __init__(self, simpy: Any, environment: Any, server: Server) -> None:
        self.server = server
        self.updates, self.incoming, self.outgoing = (simpy.Resource(environment, 1) for _ in range(3))
        self._environment = environment
        self.changed = environment.event()

    def tell(self) -> None:
        """Whoever waits for a round looks again."""
        done, self.changed = self.changed, self._environment.event()
        done.succeed()


class Network:
    """What all messages go through.

    Args:
        simpy: the library of events.
        machines: what things take.
        servers: the shards.
    """

    def __init__(self, simpy: ModuleType, machines: Machines, servers: list[Server]) -> None:
        self.environment, self.machines, self.running = simpy.Environment(), machines, False
        self.desks = [Desk(simpy, self.environment, server) for server in servers]
        self._size = sum(len(server.shard) for server in servers)

    def share(self, desk: Desk) -> float:
        """Of the whole model, what a shard has."""
        return len(desk.server.shard) / self._size

    def carry(self, connection: Any, size: int) -> Events[None]:
        """A message through the shard's connection, which it holds, and the replica's, which its messages share."""
        machines = self.machines
        taken_s = size / (machines.shard_bandwidth or machines.bandwidth)
        if taken_s:
            with connection.request() as turn:
                yield turn
                yield self.environment.timeout(taken_s)
        if (more_s := len(self.desks) * size / machines.bandwidth - taken_s) > 0:
            yield self.environment.timeout(more_s)


class Doorstep:
    """A replica's side of its messages: a bell that rings when something comes, and the time it owes for copying.

    Args:
        environment: the clock.
    """

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self.bell, self.owed_s = environment.event(), 0.0

    def ring(self) -> None:
        """Something came."""
        bell, self.bell = self.bell, self._environment.event()
        bell.succeed()


class Door:
    """One shard, as a replica's messages reach it. Before the clock runs everything is at hand."""

    def __init__(self, network: Network, desk: Desk, doorstep: Doorstep) -> None:
        self._network, self._desk, self._doorstep = network, desk, doorstep

    def pull(self, known: Version | None) -> Answer[Values]:
        """Its values."""
        answer: Answer[Values] = Answer()
        if self._network.running:
            self._network.environment.process(self._fetch(known, answer))
        else:
            answer.bring(self._copied(known))
        return answer

    def push(self, message: Message) -> Answer[Receipt]:
        """To it; what is sent is copied before this returns."""
        answer: Answer[Receipt] = Answer()
        self._network.environment.process(self._bring(*self._handed_over(message), answer, back=False))
        return answer

    def swap(self, message: Message) -> Answer[tuple[Receipt, Values]]:
        """Both."""
        answer: Answer[tuple[Receipt, Values]] = Answer()
        self._network.environment.process(self._bring(*self._handed_over(message), answer, back=True))
        return answer

    def _handed_over(self, message: Message) -> tuple[Message, float]:
        """The message for itself, and in how many seconds it leaves."""
        packed = message.packed
        own = Packed(packed.kind, tuple(array.copy() for array in packed.arrays), packed.size)
        self._doorstep.owed_s += self._network.machines.copy_s * self._network.share(self._desk)
        return replace(message, packed=own), self._doorstep.owed_s

    def _fetch(self, known: Version | None, answer: Answer[Values]) -> Events[None]:
        yield self._network.environment.timeout(self._network.machines.latency_s)
        with self._desk.updates.request() as turn:
            yield turn
            found = self._copied(known)
        yield from self._network.carry(self._desk.outgoing, 0 if found.values is None else found.values.nbytes)
        self._arrived(answer, found)

    def _bring(self, message: Message, leaves_s: float, answer: Answer[Any], back: bool) -> Events[None]:
        network, desk = self._network, self._desk
        yield network.environment.timeout(leaves_s + network.machines.latency_s)
        yield from network.carry(desk.incoming, message.packed.nbytes)
        with desk.updates.request() as turn:
            yield turn
            if took_s := network.machines.update_s * network.share(desk):
                yield network.environment.timeout(took_s)
            receipt = desk.server.push(message)
        desk.tell()
        if not back:
            self._arrived(answer, receipt)
            return
        while desk.server.waits_for(message.replica):
            yield desk.changed
        found = self._copied(None)
        yield network.environment.timeout(network.machines.latency_s)
        yield from network.carry(desk.outgoing, 0 if found.values is None else found.values.nbytes)
        self._arrived(answer, (receipt, found))

    def _copied(self, known: Version | None) -> Values:
        version, values = self._desk.server.pull(known)
        return Values(version, None if values is None else values.copy())

    def _arrived(self, answer: Answer[T], value: T) -> None:
        answer.bring(value)
        self._doorstep.ring()
