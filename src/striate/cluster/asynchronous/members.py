"""The replicas that are there: each in a place, handed leases of minibatches, heard, and replaced if it is lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from striate.cluster.asynchronous.actors import Report
from striate.cluster.asynchronous.causes import cause
from striate.cluster.asynchronous.crew import Crew
from striate.cluster.asynchronous.leases import READY, Leases
from striate.cluster.asynchronous.starting import Starter
from striate.errors import BadInput, StriateError

_LOOK_EVERY_S = 0.5
_TRIES = 5
_RATE_OVER_S = 5.0


@dataclass
class Member:
    """A place in the crew, whoever holds it.

    Attributes:
        place: its number.
        lives: how many have held it.
        failures: of those, in a row.
        actor: the process.
        leases: minibatches by the report that is to come of them.
        heard_s: when it last said anything.
        steps: of late.
        seconds: those took.
        waited_s: for shards.
        exchanged: see `Report`.
        step_s: seconds of a step, smoothly.
        fresh: it has said nothing yet.
        left: it has sent everything, and has nothing to do.
        flushing: the answer to come when it has.
    """

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

    def begins(self, actor: Any) -> None:
        """Somebody takes the place, whose name it has already."""
        self.actor, self.heard_s = actor, time.monotonic()
        self.left, self.flushing, self.fresh = False, None, True

    def heard(self, report: Report, learned: int) -> None:
        """Count a report of so many minibatches."""
        self.failures, self.exchanged = 0, report.exchanged
        self.steps, self.seconds = self.steps + learned, self.seconds + report.seconds
        self.waited_s += report.waited_s
        fresh = report.seconds / learned
        self.step_s = fresh if self.step_s is None else 0.7 * self.step_s + 0.3 * fresh

    def steps_per_s(self) -> float | None:
        """Of late, smoothly; readings may be taken at any time."""
        if not self.seconds:
            return None
        found = self.steps / self.seconds
        if self.seconds > _RATE_OVER_S:
            self.steps, self.seconds = self.steps / 2, self.seconds / 2
        return found

    @property
    def flushes(self) -> list[Any]:
        """What is to come of its flushing, if it does."""
        return [] if self.flushing is None or self.left else [self.flushing]


class Members:
    """All places.

    Args:
        ray: connected.
        crew: see there.
        leases: what there is to learn from.
        starter: begins replicas of a name, and ends them.
        expect: told who takes part in rounds, whenever that changes.
        say: told of losses.

    Attributes:
        lost: replicas that were replaced.
    """

    def __init__(
        self,
        ray: ModuleType,
        crew: Crew,
        leases: Leases,
        starter: Starter,
        expect: Callable[[list[str]], None],
        say: Callable[[str], None],
    ) -> None:
        self._ray, self._crew, self._leases = ray, crew, leases
        self._starter, self._expect, self._say = starter, expect, say
        self._members = [Member(place) for place in range(crew.replicas)]
        self.lost = 0
        for member in self._members:
            self._begin(member)
        self._tell()

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, place: int) -> Member:
        return self._members[place]

    def _begin(self, member: Member) -> None:
        """Put somebody into a place."""
        member.lives += 1
        member.begins(self._starter.begin(member.name))

    def _tell(self) -> None:
        """Rounds wait for those who take part."""
        self._expect([member.name for member in self._active() if not member.left])

    def _active(self) -> list[Member]:
        """One alone for a warm start; then all."""
        return self._members[:1] if self._leases.warming else self._members

    @property
    def done(self) -> bool:
        """Whether everything that was learned is in the shards, and nothing is left to learn from."""
        return self._leases.all_out and all(member.left for member in self._members)

    def work(self) -> list[dict[str, float]]:
        """Hand out leases, and wait a little for reports; the metrics of minibatches in them.

        Raises:
            StriateError: replicas die as soon as they begin.
        """
        self._hand_out()
        return self._collect()

    def _hand_out(self) -> None:
        """Leases to whoever has too few; whoever gets none has nothing left to do, and sends what is left."""
        for _ in range(READY):
            for member in self._active():
                if len(member.leases) < READY and not member.left:
                    self._lease(member)

    def _lease(self, member: Member) -> None:
        slots = self._leases.take(self._leases.length(member.step_s, len(self._active())))
        if slots:
            member.leases[member.actor.work.remote(slots, self._leases.following)] = slots
        elif not member.leases and member.flushing is None:
            member.flushing = member.actor.flush.remote()

    def _collect(self) -> list[dict[str, float]]:
        """Wait for a report, or for what makes one impossible."""
        waiting = {ref: member for member in self._members for ref in (*member.leases, *member.flushes)}
        ready, _ = self._ray.wait(list(waiting), timeout=_LOOK_EVERY_S)
        learned = []
        for reference in ready:
            member = waiting[reference]
            try:
                report = self._ray.get(reference)
            except (self._ray.exceptions.RayError, StriateError) as error:
                # Its other leases fail with it, and may be ready, too.
                if reference in member.leases or reference is member.flushing:
                    self._replace(member, error)
                continue
            learned += self._heard(member, reference, report)
        self._replace_silent()
        return learned

    def _heard(self, member: Member, reference: Any, report: Report | dict[str, int]) -> list[dict[str, float]]:
        member.heard_s, member.fresh = time.monotonic(), False
        if not isinstance(report, Report):
            member.exchanged, member.left = report, True
            self._tell()
            return []
        slots, warming = member.leases.pop(reference), self._leases.warming
        member.heard(report, len(slots))
        self._leases.finished += len(slots)
        if self._leases.warming != warming:
            self._tell()
        return report.metrics

    def _replace(self, member: Member, error: Exception) -> None:
        """Somebody else for a place whose holder is lost; what it had is handed out again."""
        member.failures += 1
        if member.failures >= _TRIES:
            raise StriateError(f"replica {member.place} failed {_TRIES} times in a row: {cause(error)}")
        if isinstance(error, self._ray.exceptions.ActorDiedError) and "BadInput" in str(error):
            raise BadInput(f"replica {member.place}: {cause(error)}")
        self.lost += 1
        for slots in member.leases.values():
            self._leases.give_back(slots)
        member.leases.clear()
        self._starter.end(member.name, member.actor)
        self._say(f"replica {member.place} was lost ({cause(error)}); another takes its place")
        self._begin(member)
        self._tell()

    def _replace_silent(self) -> None:
        for member in self._members:
            # Who has just begun loads everything first.
            patience = self._crew.patience_s * (5 if member.fresh else 1)
            if (member.leases or member.flushes) and time.monotonic() - member.heard_s > patience:
                self._replace(member, StriateError(f"silent for {patience:.0f} s"))

    def steps_per_s(self) -> dict[int, float]:
        """Minibatches a second by place, of those who have learned from any."""
        found = {member.place: member.steps_per_s() for member in self._members}
        return {place: rate for place, rate in found.items() if rate is not None}

    def exchanged(self) -> Counter[str]:
        """Pulls, pushes and bytes of all, as last heard."""
        summed: Counter[str] = Counter()
        for member in self._members:
            summed.update(member.exchanged)
        return summed

    def close(self) -> None:
        """End all."""
        for member in self._members:
            if member.actor is not None:
                self._starter.end(member.name, member.actor)
