"""Where connections go out: by the system's own list of interfaces."""

from __future__ import annotations

import socket

import pytest

from striate.cluster.connections import interface_of


def test_an_interface_is_found_by_its_address() -> None:
    """The loopback's is known; one for documentation is nobody's."""
    assert interface_of("127.0.0.1") in [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    assert interface_of("198.51.100.1") is None


def test_the_way_to_other_machines_is_not_the_loopback() -> None:
    """By the address that the system would send from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("198.51.100.1", 9))
        except OSError:
            pytest.skip("this machine has no way to others")
        own = asked.getsockname()[0]
    found = interface_of(own)
    assert found in [name for _, name in socket.if_nameindex()] and not str(found).startswith("lo")
