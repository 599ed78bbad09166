"""Watching for numbers that blow up, so that a run stops with its last good checkpoint and a remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping

from striate.errors import Diverged

# Reconstruction errors fall from their start; the paper's spike at the merge (figure 2.10) stays far below this.
_EXPLODED = 20.0
# The first of these that a learner reports.
_WATCHED = ("reconstruction_error", "loss")


class Monitor:
    """Looks at each logged line.

    Attributes:
        reference: the first line's reconstruction error, or a net's loss, which later ones are held against.
    """

    def __init__(self, reference: float | None = None) -> None:
        self.reference = reference

    def check(self, step: int, metrics: Mapping[str, float]) -> None:
        """Look at one line.

        Raises:
            Diverged: something is not finite, or the reconstruction error (a classifier's loss) is 20 times what it was at
                the start; says what would help.
        """
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(f"{name} became {value} at step {step}{_REMEDY}")
        watched = [name for name in _WATCHED if name in metrics]
        if not watched:
            return
        name = watched[0]
        if self.reference is None:
            self.reference = metrics[name]
        if metrics[name] > _EXPLODED * self.reference:
            found = f"the {name.replace('_', ' ')} rose from {self.reference:.4g} to {metrics[name]:.4g} by step {step}"
            raise Diverged(f"{found}{_REMEDY if name == _WATCHED[0] else _NET_REMEDY}")


_REMEDY = ": lower train.learning_rate (to a third), raise model.sigma, or add train.weight_decay"
_NET_REMEDY = ": lower train.learning_rate, or the last layer's factor in train.rates"
