"""What a person sees: text, tables, and progress that is a bar on a terminal and a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 10.0


class Task:
    """Progress of one piece of long work.

    Args:
        console: where lines go if there is no bar.
        description: of the work.
        total: how many units there are, if that is known.
        unit: what is counted, in the plural.
        bar: to draw on a terminal.
        check: called at every advance; raises if the work is to stop.
        clock: seconds.
    """

    def __init__(
        self,
        console: Console,
        description: str,
        total: float | None,
        unit: str,
        bar: Progress | None,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._description, self._total, self._unit = console, description, total, unit
        self._skipped = 0.0
        self._bar = bar
        self._check = check
        self._id = bar.add_task(description, total=total, note="") if bar else None
        self._clock = clock
        self._started = self._last_line = clock()
        self.done = 0.0

    def skip(self, amount: float) -> None:
        """Count what was done before, without a bearing on the rate."""
        self.done += amount
        self._skipped += amount
        if self._bar is not None and self._id is not None:
            self._bar.reset(self._id, completed=int(self.done))

    def advance(self, amount: float = 1, **fields: object) -> None:
        """Count ``amount`` more; fields (loss, error, ...) are shown beside the rate."""
        self._check()
        self.done += amount
        now = self._clock()
        if self._bar is not None and self._id is not None:
            self._bar.update(self._id, advance=amount, note=self._note(now, fields))
        elif now - self._last_line > _LINE_EVERY_S:
            self._last_line = now
            share = f"{100 * self.done / self._total:.0f}% " if self._total else ""
            self._console.print(f"{self._description}: {share}{self._note(now, fields)}{self._left(now)}", markup=False)

    def _note(self, now: float, fields: dict[str, object]) -> str:
        rate = (self.done - self._skipped) / max(now - self._started, 1e-9)
        shown = "".join(f"  {name} {value}" for name, value in fields.items())
        return f"{rate:,.0f} {self._unit}/s{shown}"

    def _left(self, now: float) -> str:
        if not self._total or self.done <= self._skipped:
            return ""
        return f"  {(self._total - self.done) * (now - self._started) / (self.done - self._skipped):.0f} s left"


class Screen:
    """Where a command speaks. With ``--json`` everything but the result goes to stderr.

    Args:
        to_stderr: whether that is so.
        quiet: say nothing at all.
        check: called whenever work reports its progress; raises if the work is to stop.
    """

    def __init__(self, *, to_stderr: bool = False, quiet: bool = False, check: Callable[[], None] = lambda: None) -> None:
        self.check = check
        # Without emoji: a path with `:cat:` in it is printed as it is.
        self.console = Console(stderr=to_stderr, quiet=quiet, highlight=False, soft_wrap=True, emoji=False)
        self._errors = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True, emoji=False)

    def say(self, message: RenderableType) -> None:
        """Print text (as it is, no markup) or anything rich can draw."""
        self.console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """Print a line on stderr."""
        self._errors.print(f"striate: {message}", markup=False)

    @contextmanager
    def progress(self, description: str, total: float | None, unit: str) -> Iterator[Task]:
        """A task to advance while the work runs."""
        if not self.console.is_terminal:
            yield Task(self.console, description, total, unit, None, self.check)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            yield Task(self.console, description, total, unit, bar, self.check)
