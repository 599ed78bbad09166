"""The loop: batches in, metrics and checkpoints out. It knows no model family and no number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from striate.errors import Interrupted
from striate.train.batches import Batches
from striate.train.learner import Learner
from striate.train.monitor import Monitor
from striate.train.run import Run


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
        progress: after each logged line, with the steps since the last and the metrics.
        snapshot: at each snapshot step.
        saved: after each checkpoint.
        stop: asked after every step; True ends the run with everything saved.
    """

    progress: Callable[[int, dict[str, float]], None]
    snapshot: Callable[[int], None]
    saved: Callable[[], None]
    stop: Callable[[], bool]


class Window:
    """Sums of metrics since the last line, kept on the device and read only when a line is due."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {"steps": 0, "sums": {}}
        self.steps: int = state["steps"]
        self._sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in state["sums"].items()}

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Count one step's metrics."""
        self.steps += 1
        for name, value in metrics.items():
            known = self._sums.get(name)
            self._sums[name] = value.double() if known is None else known.to(value.device) + value.double()

    def means(self) -> dict[str, float]:
        """The averages since the last line."""
        return {name: float(value) / self.steps for name, value in self._sums.items()}

    def state(self) -> dict[str, Any]:
        """For a checkpoint in the middle of a window; floats survive JSON exactly."""
        return {"steps": self.steps, "sums": {name: float(value) for name, value in self._sums.items()}}


def train(learner: Learner, batches: Batches, run: Run, settings: LoopSettings, hooks: Hooks, resume: bool = False) -> None:
    """Train to the end, or until stopped.

    Raises:
        Interrupted: `hooks.stop` said so; a checkpoint of the very step is saved.
        Diverged: numbers blew up; the last good checkpoint is kept.
        BadInput: `resume` of a state that does not fit the learner.
    """
    window, monitor, seconds = Window(), Monitor(), 0.0
    if resume:
        window, monitor, seconds = _take_up(learner, run)
    started = saved = time.monotonic()

    def save() -> None:
        elapsed = seconds + time.monotonic() - started
        state = {"window": window.state(), "reference": monitor.reference, "seconds": elapsed}
        run.checkpoints.save(learner.step_number, learner.state(), state)
        hooks.saved()

    if learner.step_number == 0 and 0 in settings.snapshot_steps:
        hooks.snapshot(0)
    if learner.step_number >= settings.total_steps:
        return
    for batch in batches.starting_at(learner.step_number):
        window.add(learner.step(batch))
        step = learner.step_number
        last = step >= settings.total_steps
        if step % settings.log_every == 0 or last:
            metrics = {**window.means(), **learner.diagnose()}
            monitor.check(step, metrics)
            metrics["epoch"] = step / batches.steps_per_epoch
            metrics["seconds"] = seconds + time.monotonic() - started
            run.log(step, metrics)
            hooks.progress(window.steps, metrics)
            window = Window()
        if step in settings.snapshot_steps:
            hooks.snapshot(step)
        if last:
            monitor.check(step, learner.diagnose())
            save()
            return
        if hooks.stop():
            monitor.check(step, learner.diagnose())
            save()
            raise Interrupted(f"stopped at step {step} of {settings.total_steps}, saved: striate resume {run.path}")
        if time.monotonic() - saved > settings.checkpoint_every_s:
            monitor.check(step, learner.diagnose())
            save()
            saved = time.monotonic()


def _take_up(learner: Learner, run: Run) -> tuple[Window, Monitor, float]:
    checkpoint, warnings = run.checkpoints.newest()
    for warning in warnings:
        run.note(warning)
    if checkpoint is None:
        run.cut_metrics(0)
        return Window(), Monitor(), 0.0
    learner.load_state(checkpoint.tensors)
    run.cut_metrics(checkpoint.step)
    state = checkpoint.state
    return Window(state["window"]), Monitor(state["reference"]), float(state["seconds"])


def snapshot_steps(total: int, count: int) -> tuple[int, ...]:
    """The start, the end, and moments between that lie closer together early on, where filters change most."""
    if count < 2:
        return (total,)
    return tuple(sorted({round(total * (i / (count - 1)) ** 2) for i in range(count)}))
