"""What the loop asks of anything that learns, here or on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from torch import Tensor

B_contra = TypeVar("B_contra", contravariant=True)


class Learner(Protocol[B_contra]):
    """A model in training."""

    step_number: int
    """Updates made so far."""

    @property
    def finished(self) -> bool:
        """Whether more steps would be of no use (early stopping)."""
        ...

    def step(self, batch: B_contra) -> dict[str, Tensor]:
        """One update from rows (batch, visible), or from rows with labels; metrics as 0-d tensors, not yet waited for."""
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
