"""The driver's side: a learner whose steps are made by replicas, each somewhere else and at its own pace.

To the loop it is a learner like any other: a step is a minibatch that some replica has learned from. Minibatches are numbered
over the whole run, and handed out in leases; so every epoch's order is shared by however many replicas there are, slow ones get
fewer, what was lost with one, or with a shard, is handed out again, and random draws and schedules, which go by the number, are
whoever's. A run ends when every shard has had as many minibatches as were asked for. A checkpoint is the shards' values in the
learner's own form: it knows neither replicas nor shards.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from striate.cluster.asynchronous.actors import Workbench
from striate.cluster.asynchronous.causes import cause
from striate.cluster.asynchronous.crew import Crew as Crew
from striate.cluster.asynchronous.crew import Slots as Slots
from striate.cluster.asynchronous.holders import Holders
from striate.cluster.asynchronous.leases import Leases
from striate.cluster.asynchronous.member import Stage
from striate.cluster.asynchronous.members import Members
from striate.cluster.asynchronous.plan import Plan
from striate.cluster.asynchronous.starting import Starter
from striate.cluster.flat import Flat
from striate.cluster.rules import RULES
from striate.errors import BadInput, Diverged, StriateError
from striate.train.exchanged import Exchanged, Shareable

# Looking at the parameters may take such a share of the time.
_LOOKING = 0.05
_PULSE_S = 1.0
_WAITING_SAID_S = 5.0


class Fleet:
    """All replicas as one learner.

    Args:
        whole: the driver's own copy of the learner: what checkpoints and pictures are made of.
        crew: see there.
        ray: connected.
        bring: makes a replica's workbench in its process.
        brought: what that needs; called with the learner's last saved state, which replicas begin with.
        rows: a reference to prepared pictures, or None.
        total_steps: of the run.
        batch_size: pictures in a minibatch.
        say: told of who comes and goes.
        pulse: called about every second, with the fleet: to change what is wanted, and to tell how it goes.
        sections: of what the learner exchanges what each process of a replica holds; None: one process holds all.
        border_bytes: what each of them receives from the others in a step.
    """

    finished = False

    def __init__(
        self,
        whole: Any,
        crew: Crew,
        ray: ModuleType,
        bring: Callable[..., Workbench],
        brought: Callable[[Mapping[str, Tensor]], Any],
        rows: Any,
        total_steps: int,
        batch_size: int,
        say: Callable[[str], None],
        pulse: Callable[[Fleet], None] | None = None,
        sections: Sequence[Sequence[Exchanged]] | None = None,
        border_bytes: Sequence[int] = (),
    ) -> None:
        self.whole, self.crew, self._ray, self._brought, self._pulse = whole, crew, ray, brought, pulse
        self._total, self.batch_size, self._say = total_steps, batch_size, say
        sections = sections or [_shareable(whole).exchanged()]
        self.flat = Flat([one for section in sections for one in section])
        self._sizes, self._border_bytes = [sum(one.size for one in section) for section in sections], tuple(border_bytes)
        self.shards = Holders(ray, crew, whole, self.flat, self._sizes)
        self._starter = Starter(ray, crew, bring, self._told, rows, self.shards)
        self.members: Members
        self._begun = False
        self.step_number: int = whole.step_number
        self.dtype: torch.dtype = whole.dtype
        self._done: deque[dict[str, float]] = deque()
        self._fresh_s, self._fresh_took_s, self._poisoned, self._pulsed_s = 0.0, 0.0, 0, 0.0
        self._ticket: Any = None
        self.plan: Plan | None = None

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Begin from a saved state: shards get its parameters, replicas the rest."""
        self.whole.load_state(state)
        self.step_number = self.whole.step_number
        self._rest = {name: tensor.clone() for name, tensor in self.whole.state().items()}
        self.shards.begin(state)
        self._leases = Leases(self.step_number, self._total, self.crew.warm_start_steps)
        self.members = Members(self._starter, self.crew, self._leases, self.shards.expect, self._say)
        self._begun = True
        self._wait_for_enough()
        if len(self.members):
            self.plan = self._taken(self._measured())
            for line in self.plan.lines():
                self._say(line)

    def _taken(self, plan: Plan) -> Plan:
        """With the interval that it advises, where that is what is wanted: everybody's next order says so."""
        if self.crew.take is None:
            return plan
        every = self.crew.take(plan.advised_interval)
        self.crew = self.members.crew = replace(self.crew, every=every)
        return replace(plan, taken=plan.advised_interval, pull_every=every[0], push_every=every[1])

    def _measured(self) -> Plan:
        """How long a step and exchanges take, on the first replica and from here."""
        first = self.members.at(Stage.HERE)[0]
        try:
            first.step_s = step_s = self._ray.get(first.actor.rehearse.remote(self._leases.first))
        except self._ray.exceptions.RayError as error:
            raise StriateError(f"replica {first.place}: {cause(error)}") from None
        pace, memories = self.crew.job.pace, RULES[self.crew.rule].memories
        counts = (self.flat.size, memories, len(self.members), len(self.shards.cuts), pace.pull_every, pace.push_every)
        pull_s, push_s, update_s = self.shards.exchange_s()
        plan = Plan(*counts, step_s, pull_s, push_s, update_s, rounds=pace.rounds, taken=self.crew.taken)
        if len(self._sizes) == 1:
            return plan
        # Processes exchange at the same time; the one that has most takes longest.
        share, held = max(self._sizes) / self.flat.size, tuple(self._sizes)
        return replace(plan, pull_s=share * pull_s, push_s=share * push_s, held=held, border_bytes=self._border_bytes)

    def _wait_for_enough(self) -> None:
        begun, said = time.monotonic(), False
        while not self.members.enough():
            self.members.collect()
            self._beat()
            waiting, wanted = self.members.at(Stage.WAITING), self.members.wanted
            short = len(self.members) - len(waiting) < wanted.least
            if short and not said and time.monotonic() - begun > _WAITING_SAID_S:
                said, cores = True, self.crew.job.threads
                self._say(
                    f"waiting for {wanted.least} replicas: {len(waiting)} find no room ({cores} cores each); start machines, "
                    "or change what is wanted with `striate replicas`"
                )

    def _told(self) -> Any:
        """What a replica's process is told, put where all of them find it."""
        if self._ticket is None:
            self._ticket = self._ray.put(self._brought(self._rest))
        return self._ticket

    def _beat(self) -> None:
        if self._pulse is not None and time.monotonic() - self._pulsed_s > _PULSE_S:
            self._pulsed_s = time.monotonic()
            self._pulse(self)

    def step(self, slot: int) -> dict[str, Tensor]:
        """The next minibatch that some replica has learned from, with its metrics; the last when all that was learned is there.

        Raises:
            StriateError: replicas die as soon as they begin.
            Diverged: what they learn is not finite any more.
        """
        self._beat()
        while not self._done:
            self._take(self.members.work())
            self._beat()
        self.step_number += 1
        if self.step_number >= self._total:
            self._complete()
        return {name: torch.tensor(value) for name, value in self._done.popleft().items()}

    def _complete(self) -> None:
        """Wait until every shard has had all minibatches; those that were lost on the way are learned from again."""
        self._counted()
        while not self.members.done:
            self._take(self.members.work())
            self._beat()
            if self.members.done:
                self._counted()

    def _take(self, metrics: Sequence[dict[str, float]]) -> None:
        self._count_poisoned(metrics)
        self._done.extend(metrics)

    def _count_poisoned(self, metrics: Sequence[Mapping[str, float]]) -> None:
        for one in metrics:
            self._poisoned = 0 if one else self._poisoned + 1
        if self._poisoned > 50 * max(1, len(self.members)):
            raise Diverged("no minibatch gives finite numbers any more: lower train.learning_rate or cluster.exchange.rate")

    def freshen(self, always: bool = True) -> None:
        """The shards' parameters into the driver's copy, unless that was done a moment ago."""
        begun = time.monotonic()
        if not always and _LOOKING * (begun - self._fresh_s) < self._fresh_took_s:
            return
        self.shards.pull()
        self._fresh_s = time.monotonic()
        self._fresh_took_s = self._fresh_s - begun

    def diagnose(self) -> dict[str, float]:
        """The learner's readings, images a second of each replica, how stale their pushes are, what was refused or lost."""
        self.freshen(always=False)
        self.whole.step_number = self.step_number
        found: dict[str, float] = dict(self.whole.diagnose())
        for place, rate in self.members.steps_per_s().items():
            found[f"images_per_s_{place}"] = rate * self.batch_size
        told, staleness = self._counted()
        pushes = max(staleness.total(), 1)
        return found | {
            "staleness_mean": sum(value * count for value, count in staleness.items()) / pushes,
            "staleness_most": float(max(staleness, default=0)),
            "pushes_refused": float(told["refused"]),
            "pushes_lost": float(told["lost"]),
            "replicas": float(len(self.members.at(Stage.HERE, Stage.LEAVING))),
            "replicas_lost": float(self.members.losses.failed),
            **self.shards.loads.readings(),
        }

    def counted(self) -> dict[str, Any]:
        """What all shards and replicas have counted: for the run's record."""
        told, staleness = self._counted()
        return {
            **told,
            **self.members.exchanged(),
            "staleness": {str(value): count for value, count in sorted(staleness.items())},
            "replicas_lost": self.members.losses.failed,
            "machines_left": self.members.losses.gone,
            "minibatches_redone": self._leases.redone,
        }

    def _counted(self) -> tuple[dict[str, int], Counter[int]]:
        """By shards; if they have lost any minibatches, those are handed out again."""
        told = self.shards.counted()
        self._leases.make_up(self.shards.held)
        return told

    def state(self) -> dict[str, Tensor]:
        """The learner's own form of what the shards hold; before the start, the learner's."""
        if not self._begun:
            state: dict[str, Tensor] = self.whole.state()
            return state
        # When nothing is left to hand out: wait until everything that was learned is in the shards.
        while self._leases.all_out and not self.members.done:
            self._take(self.members.work())
        if not self.crew.job.gradients:
            self._take_rest()
        self.freshen()
        self.whole.step_number = self.step_number
        kept = self.shards.take_memories()
        self._rest = {name: tensor.clone() for name, tensor in self.whole.state().items()}
        self._ticket = None
        return self._rest | kept

    def _take_rest(self) -> None:
        """What only a replica knows (velocities, chains): one stands for all."""
        member = next((one for one in self.members.at(Stage.HERE) if one.step_s is not None), None)
        if member is None:
            return
        try:
            told = self._ray.get(member.actor.state.remote(), timeout=self.crew.patience_s)
        except self._ray.exceptions.RayError:
            # It has just been lost: what the last checkpoint knew is kept.
            return
        self.whole.load_state({name: torch.from_numpy(array.copy()) for name, array in told.items()})

    def record(self) -> dict[str, Any]:
        """For run.json: the plan, everything counted, and who was there when."""
        if not self._begun:
            return {}
        visits = {"crew": self.members.visits.told()}
        return {**self.counted(), **visits, **({} if self.plan is None else {"plan": asdict(self.plan)})}

    def close(self) -> None:
        """End all processes."""
        if self._begun:
            self.members.close()
        self.shards.close()


def _shareable(learner: Any) -> Shareable[Any]:
    if not hasattr(learner, "exchanged"):
        raise BadInput(f"{type(learner).__name__} cannot be trained by replicas: it shows no parameters")
    shareable: Shareable[Any] = learner
    return shareable
