"""What simulations share: the library of events, steps of varying length, and processors that are shared."""

from __future__ import annotations

import math
from collections.abc import Generator
from types import ModuleType
from typing import Any

import numpy as np

from striate.errors import BadInput

# Rounding of the clock: work of less is done.
_NOTHING_S = 1e-12


def step_length(mean_s: float, jitter: float, random: np.random.Generator) -> float:
    """Of one step; its mean is the same whatever the jitter."""
    if not jitter:
        return mean_s
    return float(mean_s * np.exp(jitter * random.standard_normal() - jitter**2 / 2))


def engine() -> ModuleType:
    """The library of events.

    Raises:
        BadInput: it is not installed.
    """
    try:
        import simpy
    except ImportError:
        raise BadInput("simulating clusters needs an extra: pip install 'striate[ray]'") from None
    module: ModuleType = simpy
    return module


class Processors:
    """One machine's, shared evenly by whoever has work: n pieces of it on P processors go on at min(1, P / n) each.

    Args:
        environment: the clock.
        count: of processors; 0: as many as are asked for.
        crowded: how fast each works when all are busy, beside one that works alone.
    """

    def __init__(self, environment: Any, count: int = 0, crowded: float = 1.0) -> None:
        self._environment, self._count, self._crowded = environment, count or math.inf, crowded
        self._left: dict[Any, float] = {}
        self._since, self._turn = 0.0, 0

    def work(self, seconds: float) -> Any:
        """An event: so many seconds of a processor of one's own were given."""
        if math.isinf(self._count):
            return self._environment.timeout(seconds)
        self._go_on()
        done = self._environment.event()
        self._left[done] = seconds
        self._wake_when_next_is_done()
        return done

    @property
    def _rate(self) -> float:
        busy = len(self._left)
        return min(1.0, self._count / busy) * (self._crowded if busy >= self._count else 1.0)

    def _go_on(self) -> None:
        passed = self._environment.now - self._since
        self._since = self._environment.now
        if self._left:
            given = passed * self._rate
            self._left = {done: left - given for done, left in self._left.items()}

    def _wake_when_next_is_done(self) -> None:
        self._turn += 1
        if self._left:
            self._environment.process(self._wake(min(self._left.values()) / self._rate, self._turn))

    def _wake(self, after_s: float, turn: int) -> Generator[Any, Any, None]:
        yield self._environment.timeout(max(after_s, 0.0))
        if turn != self._turn:
            # Somebody came or went since.
            return
        self._go_on()
        # The one that was waited for is done, whatever rounding says.
        least = max(min(self._left.values()), _NOTHING_S)
        for done in [one for one, left in self._left.items() if left <= least]:
            del self._left[done]
            done.succeed()
        self._wake_when_next_is_done()
