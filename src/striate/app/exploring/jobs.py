"""Work behind the pages: a page opens at once, says how far its numbers are, and fills in when they are there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from striate.app.screen import Screen, Task
from striate.errors import Interrupted, StriateError

Line = Literal["pictures", "filters", "units", "classifier", "slow"]
LINES: tuple[Line, ...] = get_args(Line)
State = Literal["waiting", "running", "done", "failed"]
# How long work may take to see that it is to end: a process must not go away under threads that compute.
_ENDING_S = 20
# Failed work is begun again no sooner than this.
_AGAIN_S = 15.0


@dataclass
class Job:
    """One piece of work.

    Attributes:
        name: of the work; asked for again, it is not done again.
        says: what it does, for people.
        line: which it waits in.
        state: where it is.
        result: of work that is done.
        error: of work that failed.
        ended: when it did, by the clock of `Jobs`.
    """

    name: str
    says: str
    line: Line = "pictures"
    state: State = "waiting"
    result: Any = None
    error: str = ""
    ended: float = 0.0
    task: Task | None = None
    total: float | None = None
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def share(self) -> float | None:
        """How much is done, 0 to 1, where that is known."""
        return None if self.task is None or not self.total else min(1.0, self.task.done / self.total)

    def told(self) -> dict[str, Any]:
        """For a page."""
        return {
            "name": self.name,
            "says": self.says,
            "line": self.line,
            "state": self.state,
            "share": self.share,
            "error": self.error,
        }


class Jobs:
    """Work by name. Work of one line is done in turn, lines go beside each other.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._lines = {line: threading.Lock() for line in LINES}
        self._jobs: dict[str, Job] = {}
        self._stop = threading.Event()

    def start(
        self, name: str, says: str, work: Callable[[Screen], Any], after: Job | None = None, line: Line = "pictures"
    ) -> Job:
        """Begin work unless it was begun before; work that failed is begun again after a while, not at every request.

        Args:
            name: of the work.
            says: what it does, for people.
            work: to do.
            after: work that has to be done first; if that fails, so does this.
            line: which it waits in; `slow` is for what takes minutes.
        """
        with self._mutex:
            known = self._jobs.get(name)
            if known is not None and (known.state != "failed" or self._clock() - known.ended < _AGAIN_S):
                return known
            job = self._jobs[name] = Job(name, says, line)
        threading.Thread(target=self._do, args=(job, work, after, line), daemon=True, name=name).start()
        return job

    def known(self, name: str) -> Job | None:
        """Work that was begun."""
        return self._jobs.get(name)

    def told(self) -> list[dict[str, Any]]:
        """All work, the latest last."""
        with self._mutex:
            return [job.told() for job in self._jobs.values()]

    def forget(self) -> None:
        """Drop what was worked out: the model is another one now."""
        with self._mutex:
            self._jobs = {}

    def stop(self) -> None:
        """Ask all work to end, which it does when it next reports its progress, and wait for that."""
        self._stop.set()
        with self._mutex:
            begun = list(self._jobs.values())
        for job in begun:
            job.finished.wait(_ENDING_S)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Interrupted("the server ends")

    def _do(self, job: Job, work: Callable[[Screen], Any], after: Job | None, line: Line) -> None:
        if after is not None:
            # Outside the line, in which that work may still have to wait for its turn.
            while not after.finished.wait(0.2) and not self._stop.is_set():
                pass
            if after.state != "done":
                job.error, job.state, job.ended = after.error or "the server ends", "failed", self._clock()
                job.finished.set()
                return
        with self._lines[line]:
            job.state = "running"
            try:
                self._check()
                job.result = work(_JobScreen(job, self._check))
                job.state = "done"
            except StriateError as error:
                job.error, job.state = str(error), "failed"
            except Exception as error:
                # A fault of ours: the page says so, and the server goes on.
                job.error, job.state = f"{type(error).__name__}: {error}", "failed"
            finally:
                job.ended = self._clock()
                job.finished.set()


class _JobScreen(Screen):
    """Says nothing; progress is kept for the page."""

    def __init__(self, job: Job, check: Callable[[], None]) -> None:
        super().__init__(quiet=True, check=check)
        self._job = job

    @contextmanager
    def progress(self, description: str, total: float | None, unit: str) -> Iterator[Task]:
        """A task whose count the page shows."""
        task = Task(self.console, description, total, unit, None, self.check)
        self._job.task, self._job.total = task, total
        yield task
