"""Slow replicas among others, on imagined machines of one clock: who waits for whom is known to the step."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from striate.cluster.asynchronous.actors import Job, Order, Report
from striate.cluster.asynchronous.crew import Crew
from striate.cluster.asynchronous.leases import READY, Leases
from striate.cluster.asynchronous.members import Members
from striate.cluster.compress import Packer
from striate.cluster.replica import Pace

_STEP_S, _SLOW_S, _LEASE_S, _TOTAL = 0.1, 1.0, 0.4, 3000


@dataclass(eq=False)
class Call:
    """On its way: what is answered, after how long a piece of work."""

    answer: Any
    takes_s: float


@dataclass(eq=False)
class Machine:
    """A replica that takes so long for a step, and answers one call after another.

    Attributes:
        busy_until_s: when it will have done what it does now.
        idle_s: it had nothing to do while there was something left to hand out.
    """

    clock: Clock
    step_s: float
    calls: deque[Call] = field(default_factory=deque)
    busy_until_s: float = 0.0
    idle_s: float = 0.0
    learned: int = 0

    def __getattr__(self, what: str) -> Any:
        return type("Method", (), {"remote": lambda _, *given: self._ask(what, *given)})()

    def _ask(self, what: str, order: Order | None = None) -> Call:
        if order is None:
            call = Call({} if what == "flush" else 1, 0.0)
        else:
            seconds = self.step_s * len(order.slots)
            call = Call(Report([{"loss": 1.0}] * len(order.slots), seconds, 0.0), seconds)
        if not self.calls:
            if order is not None and self.learned:
                self.idle_s += self.clock.now_s - self.busy_until_s
            self.busy_until_s = self.clock.now_s + call.takes_s
        self.calls.append(call)
        return call

    def done(self) -> Call:
        call = self.calls.popleft()
        if isinstance(call.answer, Report):
            self.learned += len(call.answer.metrics)
        if self.calls:
            self.busy_until_s += self.calls[0].takes_s
        return call


class Clock:
    """Machines by one clock; whoever is done first is heard first."""

    def __init__(self, *steps_s: float) -> None:
        self.now_s, self._left = 0.0, list(steps_s)
        self.machines: list[Machine] = []

    def begin(self, name: str) -> Machine:
        self.machines.append(Machine(self, self._left.pop(0)))
        return self.machines[-1]

    def placed(self, name: str) -> tuple[str, ...]:
        return ("here",)

    def machine(self, node: str) -> str:
        return node

    def machine_left(self, nodes: Sequence[str]) -> bool:
        return False

    def ready(self, references: list[Call], within_s: float) -> list[Call]:
        first = min((one for one in self.machines if one.calls), key=lambda one: one.busy_until_s)
        self.now_s = first.busy_until_s
        return [first.done()]

    def answer(self, reference: Call) -> Any:
        return reference.answer

    def end(self, name: str, actor: Machine) -> None: ...


def run(monkeypatch: pytest.MonkeyPatch, *steps_s: float) -> Clock:
    """All minibatches by replicas that take so long for a step, each."""
    monkeypatch.setattr("striate.cluster.asynchronous.members._ROOM_EVERY_S", 0.0)
    clock, count = Clock(*steps_s), len(steps_s)
    job = Job(Pace(), Packer(), gradients=True, threads=1)
    crew = Crew(count, 1, "sgd", job, 0.0, 0, Path(), 1.0, 30.0, least=count)
    members = Members(clock, crew, Leases(0, _TOTAL, 0), lambda names: None, lambda line: None)
    while not members.enough():
        members.collect()
    while not members.done:
        members.work()
    return clock


def test_a_replica_ten_times_slower_slows_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three learn as long as there is anything to learn from, and never wait: with a fourth of a tenth of the rate, or not."""
    alone, among = run(monkeypatch, *[_STEP_S] * 3), run(monkeypatch, *[_STEP_S] * 3, _SLOW_S)
    for clock in (alone, among):
        assert sum(one.learned for one in clock.machines) == _TOTAL
        assert all(one.idle_s == 0 for one in clock.machines)
    fast, slow = among.machines[:3], among.machines[3]
    # By rates 1 of 31 minibatches; its last leases are of one step each.
    share = _TOTAL / 31
    assert share - 1 <= slow.learned <= share + READY + 1
    # What it takes off the others' hands, they need not do: nobody does more than alone.
    assert max(one.learned for one in fast) <= max(one.learned for one in alone.machines)
    # All are waited for at the end: for what a slow one has still in hand, and no longer.
    assert among.now_s <= _TOTAL / (3 / _STEP_S + 1 / _SLOW_S) + READY * max(_SLOW_S, _LEASE_S)
