"""The driver's side: a learner whose steps are made by replicas, each somewhere else and at its own pace.

To the loop it is a learner like any other: a step is a minibatch that some replica has learned from. Minibatches are numbered
over the whole run, and handed out in leases; so every epoch's order is shared by however many replicas there are, slow ones get
fewer, what a lost one had is handed out again, and random draws and schedules, which go by the number, are whoever's. A
checkpoint is the shards' values in the learner's own form: it knows neither replicas nor shards.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from striate.cluster.asynchronous.actors import Beginning, Job, ReplicaActor, Report, ShardActor, Workbench
from striate.cluster.asynchronous.calling import RayDoor
from striate.cluster.asynchronous.plan import Plan
from striate.cluster.flat import Flat
from striate.cluster.rules import RULES
from striate.cluster.server import Doors
from striate.errors import BadInput, Diverged, StriateError
from striate.train.exchanged import Shareable

# A lease takes about so long, so that talk with the driver costs nothing and little is done twice after a loss.
_LEASE_S, _LONGEST = 0.4, 256
# So many leases lie ready for a replica, that it never waits for the driver.
_READY = 2
_LOOK_EVERY_S = 0.5
_TRIES = 5
_RATE_OVER_S = 5.0
# Looking at the parameters may take such a share of the time.
_LOOKING = 0.05


@dataclass(frozen=True)
class Crew:
    """Who trains, and how they exchange.

    Attributes:
        replicas: how many.
        shards: how many.
        rule: the shards', see `striate.cluster.rules`.
        job: every replica's.
        forget: see `Shard`.
        warm_start_steps: minibatches that one replica learns from alone, at the start of the run.
        folder: for the shards' snapshots.
        snapshot_every_s: seconds between them: as much is lost with a shard.
        patience_s: how long a replica may be silent before it is replaced.
        gpus: share of one that a replica takes.
    """

    replicas: int
    shards: int
    rule: str
    job: Job
    forget: float
    warm_start_steps: int
    folder: Path
    snapshot_every_s: float
    patience_s: float
    gpus: float = 0.0


@dataclass
class _Member:
    """A place in the crew, whoever holds it."""

    place: int
    lives: int = 0
    failures: int = 0
    actor: Any = None
    leases: dict[Any, list[int]] = field(default_factory=dict)
    heard_s: float = 0.0
    steps: float = 0.0
    seconds: float = 0.0
    waited_s: float = 0.0
    exchanged: dict[str, int] = field(default_factory=dict)
    step_s: float | None = None
    fresh: bool = True
    left: bool = False
    flushing: Any = None

    @property
    def name(self) -> str:
        """Of its pushes: another life's are numbered from 1 again."""
        return f"{self.place}.{self.lives}"


