"""Processes of this machine and who began them, by the kernel's own list."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ALL = Path("/proc")


@dataclass(frozen=True)
class Process:
    """One that was seen; numbers are given again, but not at the same moment.

    Attributes:
        pid: its number.
        begun: when, in the kernel's ticks.
        parent: who began it, or looks after it since.
        ended: whether it is dead, and only waits for its parent to ask.
    """

    pid: int
    begun: int
    parent: int
    ended: bool

    @property
    def name(self) -> str:
        """Its command line; empty, if it has ended."""
        with suppress(OSError):
            return (_ALL / str(self.pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return ""

    def shared(self) -> list[str]:
        """Files in shared memory that it has open and that would outlive it."""
        found = []
        with suppress(OSError):
            for file in (_ALL / str(self.pid) / "fd").iterdir():
                with suppress(OSError):
                    found.append(str(file.readlink()))
        return [one for one in found if one.startswith("/dev/shm/") and not one.endswith("(deleted)")]


def _seen(pid: int) -> Process | None:
    try:
        state, parent, *rest = (_ALL / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Process(pid, int(rest[17]), int(parent), state == "Z")


def below(pid: int) -> list[Process]:
    """All that a process has begun, and those have, in turn."""
    children = defaultdict(list)
    for folder in _ALL.iterdir():
        if folder.name.isdigit() and (one := _seen(int(folder.name))) is not None:
            children[one.parent].append(one)
    found, left = [], [pid]
    while left:
        begun = children[left.pop()]
        found += begun
        left += [one.pid for one in begun]
    return found


def alive(processes: Iterable[Process]) -> list[Process]:
    """Those that have not ended."""
    now = [(one, _seen(one.pid)) for one in processes]
    return [one for one, seen in now if seen is not None and not seen.ended and seen.begun == one.begun]


def kill_all(pid: int) -> None:
    """SIGKILL to a process and all below it; it is stopped first, so that it begins no others meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    for one in [pid, *(one.pid for one in below(pid))]:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
