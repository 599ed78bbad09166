"""What a learner shows of itself to those who train it together with others: its parameters in place, and its gradients.

Every learner can be copied from and written to between steps; some also give the gradient of a batch without learning from it,
so that somebody else's rule can apply it (`striate.cluster.rules`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from striate.train.learner import Learner
from striate.train.updates import Rates

B_contra = TypeVar("B_contra", contravariant=True)


@dataclass(frozen=True)
class Exchanged:
    """One parameter.

    Attributes:
        name: of the parameter.
        tensor: float32, in place, as the learner keeps it.
        row: weights of one filter where filters are kept at norm one; 0 where they are free.
        memory: what the learner's own rule remembers of it (`own_rule`), kept alike and in place; None for nothing.
        layout: how it travels, where that is not as it is kept.
    """

    name: str
    tensor: Tensor
    row: int = 0
    memory: Tensor | None = None
    layout: Layout | None = None

    @property
    def size(self) -> int:
        """Numbers that travel."""
        return self.tensor.numel() if self.layout is None else math.prod(self.layout.shape)

    def read(self, kept: Tensor, out: Tensor) -> None:
        """A tensor kept like this parameter, flat, as it travels."""
        if self.layout is None:
            out.view(kept.shape).copy_(kept)
        else:
            self.layout.read(kept, out.view(self.layout.shape))

    def write(self, values: Tensor, kept: Tensor) -> None:
        """The way back."""
        if self.layout is None:
            kept.copy_(values.view(kept.shape))
        else:
            self.layout.write(values.view(self.layout.shape).to(kept.device), kept)


@dataclass(frozen=True)
class Layout:
    """Of a parameter that is kept with more around it than need travel.

    Attributes:
        shape: as it travels; a filter's weights are contiguous.
        read: from the kept tensor into one of that shape.
        write: the way back.
    """

    shape: tuple[int, ...]
    read: Callable[[Tensor, Tensor], None]
    write: Callable[[Tensor, Tensor], None]


class Slope(NamedTuple):
    """Where a batch wants the parameters to go.

    Attributes:
        metrics: as a step gives them.
        gradients: of each exchanged parameter, with its decay and its own factor on the rate in it; means over the batch.
        rates: of this step.
    """

    metrics: dict[str, Tensor]
    gradients: Sequence[Tensor]
    rates: Rates


class Shareable(Learner[B_contra], Protocol[B_contra]):
    """A learner whose parameters others may read and write between its steps."""

    def exchanged(self) -> Sequence[Exchanged]:
        """Its parameters, always the same in the same order."""
        ...

    def refresh(self) -> None:
        """To be called after they were changed from outside."""
        ...


@runtime_checkable
class GivesGradients(Protocol):
    """A learner that can leave the update to somebody else."""

    own_rule: str
    """The name of the rule its own steps follow."""

    def slope(self, batch: object) -> Slope:
        """What a step would learn from; nothing is changed but the step's number."""
        ...
