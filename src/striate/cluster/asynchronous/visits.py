"""Who was there when: for the run's record and the page that follows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Visit:
    """One replica's time in the crew.

    Attributes:
        replica: its place, and which life of that place.
        machine: where.
        joined_step: minibatches that were learned from before it.
        joined_s: seconds of the sitting before it.
        left_step: as above, when it went; None: it is there.
        left_s: likewise.
        how: why it went.
    """

    replica: str
    machine: str
    joined_step: int
    joined_s: float
    left_step: int | None = None
    left_s: float | None = None
    how: str | None = None


class Visits:
    """All of a sitting.

    Args:
        clock: seconds that only grow; no date: machines' clocks may differ, and be set.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._begun_s = clock, clock()
        self._all: list[Visit] = []

    def _now_s(self) -> float:
        return round(self._clock() - self._begun_s, 2)

    def joined(self, replica: str, machine: str, step: int) -> None:
        """It is there."""
        self._all.append(Visit(replica, machine, step, self._now_s()))

    def left(self, replica: str, step: int, how: str) -> None:
        """It went; nothing, if it had never come."""
        for visit in self._all:
            if visit.replica == replica and visit.left_s is None:
                visit.left_step, visit.left_s, visit.how = step, self._now_s(), how

    def correct(self, replica: str, how: str) -> None:
        """Why it went is known better by now."""
        for visit in self._all:
            if visit.replica == replica and visit.left_s is not None:
                visit.how = how

    def told(self) -> list[dict[str, Any]]:
        """All, in the order in which they came."""
        return [asdict(visit) for visit in self._all]
