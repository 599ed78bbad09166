"""Who gets which pictures next: those of an order that nobody has decided on, none given to two labellers at once.

A page of pictures is lent for some minutes; what was not answered by then is lent to the next who asks. Two people who answer
on the same picture all the same (a lease ran out, a page stayed open) are both recorded, and the picture is disputed if they
differ. Cost: a pass over the order's arrays a page, about a millisecond for 100,000 pictures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

LEASE_S = 600.0


class Queue:
    """Lends pictures of one class and stage.

    Args:
        count: pictures of the store.
        clock: seconds.
    """

    def __init__(self, count: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._done = np.zeros(count, dtype=bool)
        self._holder = np.full(count, -1, dtype=np.int32)
        self._until = np.zeros(count)
        self._labellers: dict[str, int] = {}
        self._mutex = threading.Lock()

    def take(self, labeller: str, count: int, order: np.ndarray, beside: np.ndarray | None = None) -> np.ndarray:
        """Lend a labeller the next pictures: first those lent to them already, so that a page that is loaded anew is the same.

        Args:
            labeller: a name.
            count: at most so many.
            order: positions.
            beside: positions that are on their way already (another page of the same labeller) and are not given again.
        """
        with self._mutex:
            number = self._labellers.setdefault(labeller, len(self._labellers))
            now = self._clock()
            waiting = order[~self._done[order]]
            if beside is not None and len(beside):
                waiting = waiting[~np.isin(waiting, beside)]
            lent = self._until[waiting] > now
            mine = lent & (self._holder[waiting] == number)
            free = np.concatenate([waiting[mine], waiting[~lent]])[:count]
            self._holder[free] = number
            self._until[free] = now + LEASE_S
            return free

    def decide(self, positions: np.ndarray | list[int], done: bool) -> None:
        """Note that these need no answer any more, or need one again."""
        with self._mutex:
            self._done[positions] = done
            if not done:
                self._until[positions] = 0

    def release(self, labeller: str) -> None:
        """Take back what a labeller was lent and has not answered."""
        with self._mutex:
            number = self._labellers.get(labeller)
            if number is not None:
                self._until[self._holder == number] = 0

    def remaining(self, order: np.ndarray) -> int:
        """How many of these wait for an answer."""
        with self._mutex:
            return int((~self._done[order]).sum())
