"""A place in a crew, whoever holds it, from being asked for to being gone."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from striate.cluster.asynchronous.actors import Report
from striate.cluster.asynchronous.losses import Loss

# Rates are over about so long.
_RATE_OVER_S = 5.0


class Stage(Enum):
    """How far a replica is."""

    WAITING = "waiting for room"
    LOADING = "loading"
    HERE = "here"
    LEAVING = "leaving"
    GONE = "gone"


@dataclass
class Member:
    """A place in the crew.

    Attributes:
        place: its number.
        lives: how many have held it.
        stage: how far who holds it is.
        actor: the process.
        nodes: the machines of its processes, by their names in Ray; none before there is room.
        loading: the answer to come when it is ready to learn.
        flushing: the answer to come when it has sent everything.
        leases: minibatches by the report that is to come of them.
        unsaid: minibatches that it has learned from and shards have not said to have.
        quiet: it has nothing, and has sent everything.
        behind: it is to begin with the shards' parameters of now.
        heard_s: when it last said anything.
        losses: of those who were lost one after another.
        steps: of late.
        seconds: those took.
        waited_s: of those, waiting for shards.
        step_s: seconds of a step, smoothly.
    """

    place: int
    lives: int = 0
    stage: Stage = Stage.GONE
    actor: Any = None
    nodes: tuple[str, ...] = ()
    loading: Any = None
    flushing: Any = None
    leases: dict[Any, list[int]] = field(default_factory=dict)
    unsaid: list[int] = field(default_factory=list)
    quiet: bool = True
    behind: bool = False
    heard_s: float = 0.0
    losses: list[Loss] = field(default_factory=list)
    steps: float = 0.0
    seconds: float = 0.0
    waited_s: float = 0.0
    step_s: float | None = None
    _now: dict[str, int] = field(default_factory=dict)
    _before: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """Of its pushes: another life's are numbered from 1 again."""
        return f"{self.place}.{self.lives}"

    @property
    def fresh(self) -> bool:
        """Whether it has learned nothing yet."""
        return self.seconds == 0

    @property
    def exchanged(self) -> Counter[str]:
        """Pulls, pushes and bytes of all who have held the place, as last heard."""
        return self._before + Counter(self._now)

    @property
    def awaited(self) -> list[Any]:
        """Answers that are to come of what it was asked."""
        asked = [self.loading if self.stage is Stage.LOADING else None, self.flushing]
        return [*self.leases, *(one for one in asked if one is not None)]

    def begins(self, actor: Any) -> None:
        """Somebody is asked for, whose name it has already."""
        self.actor, self.loading, self.stage, self.nodes = actor, actor.pid.remote(), Stage.WAITING, ()

    def placed(self, nodes: tuple[str, ...]) -> None:
        """There is room."""
        self.nodes, self.heard_s, self.stage = nodes, time.monotonic(), Stage.LOADING

    def arrives(self) -> None:
        """It is ready to learn."""
        self.loading, self.stage = None, Stage.HERE

    def hears(self) -> None:
        """It has said something."""
        self.heard_s = time.monotonic()

    def _asks(self) -> None:
        """Something of it: if it had nothing to answer, it was not silent until now."""
        if not self.awaited:
            self.hears()

    def ordered(self, report: Any, slots: list[int]) -> None:
        """It has a lease, of which a report is to come."""
        self._asks()
        self.leases[report] = slots
        self.quiet, self.behind = False, False

    def learned(self, report: Report, slots: list[int]) -> list[int]:
        """Count a report of these minibatches; which are in the shards by now, these or earlier ones."""
        self._now = report.exchanged
        self.losses.clear()
        if self.seconds > _RATE_OVER_S:
            self.steps, self.seconds, self.waited_s = self.steps / 2, self.seconds / 2, self.waited_s / 2
        self.steps, self.seconds = self.steps + len(slots), self.seconds + report.seconds
        self.waited_s += report.waited_s
        fresh = report.seconds / len(slots)
        self.step_s = fresh if self.step_s is None else 0.7 * self.step_s + 0.3 * fresh
        known = [*self.unsaid, *slots]
        there = max(0, len(known) - report.unsaid)
        self.unsaid = known[there:]
        return known[:there]

    def flushes(self) -> None:
        """It is asked to send everything."""
        self._asks()
        self.flushing = self.actor.flush.remote()

    def flushed(self, exchanged: dict[str, int]) -> list[int]:
        """It has sent everything: which minibatches shards have said to have since it last reported."""
        self._now, self.flushing, self.quiet = exchanged, None, not self.leases
        there, self.unsaid = self.unsaid, []
        return there

    def ends(self) -> None:
        """Nobody holds the place any more."""
        self.stage, self.quiet, self.behind, self.loading, self.flushing = Stage.GONE, True, False, None, None
        self.leases.clear()
        self.unsaid = []
        self._before, self._now = self._before + Counter(self._now), {}
        self.steps, self.seconds, self.waited_s, self.step_s = 0.0, 0.0, 0.0, None
