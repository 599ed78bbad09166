"""Connections that an engine keeps to itself: where they go out, and hung up, so that who waits at the other end hears of it.

gloo closes its connections when nothing refers to it any more, which is when the process ends: too late for another that waits
for this one while this one asks who is lost.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

_OPEN = Path("/proc/self/fd")
# Linux: an interface's address, after its name and the family and port that go with an address.
_SIOCGIFADDR, _BEFORE_ADDRESS, _ASKED = 0x8915, 20, struct.Struct("256s")


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


def interface_of(address: str) -> str | None:
    """The network interface that has an IPv4 address; None where there is none, or the system does not tell."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            # One without an address, or another system than Linux.
            with suppress(OSError):
                told = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, _ASKED.pack(name.encode()))
                if socket.inet_ntoa(told[_BEFORE_ADDRESS : _BEFORE_ADDRESS + 4]) == address:
                    return name
    return None
