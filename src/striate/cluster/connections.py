"""Connections that an engine keeps to itself, hung up: whoever waits at the other end hears of it at once.

gloo closes its connections when nothing refers to it any more, which is when the process ends: too late for another that waits
for this one while this one asks who is lost.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

_OPEN = Path("/proc/self/fd")


def connections() -> dict[str, int]:
    """This process's sockets, by the system's name for each; none where the system does not list them."""
    found = {}
    with suppress(OSError):
        for entry in _OPEN.iterdir():
            with suppress(OSError):
                name = str(entry.readlink())
                if name.startswith("socket:"):
                    found[name] = int(entry.name)
    return found


def hang_up(names: set[str], but_port: int) -> None:
    """Shut connections down, those of a port excepted: nothing more comes or goes by them.

    Args:
        names: as `connections` gave them.
        but_port: here or at the other end, where the processes go on meeting.
    """
    for name, number in connections().items():
        if name in names:
            with suppress(OSError), socket.socket(fileno=os.dup(number)) as one:
                is_tcp = one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM
                if is_tcp and but_port not in (one.getsockname()[1], one.getpeername()[1]):
                    one.shutdown(socket.SHUT_RDWR)
