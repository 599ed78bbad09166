"""Processes of a fleet killed at random, and how long each takes to come back: for `chaos`, and for tests."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from striate.cluster.asynchronous.fleet import Fleet
from striate.cluster.asynchronous.member import Stage


@dataclass
class Kill:
    """One SIGKILL.

    Attributes:
        what: `replica` or `shard`.
        place: a replica's; a shard's number.
        at_s: when, by a clock that only grows.
        life: a replica's name.
        answer: a shard's, to come from its next life.
        back_s: until a replica's place has learned from a minibatch again, or a shard has answered; None: not yet.
    """

    what: str
    place: int
    at_s: float
    life: str = ""
    answer: Any = None
    back_s: float | None = None


class Fire:
    """Kills, as long as a fleet steps. A place that is not back yet is left alone: it holds nothing that could be lost.

    Args:
        ray: connected.
        fleet: begun.
        whats: what is to be killed, in this order.
        random: chooses the place, and part of a lease to wait, so that no kill comes at the beginning of one.
    """

    def __init__(self, ray: ModuleType, fleet: Fleet, whats: Sequence[str], random: np.random.Generator) -> None:
        self._ray, self._fleet, self._left, self._random = ray, fleet, list(whats), random
        self.kills: list[Kill] = []
        self._pids: dict[str, Any] = {}
        self._shards = [self._ray.get(shard.counted.remote())["pid"] for shard in fleet.shards.actors]

    @property
    def killed(self) -> Counter[str]:
        """How many of what."""
        return Counter(kill.what for kill in self.kills)

    @property
    def back(self) -> bool:
        """Whether all are."""
        return not self._away

    @property
    def _away(self) -> list[Kill]:
        return [kill for kill in self.kills if kill.back_s is None]

    def look(self) -> None:
        """See who is new, and who is back: to be called between any two steps."""
        for member in self._fleet.members.at(Stage.HERE):
            if member.name not in self._pids:
                self._pids[member.name] = member.actor.pid.remote()
        for kill in self._away:
            if self._is_back(kill):
                kill.back_s = time.monotonic() - kill.at_s

    def _is_back(self, kill: Kill) -> bool:
        if kill.what == "replica":
            member = self._fleet.members[kill.place]
            return member.name != kill.life and not member.fresh
        if not self._ray.wait([kill.answer], timeout=0)[0]:
            return False
        self._shards[kill.place] = self._ray.get(kill.answer)["pid"]
        return True

    def kill(self) -> bool:
        """The next; whether there was anybody to kill."""
        if not self._left:
            return False
        what = self._left[0]
        made = self._replica() if what == "replica" else self._shard()
        if made:
            self._left.pop(0)
        return made

    def _replica(self) -> bool:
        away = {kill.place for kill in self._away if kill.what == "replica"}
        known = [one for one in self._fleet.members.at(Stage.HERE) if one.place not in away and self._known(one.name)]
        if not known:
            return False
        member = self._chosen(known)
        if not self._shoot(self._ray.get(self._pids[member.name])):
            return False
        self.kills.append(Kill("replica", member.place, time.monotonic(), member.name))
        return True

    def _known(self, name: str) -> bool:
        return name in self._pids and bool(self._ray.wait([self._pids[name]], timeout=0)[0])

    def _shard(self) -> bool:
        away = {kill.place for kill in self._away if kill.what == "shard"}
        known = [number for number in range(len(self._shards)) if number not in away]
        if not known:
            return False
        number = self._chosen(known)
        if not self._shoot(self._shards[number]):
            return False
        answer = self._fleet.shards.actors[number].counted.remote()
        self.kills.append(Kill("shard", number, time.monotonic(), answer=answer))
        return True

    def _chosen(self, among: Sequence[Any]) -> Any:
        return among[int(self._random.integers(len(among)))]

    def _shoot(self, pid: int) -> bool:
        # Reports come at the end of leases; so would kills.
        time.sleep(0.1 * self._random.random())
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def burn(
    fleet: Fleet, fire: Fire, steps: int, moments: Sequence[int], each: Callable[[int], None] = lambda step: None
) -> float:
    """All steps of a run, with a kill at each of these, or as soon after as there is somebody to kill; the longest, seconds."""
    longest, due = 0.0, 0
    for step in range(steps):
        begun = time.monotonic()
        fleet.step(step)
        longest = max(longest, time.monotonic() - begun)
        fire.look()
        due += sum(moment == step for moment in moments)
        if due and fire.kill():
            due -= 1
        each(step)
    return longest
