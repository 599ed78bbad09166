"""Ray: started on this machine for as long as it is needed, or met where it runs.

A local one listens on this machine's loopback alone, asks for a token that only its own processes know, shows no dashboard and
reports to nobody. What it prints is for its developers; what its processes have to say, the driver says.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from striate.cluster.parallel import answers
from striate.errors import BadInput, StriateError

# Read by Ray when it is imported, and handed on to its processes.
_ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # What a lost replica's other leases failed with, nobody asks.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
}
# Ray takes its address for the loopback's, and so binds to nothing else, where it believes that there can be no other machine.
_LOCAL = {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_ANSWER_S = 5.0


@contextmanager
def ray_cluster(address: str | None, processors: int) -> Iterator[ModuleType]:
    """Ray, connected.

    Args:
        address: of a running cluster (`auto`: the one this machine belongs to); None starts one here.
        processors: that a local one counts.

    Raises:
        BadInput: Ray is not installed, or nobody answers at the address.
        StriateError: it cannot be started here.
    """
    for name, value in {**_ALWAYS, **(_LOCAL if address is None else {})}.items():
        os.environ.setdefault(name, value)
    if address is None:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray = _ray()
    if address is not None:
        _check_address(address)
    try:
        if address is None:
            # Without an address Ray would join whatever cluster this machine belongs to.
            ray.init("local", num_cpus=processors, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        else:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Of any kind: what takes too long to start is a plain one.
        with suppress(Exception):
            ray.shutdown()
        raise (_not_started(error) if address is None else _not_met(address, error)) from None
    # What becomes of processes would be printed on the standard output, between a command's results: Ray starts a thread for
    # that in every driver, whatever it is told of logs (seen in 2.60). No public switch reaches it; its debugger uses this one.
    ray._private.worker._worker_logs_enabled = False
    try:
        yield ray
    finally:
        ray.shutdown()


def _not_started(error: Exception) -> StriateError:
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"
    if isinstance(error, OSError):
        hint = f"its files go to {folder}: set RAY_TMPDIR to a folder with room, of a short path, that can be written to"
    else:
        hint = f"try again when the machine is less busy; what its processes said is in {folder / 'session_latest' / 'logs'}"
    return StriateError(f"Ray could not be started on this machine ({_first_line(error)}): {hint}")


def _not_met(address: str, error: Exception) -> BadInput:
    if "version mismatch" in str(error).lower():
        return BadInput(f"the Ray cluster at {address} is of another version ({_joined(error)}): install the same here")
    hint = "start one with `ray start --head`; if it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    return BadInput(f"no Ray cluster answers at {address} ({_first_line(error)}): {hint}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _joined(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _check_address(address: str) -> None:
    """Ray itself would ask for minutes, and then say so at length."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit():
        raise BadInput(f"--address: expected HOST:PORT, auto or local, found {address!r}")
    if not answers(host, int(port), _ANSWER_S):
        raise BadInput(f"no Ray cluster answers at {address}: start one with `ray start --head`, or leave --address out")


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise BadInput("this runs on Ray, which is not installed: pip install 'striate[ray]'") from None
    return ray
