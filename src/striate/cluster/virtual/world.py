"""Everybody, and the clock: minibatches handed out, a warm start, who takes part, looks at the parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from striate.cluster.clockwork import engine
from striate.cluster.flat import Flat
from striate.cluster.replica import Poisoned
from striate.cluster.server import Server, shards_of
from striate.cluster.shards import Shard
from striate.cluster.virtual.network import Events, Network
from striate.cluster.virtual.place import Place
from striate.cluster.virtual.team import Course, Look, Machines, Team
from striate.train.exchanged import Shareable

B = TypeVar("B")


def train(
    team: Team,
    machines: Machines,
    make: Callable[[], Shareable[B]],
    batch: Callable[[int], B],
    steps: int,
    look: Callable[[Any], float],
    every: int,
    seed: int = 0,
    until: float = -math.inf,
) -> Course:
    """Let a team learn, on imagined machines.

    Args:
        team: see there.
        machines: see there.
        make: a learner as it is at the start, another one at every call.
        batch: minibatches by number.
        steps: minibatches of all replicas together.
        look: at a learner with the shards' parameters.
        every: minibatches from look to look; there is one at the start, and one when everything is in the shards.
        seed: of how long steps take.
        until: no more minibatches are begun when a look's value is as low.

    Raises:
        BadInput: simpy is not installed.
    """
    return _World(team, machines, make, batch, steps, look, every, seed, until).run()


class _World(Generic[B]):
    """Everybody, and the clock."""

    def __init__(
        self,
        team: Team,
        machines: Machines,
        make: Callable[[], Shareable[B]],
        batch: Callable[[int], B],
        steps: int,
        look: Callable[[Any], float],
        every: int,
        seed: int,
        until: float,
    ) -> None:
        self._team, self._batch, self._steps = team, batch, steps
        self._look, self._every, self._until = look, every, until
        self._whole = make()
        self._flat = Flat(self._whole.exchanged())
        cuts = self._flat.cuts(team.shards)
        self._network = Network(engine(), machines, self._servers(cuts))
        self._clock = self._network.environment
        self._places = [Place(number, team, make(), self._network, cuts, seed) for number in range(team.replicas)]
        self._next = self._finished = 0
        self._warm = self._clock.event()
        self._here: set[str] = set()
        self._course = Course()

    def _servers(self, cuts: list[slice]) -> list[Server]:
        def shard(values: np.ndarray, number: int) -> Shard:
            return Shard(values, self._team.rule, self._flat.rows(cuts[number]), None, self._team.forget)

        return shards_of(self._flat.gather(self._flat.new()), cuts, shard, self._team.pace.rounds)

    def run(self) -> Course:
        """Until every minibatch was learned from, or nothing is finite any more."""
        alone = self._team.warm_start_steps > 0
        self._expect({place.name for place in (self._places[:1] if alone else self._places)})
        self._take_a_look()
        self._network.running = True
        for number, place in enumerate(self._places):
            self._clock.process(self._member(place, waits=alone and number > 0))
        self._clock.run()
        if math.isfinite(self._course.looks[-1].value):
            self._take_a_look()
        return self._counted()

    def _member(self, place: Place, waits: bool) -> Events[None]:
        if waits:
            yield self._warm
            self._expect(self._here | {place.name})
        try:
            if waits:
                yield from place.through(place.replica.catching_up())
            while (slot := self._slot()) is not None:
                # Draws and schedules go by the minibatch, whoever learns from it.
                place.replica.step_number = slot
                yield from place.through(place.replica.stepping(self._batch(slot)))
                self._learned()
            yield from place.through(place.replica.flushing())
        except Poisoned:
            self._gone_astray()
        self._expect(self._here - {place.name})
        self._course.seconds = self._clock.now

    def _slot(self) -> int | None:
        if self._next >= self._steps:
            return None
        self._next += 1
        return self._next - 1

    def _learned(self) -> None:
        self._finished += 1
        if self._finished == self._team.warm_start_steps:
            self._warm.succeed()
        if self._finished % self._every == 0:
            self._take_a_look()

    def _take_a_look(self) -> None:
        """At the parameters as they are now."""
        self._flat.scatter(torch.cat([desk.server.shard.values for desk in self._network.desks]))
        self._whole.refresh()
        value = self._look(self._whole)
        self._course.looks.append(Look(float(self._clock.now), self._finished, value))
        if not math.isfinite(value) or value <= self._until:
            self._next = self._steps

    def _gone_astray(self) -> None:
        self._course.looks.append(Look(float(self._clock.now), self._finished, math.nan))
        self._next = self._steps

    def _expect(self, members: set[str]) -> None:
        self._here = set(members)
        for desk in self._network.desks:
            desk.server.expect(self._here)
            desk.tell()

    def _counted(self) -> Course:
        course = self._course
        for desk in self._network.desks:
            course.staleness.update(desk.server.shard.staleness)
        for place in self._places:
            traffic = place.replica.traffic
            course.pulls, course.pushes = course.pulls + traffic.pulls, course.pushes + traffic.pushes
            course.moved_bytes += place.doors.pulled_bytes + place.doors.pushed_bytes
            course.waited_s += traffic.waited_s
        return course
