"""One other process of this machine: rings for what goes and comes, and pipes that tell of it.

A pipe that is full, of some thousand messages to one who does not listen, stops nobody: news are sums, and wait as one until
there is room. Whoever waits until its message is sent waits for that, too (`neighbours.py`), and listens to all meanwhile.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from striate.cluster.ring import RingEnd

# On a pipe: bytes written for you, bytes of yours that were read; written in one piece, as pipes promise.
_NEWS = struct.Struct("=QQ")
_ALARM = (2**64 - 1, 2**64 - 1)


@dataclass
class Neighbour:
    """Another process of this machine.

    Attributes:
        rank: which.
        out: the ring in its inbox.
        into: the ring in this process's inbox.
        hears: its pipe, to write to.
        tells: this process's pipe, to read from.
        sending: what is still to be written, bytes.
        receiving: what is still to be filled, bytes.
        sent: messages that are written, of all that were begun.
        received: the same.
        untold: bytes that were written, and that were read, of which the other is still to be told.
        gone: whether it has ended, or nothing can be told it any more.
        alarmed: whether it has said that it lost another.
    """

    rank: int
    out: RingEnd
    into: RingEnd
    hears: int
    tells: int
    sending: deque[np.ndarray] = field(default_factory=deque)
    receiving: deque[np.ndarray] = field(default_factory=deque)
    sent: int = 0
    received: int = 0
    untold: tuple[int, int] = (0, 0)
    gone: bool = False
    alarmed: bool = False

    def advance(self) -> None:
        """Move what can be moved, and tell the other."""
        written, sent = _moved(self.out, self.sending)
        read, received = _moved(self.into, self.receiving)
        self.sent, self.received = self.sent + sent, self.received + received
        self.untold = self.untold[0] + written, self.untold[1] + read
        if any(self.untold) and self._told(*self.untold):
            self.untold = 0, 0

    def listen(self) -> None:
        """Take in what the other told."""
        try:
            told = os.read(self.tells, 256 * _NEWS.size)
        except BlockingIOError:
            return
        self.gone = self.gone or not told
        for written, read in _NEWS.iter_unpack(told):
            if (written, read) == _ALARM:
                self.alarmed = True
                return
            self.into.room += written
            self.out.room += read

    def alarm(self) -> None:
        """Tell the other that this process lost somebody; where there is no room for that, by an end of the pipe."""
        if not self._told(*_ALARM):
            os.close(self.hears)
            self.gone = True

    def _told(self, written: int, read: int) -> bool:
        """Whether there was room to tell of bytes of each kind; who is gone needs to be told nothing."""
        if self.gone:
            return True
        try:
            os.write(self.hears, _NEWS.pack(written, read))
        except BlockingIOError:
            return False
        except BrokenPipeError:
            self.gone = True
        return True


def _moved(end: RingEnd, waiting: deque[np.ndarray]) -> tuple[int, int]:
    """Bytes, and whole messages."""
    moved, whole = 0, 0
    while waiting and end.room:
        count = end.move(waiting[0])
        moved += count
        if count < len(waiting[0]):
            waiting[0] = waiting[0][count:]
        else:
            waiting.popleft()
            whole += 1
    return moved, whole
