"""Learning rate and momentum over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from striate.train.updates import Rates


@dataclass(frozen=True)
class ScheduleSettings:
    """How rates change.

    Attributes:
        learning_rate: at its highest, for statistics averaged over the batch.
        shape: `constant`; `linear` or `cosine`: held for `hold` of the run, then down to `final` of itself.
        hold: share of the run before the fall begins.
        final: what is left at the end, as a share of `learning_rate`.
        warmup_steps: steps of linear rise at the start.
        momentum: after the first `momentum_steps`.
        initial_momentum: during them (Hinton 2010, section 9: 0.5 at first).
        momentum_steps: how long the initial momentum lasts.
    """

    learning_rate: float
    shape: Literal["constant", "linear", "cosine"] = "constant"
    hold: float = 0.5
    final: float = 0.01
    warmup_steps: int = 0
    momentum: float = 0.9
    initial_momentum: float = 0.5
    momentum_steps: int = 500


def schedule(settings: ScheduleSettings, total_steps: int) -> Callable[[int], Rates]:
    """The function from step to rates for a run of so many steps."""

    def rates(step: int) -> Rates:
        momentum = settings.initial_momentum if step < settings.momentum_steps else settings.momentum
        rise = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
        return Rates(settings.learning_rate * rise * _fall(settings, step / max(total_steps, 1)), momentum)

    return rates


def _fall(settings: ScheduleSettings, progress: float) -> float:
    if settings.shape == "constant" or progress <= settings.hold:
        return 1.0
    left = max(0.0, 1 - (progress - settings.hold) / max(1 - settings.hold, 1e-12))
    share = left if settings.shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)
    return settings.final + (1 - settings.final) * share
