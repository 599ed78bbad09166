"""Watching for numbers that blow up, so that a run stops with its last good checkpoint and a remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping

from striate.errors import Diverged

# Reconstruction errors fall from their start; the paper's spike at the merge (figure 2.10) stays far below this.
_EXPLODED = 20.0


class Monitor:
    """Looks at each logged line.

    Attributes:
        reference: the first line's reconstruction error, which later ones are held against.
    """

    def __init__(self, reference: float | None = None) -> None:
        self.reference = reference

    def check(self, step: int, metrics: Mapping[str, float]) -> None:
        """Look at one line.

        Raises:
            Diverged: something is not finite, or the reconstruction error is 20 times what it was at the start; says what
                would help.
        """
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(f"{name} became {value} at step {step}{_REMEDY}")
        error = metrics.get("reconstruction_error")
        if error is None:
            return
        if self.reference is None:
            self.reference = error
        if error > _EXPLODED * self.reference:
            raise Diverged(f"the reconstruction error rose from {self.reference:.4g} to {error:.4g} by step {step}{_REMEDY}")


_REMEDY = ": lower train.learning_rate (to a third), raise model.sigma, or add train.weight_decay"
