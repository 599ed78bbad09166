"""Where a process's time goes: products, draws, packing, sending, waiting, updates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from striate.compute import synchronise

PARTS = ("products", "draws", "packing", "sending", "waiting", "updates")


class Profile:
    """Seconds spent in each part of a step.

    Args:
        device: whose work is waited for before a clock is read, where the profile is ``exact``.
        exact: whether to wait for a GPU around every part; on a processor nothing is to be waited for.
    """

    def __init__(self, device: torch.device | str = "cpu", exact: bool = False) -> None:
        self._device, self._exact = torch.device(device), exact
        self._inside = False
        self.seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside; parts within parts count for the outer one alone."""
        if self._inside:
            yield
            return
        self._inside = True
        self._wait()
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._wait()
            self.seconds[name] += time.perf_counter() - begun
            self._inside = False

    def rest(self, name: str) -> Callable[[], None]:
        """From now until what is returned is called, count for a part whatever no other part counts."""
        self._wait()
        begun, counted = time.perf_counter(), sum(self.seconds.values())

        def end() -> None:
            self._wait()
            self.seconds[name] += time.perf_counter() - begun - (sum(self.seconds.values()) - counted)

        return end

    def _wait(self) -> None:
        if self._exact:
            synchronise(self._device)
