"""A replica's place among imagined machines: its own work, driven by their clock."""

from __future__ import annotations

from typing import Any, TypeVar

from striate.cluster.clockwork import step_length
from striate.cluster.pauses import Coming, Learned, Pause, Work
from striate.cluster.replica import Replica
from striate.cluster.server import Doors
from striate.cluster.virtual.network import Door, Doorstep, Events, Network
from striate.cluster.virtual.team import Team
from striate.draws import generator

T = TypeVar("T")


class Place:
    """One replica's.

    Args:
        number: of the replica.
        team: see there.
        learner: its own.
        network: to the shards.
        cuts: their parts of the parameters.
        seed: of how long its steps take.
    """

    def __init__(self, number: int, team: Team, learner: Any, network: Network, cuts: list[slice], seed: int) -> None:
        self.name, self._network, self._machines = f"{number}", network, network.machines
        self._random = generator(seed, "replica", number)
        self._factor = self._machines.slower if number < round(self._machines.slow * team.replicas) else 1.0
        self._step = Doorstep(network.environment)
        doors = [Door(network, desk, self._step) for desk in network.desks]
        self.doors = Doors(doors, cuts, self.name, team.packer)
        clock = network.environment
        self.replica: Replica[Any] = Replica(
            learner, self.doors, team.pace, gradients=team.gradients, clock=lambda: float(clock.now)
        )

    def through(self, work: Work[T]) -> Events[T]:
        """Do a piece of the replica's work, by the imagined clock."""
        told: Any = None
        while True:
            try:
                pause = work.send(told)
            except StopIteration as done:
                yield from self._pay()
                result: T = done.value
                return result
            told = yield from self._passed(pause)

    def _passed(self, pause: Pause) -> Events[Any]:
        environment, machines = self._network.environment, self._machines
        if isinstance(pause, Learned):
            yield environment.timeout(step_length(machines.step_s, machines.jitter, self._random) * self._factor)
            return None
        if isinstance(pause, Coming):
            until = environment.now + pause.within_s
            while not pause.waiting.ready():
                if environment.now >= until:
                    return False
                yield environment.any_of([self._step.bell, environment.timeout(until - environment.now)])
            return True
        yield from self._pay()
        while not pause.waiting.ready():
            yield self._step.bell
        answer = pause.waiting.get()
        if getattr(answer, "values", None) is not None or isinstance(answer, tuple):
            self._step.owed_s += machines.copy_s
        yield from self._pay()
        return answer

    def _pay(self) -> Events[None]:
        owed, self._step.owed_s = self._step.owed_s, 0.0
        if owed:
            yield self._network.environment.timeout(owed)
