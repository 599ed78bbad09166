"""Ctrl-C and SIGTERM, which no library on the way may lose.

Some libraries clear every exception around what they try (pyarrow, while it looks for optional modules), and an interrupt that
arrives there vanishes with the rest. So a request is remembered, and asked again wherever work reports its progress.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Where a process of several that one command started leaves its last words for it.
ERROR_FILE = "STRIATE_ERROR_FILE"


class StopRequests:
    """A signal handler that raises `KeyboardInterrupt`, now and at every `check` after it."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Remember, and interrupt."""
        self._asked = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if somebody asked."""
        if self._asked:
            raise KeyboardInterrupt


def end_with_parent() -> None:
    """Ask to be sent SIGTERM when the parent is gone, so that nothing trains on with nobody to stop it; Linux alone can."""
    set_death_signal = 1
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


@contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Answer SIGTERM as Ctrl-C; a signal that is ignored (Ctrl-C in the background of a script) stays ignored."""
    requests = StopRequests()
    previous = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            previous[number] = signal.signal(number, requests)
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
