"""The loop: batches in, metrics and checkpoints out. It knows no model family and no number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from striate.errors import BadInput, Diverged, Interrupted
from striate.train.batches import Order
from striate.train.learner import Learner
from striate.train.monitor import Monitor
from striate.train.run import Run

B = TypeVar("B")
SAVE, STOP = 1, 2


@dataclass(frozen=True)
class LoopSettings:
    """When to do what.

    Attributes:
        total_steps: the run's length.
        log_every: steps between lines of metrics.
        checkpoint_every_s: seconds between checkpoints.
        snapshot_steps: steps at which filters are kept for the report.
    """

    total_steps: int
    log_every: int = 50
    checkpoint_every_s: float = 120.0
    snapshot_steps: tuple[int, ...] = ()


@dataclass
class Hooks:
    """What the edge wants to hear of; every call is outside the timed step.

    Attributes:
        resumed: once before the first step, with the step to go on from and a line on each damaged checkpoint.
        progress: after each logged line, with the step and the metrics.
        snapshot: at each snapshot step.
        saved: after each checkpoint.
        stop: asked after every step; True ends the run with everything saved.
        agree: given this process's wish after a step (`SAVE`, `STOP` or 0), gives the most urgent one of all processes, who
            save and stop together or not at all.
    """

    resumed: Callable[[int, list[str]], None]
    progress: Callable[[int, dict[str, float]], None]
    snapshot: Callable[[int], None]
    saved: Callable[[], None]
    stop: Callable[[], bool]
    agree: Callable[[int], int] = int


class Window:
    """Sums of metrics since the last line, kept on the device and read only when a line is due."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {"steps": 0, "sums": {}}
        self.steps: int = state["steps"]
        # A metric that is not told at every step is averaged over those at which it was.
        self._counts: dict[str, int] = dict(state.get("counts") or dict.fromkeys(state["sums"], self.steps))
        self._sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in state["sums"].items()}

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Count one step's metrics."""
        self.steps += 1
        for name, value in metrics.items():
            self._counts[name] = self._counts.get(name, 0) + 1
            known = self._sums.get(name)
            self._sums[name] = value.double() if known is None else known.to(value.device) + value.double()

    def means(self) -> dict[str, float]:
        """The averages since the last line."""
        return {name: float(value) / self._counts[name] for name, value in self._sums.items()}

    def state(self) -> dict[str, Any]:
        """For a checkpoint in the middle of a window; floats survive JSON exactly."""
        return {"steps": self.steps, "counts": self._counts, "sums": {name: float(value) for name, value in self._sums.items()}}


def save_start(learner: Learner[B], run: Run) -> None:
    """Save the state before the first step, which `train` takes up; from here on the run can be killed and resumed."""
    run.checkpoints.save(learner.step_number, learner.state(), _Clock().state(Window(), Monitor()))


def train(learner: Learner[B], batches: Order[B], run: Run, settings: LoopSettings, hooks: Hooks) -> None:
    """Train from the run's newest checkpoint to the end, or until stopped.

    Raises:
        Interrupted: `hooks.stop` said so; a checkpoint of the very step is saved.
        Diverged: numbers blew up; the last good checkpoint is kept.
        BadInput: no whole checkpoint is there, or it does not fit the learner.
        StriateError: the disk is full; the last checkpoint is kept.
    """
    window, monitor, clock = _take_up(learner, run, hooks)

    def save() -> None:
        run.sync()
        run.checkpoints.save(learner.step_number, learner.state(), clock.state(window, monitor))
        hooks.saved()
        clock.saved()

    try:
        if learner.step_number in settings.snapshot_steps:
            hooks.snapshot(learner.step_number)
        if learner.step_number >= settings.total_steps or learner.finished:
            hooks.saved()
            return
        for batch in batches.starting_at(learner.step_number):
            window.add(learner.step(batch))
            step = learner.step_number
            last = step >= settings.total_steps or learner.finished
            due = clock.since_saved_s > settings.checkpoint_every_s
            wish = hooks.agree(STOP if hooks.stop() else SAVE if due else 0)
            if step % settings.log_every == 0 or last:
                window = _log(window, learner, batches, run, monitor, clock, hooks)
            if step in settings.snapshot_steps:
                hooks.snapshot(step)
            if last or wish:
                monitor.check(step, learner.diagnose())
                save()
            if last:
                return
            if wish == STOP:
                raise Interrupted(f"stopped at step {step} of {settings.total_steps}, saved: striate resume {run.path}")
    except Diverged as error:
        raise Diverged(f"{error}; the checkpoint of step {run.checkpoints.steps()[-1]} in {run.path} is kept") from None


def _take_up(learner: Learner[B], run: Run, hooks: Hooks) -> tuple[Window, Monitor, _Clock]:
    checkpoint, warnings = run.checkpoints.newest()
    if checkpoint is None:
        raise BadInput(f"{run.path} holds no whole checkpoint: {'; '.join(warnings) or 'there is none'}; begin a new run")
    learner.load_state(checkpoint.tensors)
    run.cut_metrics(checkpoint.step)
    hooks.resumed(checkpoint.step, warnings)
    state = checkpoint.state
    return Window(state["window"]), Monitor(state["reference"]), _Clock(float(state["seconds"]))


def _log(
    window: Window, learner: Learner[B], batches: Order[B], run: Run, monitor: Monitor, clock: _Clock, hooks: Hooks
) -> Window:
    """Check and write the averages of a window; returns the next one."""
    step = learner.step_number
    metrics = {**window.means(), **learner.diagnose()}
    monitor.check(step, metrics)
    metrics |= {"epoch": step / batches.steps_per_epoch, "seconds": clock.seconds}
    run.log(step, metrics)
    hooks.progress(step, metrics)
    return Window()


class _Clock:
    """Seconds of training over all sittings, and since the last checkpoint."""

    def __init__(self, before: float = 0.0) -> None:
        self._before = before
        self._started = self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    @property
    def since_saved_s(self) -> float:
        return time.monotonic() - self._saved

    def saved(self) -> None:
        self._saved = time.monotonic()

    def state(self, window: Window, monitor: Monitor) -> dict[str, Any]:
        """What a checkpoint keeps of the loop."""
        return {"window": window.state(), "reference": monitor.reference, "seconds": self.seconds}


def snapshot_steps(total: int, count: int) -> tuple[int, ...]:
    """The start, the end, and moments between that lie closer together early on, where filters change most."""
    if count < 2:
        return (total,)
    return tuple(sorted({round(total * (i / (count - 1)) ** 2) for i in range(count)}))
