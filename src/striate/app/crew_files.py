"""RUN/crew: how a run of replicas stands, and how many of them somebody wants while it goes.

    now.json     written by the driver every second or two: who is there, how fast, how stale, what was lost
    wanted.json  written by `striate replicas RUN K`, which the driver looks for as often

Both are replaced as a whole, so that nobody reads half of one.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from striate.cluster.asynchronous.crew import Wanted
from striate.errors import BadInput
from striate.train.checkpoint import read_json, write_text

_WRITE_EVERY_S = 2.0


def parse_wanted(text: str) -> Wanted:
    """`4`, or `2:8`.

    Raises:
        ValueError: it is neither.
    """
    parts = re.fullmatch(r"([0-9]{1,6})(?::([0-9]{1,6}))?", text)
    if parts is None:
        raise ValueError(text)
    found = Wanted(int(parts[1]), int(parts[2] or parts[1]))
    if not 1 <= found.least <= found.most:
        raise ValueError(text)
    return found


def now_file(run: Path) -> Path:
    """Where the driver says how it goes."""
    return run / "crew" / "now.json"


def read_now(run: Path) -> dict[str, Any]:
    """What it last said; nothing if it never did."""
    with suppress(OSError, ValueError):
        found = read_json(now_file(run))
        return found if isinstance(found, dict) else {}
    return {}


def is_trained(run: Path) -> bool:
    """Whether somebody trains the run at this moment."""
    try:
        with (run / ".lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def ask(run: Path, wanted: Wanted) -> None:
    """Leave word for the driver."""
    write_text(run / "crew" / "wanted.json", json.dumps({"least": wanted.least, "most": wanted.most}))


class CrewFiles:
    """The driver's side.

    Args:
        run: the run directory.

    Attributes:
        earlier: who was there in earlier sittings.
    """

    def __init__(self, run: Path) -> None:
        self._run, self._stamp, self._written_s = run, 0, 0.0
        self._began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        known = read_json(run / "run.json").get("cluster") or {}
        last = read_now(run)
        # The driver before may have been killed: then only this file knows who was there.
        unsaid = [] if last.get("ended", True) else last.get("crew", [])
        self.earlier = [*known.get("crew", []), *unsaid]
        shutil.rmtree(run / "crew", ignore_errors=True)
        (run / "crew").mkdir()

    def all_visits(self, visits: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Earlier ones, and this sitting's with the time when it began."""
        return [*self.earlier, *({"sitting": self._began, **visit} for visit in visits)]

    def pulse(self, fleet: Any) -> None:
        """Take up what somebody wants, and tell how it goes."""
        if (wanted := self._asked()) is not None:
            fleet.members.want(wanted)
        if wanted is not None or time.monotonic() - self._written_s > _WRITE_EVERY_S:
            self._write(fleet, ended=False)
            self._written_s = time.monotonic()

    def _asked(self) -> Wanted | None:
        file = self._run / "crew" / "wanted.json"
        try:
            stamp = file.stat().st_mtime_ns
            if stamp == self._stamp:
                return None
            found = read_json(file)
            self._stamp = stamp
            return Wanted(int(found["least"]), int(found["most"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, fleet: Any, ended: bool) -> None:
        from striate.cluster.asynchronous.standing import standing

        told = standing(fleet)
        told |= {"crew": [{"sitting": self._began, **visit} for visit in told["crew"]], "ended": ended}
        # A full disk is no reason to stop; checkpoints will say so.
        with suppress(OSError):
            write_text(now_file(self._run), json.dumps(told))

    def close(self, fleet: Any) -> None:
        """The last word."""
        self._write(fleet, ended=True)


def changed(run: Path, wanted: Wanted, patience_s: float) -> dict[str, Any]:
    """Ask the driver of a run for another number of replicas, and wait until it has heard; how the run stands.

    Raises:
        BadInput: nobody trains the run with replicas.
    """
    standing = stands(run)
    ask(run, wanted)
    until = time.monotonic() + patience_s
    while standing.get("wanted") != str(wanted) and time.monotonic() < until:
        time.sleep(0.1)
        standing = read_now(run)
    return {**standing, "heard": standing.get("wanted") == str(wanted)}


def stands(run: Path) -> dict[str, Any]:
    """How a run that is being trained by replicas stands.

    Raises:
        BadInput: nobody trains it, or one process does.
    """
    if not (run / "run.json").exists():
        raise BadInput(f"{run} is no run directory: expected one that `striate train ... --replicas K` is training")
    if not is_trained(run):
        raise BadInput(f"nobody is training {run}: go on with it by `striate resume {run} --replicas K`")
    if not (run / "crew").is_dir():
        raise BadInput(f"{run} is trained without replicas: stop it, then `striate resume {run} --replicas K`")
    return read_now(run)
