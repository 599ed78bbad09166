"""Which minibatches are handed out, and which come back: arithmetic of numbers, whoever holds them.

Minibatches are numbered over the whole run. Each is handed out once, and again if what was learned from it is lost, with a
replica or with a shard. So a run ends when shards have had as many as were asked for, however many were lost on the way:
DistBelief lets updates be lost, too, but a run that is shorter for it has learned less.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

# A lease takes about so long, so that talk with the driver costs nothing and little is done twice after a loss.
_LEASE_S, _LONGEST = 0.4, 256
# So many leases lie ready for a replica, that it never waits for the driver.
READY = 2
# So many that are in the shards are remembered: more than the seconds before a snapshot bring.
_REMEMBERED = 1 << 16


class Leases:
    """Minibatches from one number to another.

    Args:
        first: the number to begin with.
        total: of the run.
        warm_start: so many are one replica's alone.

    Attributes:
        finished: minibatches that were learned from.
        settled: of those, how many are in the shards, as far as replicas know.
        redone: handed out again.
    """

    def __init__(self, first: int, total: int, warm_start: int) -> None:
        self._first, self._next, self._total, self._warm_start = first, first, total, warm_start
        self._again: list[int] = []
        self.finished, self.settled, self.redone = first, 0, 0
        self._latest: deque[int] = deque(maxlen=_REMEMBERED)
        # Those of `_again`, and of what was handed out again, that count as finished already.
        self._told: set[int] = set()

    @property
    def first(self) -> int:
        """The one to be handed out next, or the run's last."""
        return min(self._next, self._total - 1)

    @property
    def begun(self) -> bool:
        """Whether any were handed out."""
        return self._next > self._first

    @property
    def all_out(self) -> bool:
        """Whether nothing is left to hand out."""
        return self._next >= self._total and not self._again

    @property
    def following(self) -> int | None:
        """What will be handed out after what is out now, if that is known."""
        return self._next if self._next < self._total and not self._again else None

    @property
    def warming(self) -> bool:
        """Whether one replica learns alone."""
        return self.finished < self._warm_start

    def length(self, step_s: float | None, members: int) -> int:
        """How many a replica is to have at once, if one takes it so long (None: that is not known yet)."""
        if step_s is None:
            return 1
        left = (self._total - self._next) // (2 * READY * members)
        length = min(int(_LEASE_S / max(step_s, 1e-6)), _LONGEST, max(left, 1))
        if self.warming:
            length = min(length, self._warm_start - self.finished)
        return max(1, length)

    def take(self, count: int) -> list[int]:
        """The next ones: first those that a lost replica had."""
        found = [heapq.heappop(self._again) for _ in range(min(count, len(self._again)))]
        if not found:
            found = list(range(self._next, min(self._next + count, self._total)))
            self._next += len(found)
        return found

    def learned(self, slots: Sequence[int]) -> list[bool]:
        """They were learned from; of each whether that is new."""
        new = [slot not in self._told for slot in slots]
        self._told.difference_update(slots)
        self.finished += sum(new)
        return new

    def settle(self, slots: Sequence[int]) -> None:
        """What was learned from them is in the shards."""
        self.settled += len(slots)
        self._latest.extend(slots)

    def give_back(self, slots: Sequence[int], told: bool = False) -> None:
        """Whoever had them is lost.

        Args:
            slots: their numbers.
            told: whether they were learned from, and what that gave is lost.
        """
        for slot in slots:
            heapq.heappush(self._again, slot)
        self.redone += len(slots)
        if told:
            self._told.update(slots)

    def make_up(self, held: int) -> bool:
        """Hand out again as many as shards have lost: the latest, whose places in the schedule are those of now.

        Args:
            held: minibatches that the shard with the fewest has had since the first.

        Returns:
            Whether it had lost any.
        """
        short = min(self.settled - held, len(self._latest))
        if short <= 0:
            return False
        self.settled -= short
        self.give_back([self._latest.pop() for _ in range(short)], told=True)
        return True
