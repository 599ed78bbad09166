"""Replicas that were lost: whether each failed, or went with a machine of its.

Their processes are often missed before the machine is: its own silence says so only after a minute. So a loss is judged again
until then, and counted as what it has turned out to be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from striate.cluster.asynchronous.visits import Visits

# Longer than Ray lets a machine be silent before it is taken for gone.
_FOUND_GONE_S = 90.0
LEFT = "its machine left"


@dataclass
class Loss:
    """Of one replica.

    Attributes:
        replica: its name.
        machines: those that its processes were on, by Ray's names.
        at_s: when.
        left: whether one of them is gone.
    """

    replica: str
    machines: tuple[str, ...]
    at_s: float
    left: bool = False


class Losses:
    """All of a sitting.

    Args:
        left: whether any of these machines is gone.
        visits: told what a loss has turned out to be.
        clock: seconds that only grow.
    """

    def __init__(
        self, left: Callable[[Sequence[str]], bool], visits: Visits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._left, self._visits, self._clock = left, visits, clock
        self._all: list[Loss] = []

    @property
    def failed(self) -> int:
        """Replicas that died, hung or failed, on machines that stayed."""
        return sum(not loss.left for loss in self._all)

    @property
    def gone(self) -> int:
        """Replicas that a machine took along."""
        return sum(loss.left for loss in self._all)

    def add(self, replica: str, machines: Sequence[str]) -> Loss:
        """One more."""
        self._all.append(Loss(replica, tuple(machines), self._clock(), self._left(machines)))
        return self._all[-1]

    def look_again(self) -> None:
        """Whether machines of those who were lost of late are gone by now."""
        since = self._clock() - _FOUND_GONE_S
        for loss in reversed(self._all):
            if loss.at_s < since:
                return
            if not loss.left and self._left(loss.machines):
                loss.left = True
                self._visits.correct(loss.replica, LEFT)
