"""Where a replica's work stands still: it says what it waits for, and whoever drives it does the waiting.

On a machine that is in real time (`driven`); where machines are imagined a clock of events is asked instead
(`striate.cluster.virtual`), and the replica's own code is the same.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Waiting(Protocol[T_co]):
    """An answer that may not be there yet."""

    def ready(self, within_s: float = 0.0) -> bool:
        """Whether it is, or comes to be within a time."""
        ...

    def get(self) -> T_co:
        """It, waited for."""
        ...


@dataclass(frozen=True)
class Learned:
    """A step's work is done: in real time that has taken as long as it took."""

    def passed(self) -> None:
        """Nothing is waited for."""


@dataclass(frozen=True)
class Coming:
    """Whether an answer is there is to be known; for so many seconds it is worth waiting for."""

    waiting: Waiting[Any]
    within_s: float = 0.0

    def passed(self) -> bool:
        """Whether it came."""
        return self.waiting.ready(self.within_s)


@dataclass(frozen=True)
class Needed:
    """Nothing goes on without an answer."""

    waiting: Waiting[Any]

    def passed(self) -> Any:
        """The answer."""
        return self.waiting.get()


Pause = Learned | Coming | Needed
Work = Generator[Pause, Any, T]
"""Work that stands still now and then, and is told what came of each pause."""


def driven(work: Work[T]) -> T:
    """Do it, waiting where it waits."""
    told: Any = None
    while True:
        try:
            pause = work.send(told)
        except StopIteration as done:
            result: T = done.value
            return result
        told = pause.passed()
