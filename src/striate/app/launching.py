"""``--processes K``: the same command in K processes of this machine, with one voice.

torchrun does the same over many machines; here a stop request is passed on and waited for until everything is saved (torchrun
kills after half a minute), and a process that is killed gives one line that says which and how.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from striate.app.stopping import ERROR_FILE
from striate.cluster.parallel import open_meeting
from striate.errors import BadInput, Interrupted, StriateError

# The others notice within moments and hold a roll call; who then still runs is stuck.
_GRACE_S, _LAST_WORDS_S = 15.0, 5.0
_LOOK_EVERY_S = 0.05


def launch(verb: str, arguments: Sequence[str], count: int, restarts: int) -> int:
    """Run one command in ``count`` processes; returns its exit code.

    Args:
        verb: of the command.
        arguments: as given; processes that were started do not start others.
        count: of processes.
        restarts: how often to begin again, from the last checkpoint, after a process was lost.
    """
    store = open_meeting()
    with tempfile.TemporaryDirectory() as folder:
        for attempt in range(restarts + 1):
            job = _Job([verb, *arguments], count, store.port, attempt, Path(folder))
            code, said = job.run()
            if code in (0, BadInput.exit_code, Interrupted.exit_code) or attempt == restarts:
                break
            sys.stderr.write(f"striate: {said}; going on from the last checkpoint (restart {attempt + 1} of {restarts})\n")
    if said:
        sys.stderr.write(f"striate: {said}\n")
    return code


class _Job:
    """One attempt."""

    def __init__(self, command: Sequence[str], count: int, port: int, attempt: int, folder: Path) -> None:
        self._count = count
        self._words = [folder / f"{attempt}-{rank}" for rank in range(count)]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._processes = []
        for rank in range(count):
            own = {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "TORCHELASTIC_RESTART_COUNT": str(attempt),
                ERROR_FILE: str(self._words[rank]),
            }
            threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // count)))}
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "striate", *command],
                    env={**os.environ, **threads, **own},
                    # Ctrl-C reaches them through us alone, once.
                    start_new_session=True,
                    stdout=None if rank == 0 else subprocess.DEVNULL,
                )
            )

    def run(self) -> tuple[int, str]:
        """Wait until all have ended; the exit code of the job and what to say."""
        with self._passing_on():
            first = self._first_failure()
            if first is None:
                return 0, ""
            if self._processes[first].returncode == Interrupted.exit_code:
                # All were asked; the first may still be writing what a large model is.
                for process in self._processes:
                    process.wait()
            else:
                self._end()
        return self._verdict(first)

    @contextmanager
    def _passing_on(self) -> Iterator[None]:
        """Signals go on to all processes, who save and end."""

        def pass_on(number: int, frame: FrameType | None) -> None:
            for process in self._processes:
                with suppress(ProcessLookupError):
                    process.send_signal(number)

        previous = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _first_failure(self) -> int | None:
        while True:
            codes = [process.poll() for process in self._processes]
            # Of several that ended between two looks, one that was killed is the cause.
            failed = sorted((code, rank) for rank, code in enumerate(codes) if code)
            if failed:
                return failed[0][1]
            if None not in codes:
                return None
            time.sleep(_LOOK_EVERY_S)

    def _end(self) -> None:
        """Let the others end by themselves, then less and less gently."""
        for ask, patience in ((None, _GRACE_S), (signal.SIGTERM, _LAST_WORDS_S), (signal.SIGKILL, _LAST_WORDS_S)):
            for process in self._processes:
                if ask is not None and process.poll() is None:
                    process.send_signal(ask)
            until = time.monotonic() + patience
            while time.monotonic() < until:
                if all(process.poll() is not None for process in self._processes):
                    return
                time.sleep(_LOOK_EVERY_S)

    def _verdict(self, first: int) -> tuple[int, str]:
        code = self._processes[first].returncode
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            hint = ": was memory short?" if name == "SIGKILL" else ""
            return StriateError.exit_code, f"process {first} of {self._count} was killed by {name}{hint}"
        said = [words.read_text() if words.exists() else "" for words in self._words]
        if self._processes[0].returncode == code and said[0]:
            # Of several that say the same, the first knows the run by its name.
            return code, said[0]
        words = said[first] or next((one for one in said if one), f"process {first} of {self._count} ended with code {code}")
        return code, words
