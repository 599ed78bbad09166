"""Bytes from one process to another through a piece of memory that both have mapped.

Each end counts for itself where it is and how much it may still move; what the other end did, it is told (`neighbours.py`). So
no number in the memory is written by one and read by the other, and no order of stores is relied on.
"""

from __future__ import annotations

import numpy as np


class RingEnd:
    """The writing or the reading end.

    Args:
        memory: (capacity,) bytes.
        writes: which of the two.

    Attributes:
        room: bytes that may be moved now: free ones, or ones to be read.
    """

    def __init__(self, memory: np.ndarray, writes: bool) -> None:
        self._memory, self._writes, self._at = memory, writes, 0
        self.room = len(memory) if writes else 0

    def move(self, data: np.ndarray) -> int:
        """Write from, or read into, the beginning of an array of bytes: as many as may be; returns how many."""
        count = min(self.room, len(data))
        first = min(count, len(self._memory) - self._at)
        self._copy(data[:first], self._at)
        self._copy(data[first:count], 0)
        self._at = (self._at + count) % len(self._memory)
        self.room -= count
        return count

    def _copy(self, data: np.ndarray, at: int) -> None:
        there = self._memory[at : at + len(data)]
        if self._writes:
            there[:] = data
        else:
            data[:] = there
