"""What the loop asks of anything that learns, here or on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class Learner(Protocol):
    """A model in training."""

    step_number: int
    """Updates made so far."""

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """One update from rows (batch, visible); metrics as 0-d tensors that need not be waited for."""
        ...

    def diagnose(self) -> dict[str, float]:
        """Slower readings, taken when a line is logged."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, as tensors."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        ...