class Slots:
    """Numbers of minibatches: all that the driver's loop sees of them."""

    def __init__(self, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch

    def starting_at(self, step: int) -> Iterator[int]:
        """From this one on."""
        while True:
            yield step
            step += 1

    def at(self, step: int) -> int:
        """This one."""
        return step


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
        say: told of losses.
    """

    finished = False

    def __init__(
        self,
        whole: Any,
        crew: Crew,
        ray: ModuleType,
        bring: Callable[[Any, Any], Workbench],
        brought: Callable[[Mapping[str, Tensor]], Any],
        rows: Any,
        total_steps: int,
        batch_size: int,
        say: Callable[[str], None],
    ) -> None:
        self.whole, self.crew, self._ray, self._bring, self._brought, self._rows = whole, crew, ray, bring, brought, rows
        self._total, self._batch_size, self._say = total_steps, batch_size, say
        self.flat = Flat(_shareable(whole).exchanged())
        self.cuts = self.flat.cuts(crew.shards)
        self.step_number: int = whole.step_number
        self.dtype: torch.dtype = whole.dtype
        self._shards: list[Any] = []
        self._members = [_Member(place) for place in range(crew.replicas)]
        self._doors: Doors | None = None
        self._done: deque[dict[str, float]] = deque()
        self._again: list[int] = []
        self._fresh_s, self._fresh_took_s, self._poisoned = 0.0, 0.0, 0
        self.lost, self.redone = 0, 0
        self._ticket: Any = None
        self.plan: Plan | None = None

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Begin from a saved state: shards get its parameters, replicas the rest."""
        self.whole.load_state(state)
        self.step_number = self._next = self._finished = self.whole.step_number
        self._rest = {name: tensor.clone() for name, tensor in self.whole.state().items()}
        self._begin_shards(self._memories_of(state))
        self._doors = Doors([RayDoor(shard) for shard in self._shards], self.cuts, "driver")
        for member in self._members:
            self._begin(member)
        self._tell_members()
        if self._members:
            self.plan = self._measured()
            for line in self.plan.lines():
                self._say(line)

    def _measured(self) -> Plan:
        """How long a step and exchanges take, on the first replica and from here."""
        first, slot = self._members[0].actor, min(self._next, self._total - 1)
        try:
            step_s = self._ray.get(first.rehearse.remote(slot))
        except self._ray.exceptions.RayError as error:
            raise StriateError(f"replica 0: {cause(error)}") from None
        assert self._doors is not None
        pulls, pushes, zeros = [], [], self.flat.new().numpy()
        for _ in range(3):
            begun = time.monotonic()
            self._doors.pull(None).get()
            pulled = time.monotonic()
            self._ray.get([shard.weigh.remote(zeros[cut]) for shard, cut in zip(self._shards, self.cuts)])
            pulls.append(pulled - begun)
            pushes.append(time.monotonic() - pulled)
        update_s = self._ray.get([shard.update_s.remote() for shard in self._shards])
        self._members[0].step_s = step_s
        pace, memories = self.crew.job.pace, RULES[self.crew.rule].memories
        counts = (self.flat.size, memories, len(self._members), len(self.cuts), pace.pull_every, pace.push_every)
        return Plan(*counts, step_s, min(pulls), min(pushes), sum(update_s))

    def _memories_of(self, state: Mapping[str, Tensor]) -> list[Tensor] | None:
        """What the shards' rule is to remember: the learner's own memory, or what another crew had kept."""
        rule = RULES[self.crew.rule]
        if rule.memories and self._shares_memory:
            return [self.flat.gather(self.flat.new(), self._own_memories())]
        kept = [f"exchange.{self.crew.rule}.{number}" for number in range(rule.memories)]
        if kept and all(name in state and len(state[name]) == self.flat.size for name in kept):
            return [state[name] for name in kept]
        return None

    @property
    def _shares_memory(self) -> bool:
        own = getattr(self.whole, "own_rule", None)
        return own == self.crew.rule and all(one.memory is not None for one in self.flat.parameters)

    def _own_memories(self) -> list[Tensor]:
        return [one.memory for one in self.flat.parameters if one.memory is not None]

    def _begin_shards(self, memories: Sequence[Tensor] | None) -> None:
        crew, values, begun = self.crew, self.flat.gather(self.flat.new()), []
        actor = self._ray.remote(ShardActor).options(num_cpus=0, max_restarts=-1, max_task_retries=-1)
        for number, cut in enumerate(self.cuts):
            folder = crew.folder / f"{number}"
            folder.mkdir(parents=True, exist_ok=True)
            beginning = Beginning(
                crew.rule, self.flat.rows(cut), crew.forget, crew.job.pace.rounds, folder, crew.snapshot_every_s
            )
            own = None if memories is None else [memory[cut].numpy() for memory in memories]
            self._shards.append(actor.remote(beginning))
            begun.append(self._shards[-1].begin.remote(values[cut].numpy(), own))
        self._ray.get(begun)

    def _begin(self, member: _Member) -> None:
        """Put somebody into a place."""
        member.lives += 1
        options = {"num_cpus": self.crew.job.threads, "num_gpus": self.crew.gpus, "max_restarts": 0}
        actor = self._ray.remote(ReplicaActor).options(**options)
        if self._ticket is None:
            self._ticket = self._ray.put(self._brought(self._rest))
        told = (self._bring, self._ticket, self._rows, self._shards, self.cuts, self.crew.job)
        member.actor = actor.remote(member.name, *told)
        member.heard_s, member.left, member.flushing, member.fresh = time.monotonic(), False, None, True

    def _tell_members(self) -> None:
        """Rounds wait for those who take part."""
        if self.crew.job.pace.rounds:
            names = [member.name for member in self._active() if not member.left]
            self._ray.get([shard.expect.remote(names) for shard in self._shards])

    def _active(self) -> list[_Member]:
        """One alone for a warm start; then all."""
        return self._members[:1] if self._finished < self.crew.warm_start_steps else self._members

    def step(self, slot: int) -> dict[str, Tensor]:
        """The next minibatch that some replica has learned from, with its metrics.

        Raises:
            StriateError: replicas die as soon as they begin.
            Diverged: what they learn is not finite any more.
        """
        while not self._done:
            self._hand_out()
            self._collect()
        self.step_number += 1
        return {name: torch.tensor(value) for name, value in self._done.popleft().items()}

    def _hand_out(self) -> None:
        before = len(self._active())
        for _ in range(_READY):
            for member in self._active():
                if len(member.leases) < _READY and not member.left:
                    self._lease(member)
        assert len(self._active()) == before

    def _lease(self, member: _Member) -> None:
        slots = self._slots(self._lease_length(member))
        if not slots:
            if not member.leases and member.flushing is None:
                member.flushing = member.actor.flush.remote()
            return
        following = self._next if self._next < self._total and not self._again else None
        member.leases[member.actor.work.remote(slots, following)] = slots

    def _lease_length(self, member: _Member) -> int:
        if member.step_s is None:
            return 1
        left = (self._total - self._next) // (2 * _READY * len(self._active()))
        length = min(int(_LEASE_S / max(member.step_s, 1e-6)), _LONGEST, max(left, 1))
        if self._finished < self.crew.warm_start_steps:
            length = min(length, self.crew.warm_start_steps - self._finished)
        return max(1, length)

    def _slots(self, count: int) -> list[int]:
        """The next minibatches: first those that a lost replica had."""
        found = [heapq.heappop(self._again) for _ in range(min(count, len(self._again)))]
        if not found:
            found = list(range(self._next, min(self._next + count, self._total)))
            self._next += len(found)
        return found

    def _collect(self) -> None:
        """Wait for a report, or for what makes one impossible."""
        waiting = {ref: member for member in self._members for ref in (*member.leases, *self._flushes(member))}
        ready, _ = self._ray.wait(list(waiting), timeout=_LOOK_EVERY_S)
        for reference in ready:
            member = waiting[reference]
            try:
                report = self._ray.get(reference)
            except (self._ray.exceptions.RayError, StriateError) as error:
                # Its other leases fail with it, and may be ready, too.
                if reference in member.leases or reference is member.flushing:
                    self._replace(member, error)
                continue
            self._heard(member, reference, report)
        self._replace_silent()

    def _flushes(self, member: _Member) -> list[Any]:
        return [] if member.flushing is None or member.left else [member.flushing]

    def _heard(self, member: _Member, reference: Any, report: Report | dict[str, int]) -> None:
        member.heard_s, member.fresh = time.monotonic(), False
        if not isinstance(report, Report):
            member.exchanged, member.left = report, True
            self._tell_members()
            return
        slots, active = member.leases.pop(reference), len(self._active())
        member.failures, member.exchanged = 0, report.exchanged
        member.steps, member.seconds = member.steps + len(slots), member.seconds + report.seconds
        member.waited_s += report.waited_s
        fresh = report.seconds / len(slots)
        member.step_s = fresh if member.step_s is None else 0.7 * member.step_s + 0.3 * fresh
        self._finished += len(slots)
        self._count_poisoned(report.metrics)
        self._done.extend(report.metrics)
        if len(self._active()) != active:
            self._tell_members()

    def _count_poisoned(self, metrics: Sequence[Mapping[str, float]]) -> None:
        for one in metrics:
            self._poisoned = 0 if one else self._poisoned + 1
        if self._poisoned > 50 * len(self._members):
            raise Diverged("no minibatch gives finite numbers any more: lower train.learning_rate or cluster.exchange.rate")

    def _replace(self, member: _Member, error: Exception) -> None:
        """Somebody else for a place whose holder is lost; what it had is handed out again."""
        member.failures += 1
        if member.failures >= _TRIES:
            raise StriateError(f"replica {member.place} failed {_TRIES} times in a row: {cause(error)}")
        if isinstance(error, self._ray.exceptions.ActorDiedError) and "BadInput" in str(error):
            raise BadInput(f"replica {member.place}: {cause(error)}")
        self.lost += 1
        for slots in member.leases.values():
            for slot in slots:
                heapq.heappush(self._again, slot)
            self.redone += len(slots)
        member.leases.clear()
        self._ray.kill(member.actor)
        self._say(f"replica {member.place} was lost ({cause(error)}); another takes its place")
        self._begin(member)
        self._tell_members()

    def _replace_silent(self) -> None:
        for member in self._members:
            # Who has just begun loads everything first.
            patience = self.crew.patience_s * (5 if member.fresh else 1)
            if (member.leases or self._flushes(member)) and time.monotonic() - member.heard_s > patience:
                self._replace(member, StriateError(f"silent for {patience:.0f} s"))

    def _drain(self) -> None:
        """When nothing is left to hand out: wait until everything that was learned is in the shards."""
        while self._next >= self._total and not self._again and not all(member.left for member in self._members):
            self._hand_out()
            self._collect()

    def freshen(self, always: bool = True) -> None:
        """The shards' parameters into the driver's copy, unless that was done a moment ago."""
        assert self._doors is not None
        begun = time.monotonic()
        if not always and _LOOKING * (begun - self._fresh_s) < self._fresh_took_s:
            return
        pulled = self._doors.pull(None).get()
        assert pulled.values is not None
        self.flat.scatter(pulled.values)
        self.whole.refresh()
        self._fresh_s = time.monotonic()
        self._fresh_took_s = self._fresh_s - begun

    def diagnose(self) -> dict[str, float]:
        """The learner's readings, images a second of each replica, how stale their pushes are, what was refused or lost."""
        self.freshen(always=False)
        self.whole.step_number = self.step_number
        found: dict[str, float] = dict(self.whole.diagnose())
        for member in self._members:
            if member.seconds:
                found[f"images_per_s_{member.place}"] = member.steps * self._batch_size / member.seconds
                if member.seconds > _RATE_OVER_S:
                    # Of late, smoothly: readings may be taken at any time.
                    member.steps, member.seconds = member.steps / 2, member.seconds / 2
        return found | self._shard_readings()

    def _shard_readings(self) -> dict[str, float]:
        told = self.counted()
        histogram = Counter({int(value): count for value, count in told["staleness"].items()})
        pushes = max(histogram.total(), 1)
        return {
            "staleness_mean": sum(value * count for value, count in histogram.items()) / pushes,
            "staleness_most": float(max(histogram, default=0)),
            "pushes_refused": float(told["refused"]),
            "pushes_lost": float(told["lost"]),
            "replicas_lost": float(self.lost),
        }

    def counted(self) -> dict[str, Any]:
        """What all shards and replicas have counted: for the run's record."""
        told = self._ray.get([shard.counted.remote() for shard in self._shards])
        staleness: Counter[str] = Counter()
        for one in told:
            staleness.update(one["staleness"])
        summed = {name: sum(one[name] for one in told) for name in ("refused", "repeated", "lost", "updates")}
        exchanged: Counter[str] = Counter()
        for member in self._members:
            exchanged.update(member.exchanged)
        return {
            **summed,
            **exchanged,
            "staleness": dict(sorted(staleness.items(), key=lambda item: int(item[0]))),
            "replicas_lost": self.lost,
            "minibatches_redone": self.redone,
        }

    def state(self) -> dict[str, Tensor]:
        """The learner's own form of what the shards hold; before the start, the learner's."""
        if not self._shards:
            state: dict[str, Tensor] = self.whole.state()
            return state
        self._drain()
        if not self.crew.job.gradients:
            self._take_rest()
        self.freshen()
        self.whole.step_number = self.step_number
        kept = self._take_memories()
        self._rest = {name: tensor.clone() for name, tensor in self.whole.state().items()}
        self._ticket = None
        return self._rest | kept

    def _take_rest(self) -> None:
        """What only a replica knows (velocities, chains): one stands for all."""
        member = next((one for one in self._members if one.step_s is not None), None)
        if member is None:
            return
        try:
            told = self._ray.get(member.actor.state.remote(), timeout=self.crew.patience_s)
        except self._ray.exceptions.RayError:
            # It has just been lost: what the last checkpoint knew is kept.
            return
        self.whole.load_state({name: torch.from_numpy(array.copy()) for name, array in told.items()})

    def _take_memories(self) -> dict[str, Tensor]:
        parts = self._ray.get([shard.memories.remote() for shard in self._shards])
        joined = [torch.cat([torch.from_numpy(part.copy()) for part in parts]) for parts in zip(*parts)]
        if joined and self._shares_memory:
            self.flat.scatter(joined[0], self._own_memories())
            return {}
        return {f"exchange.{self.crew.rule}.{number}": memory for number, memory in enumerate(joined)}

    def record(self) -> dict[str, Any]:
        """For run.json: the plan, and everything counted."""
        if not self._shards:
            return {}
        return {**self.counted(), **({} if self.plan is None else {"plan": asdict(self.plan)})}

    def close(self) -> None:
        """End all processes."""
        for actor in [*(member.actor for member in self._members), *self._shards]:
            if actor is not None:
                self._ray.kill(actor)


def cause(error: Exception) -> str:
    """An engine's error in a few words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in reversed(lines):
        head, _, tail = line.partition(": ")
        if head.rpartition(".")[2] in ("BadInput", "StriateError", "Poisoned", "Diverged") and tail:
            return tail
    if "creation task" in str(error):
        return lines[-1]
    if "Died" in type(error).__name__ or "Unavailable" in type(error).__name__:
        return "its process died"
    return lines[-1] if lines else type(error).__name__


def _shareable(learner: Any) -> Shareable[Any]:
    if not hasattr(learner, "exchanged"):
        raise BadInput(f"{type(learner).__name__} cannot be trained by replicas: it shows no parameters")
    shareable: Shareable[Any] = learner
    return shareable
