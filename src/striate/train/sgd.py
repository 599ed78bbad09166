"""Stochastic gradient descent as the convolutional net's authors wrote it: the rate inside the velocity, biases apart.

    v <- momentum v - decay rate w - rate gradient;   w <- w + v        (Krizhevsky et al. 2012, section 5)

With the rate inside, a drop of the rate leaves what the velocity has gathered as it is; torch's SGD multiplies the velocity by
the rate of the day, so the two part ways at the first drop. Gradients are means over the batch.

The gradient of a dense layer is a product as large as its weights, and fc6 alone has 38 million: on a processor it is never
made, but taken in blocks by `updates.WeightUpdate`, which keeps the bf16 copy for products besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from striate.train.updates import Rates, WeightUpdate


@dataclass(frozen=True)
class Treated:
    """How one parameter is treated.

    Attributes:
        name: of the parameter.
        layer: of the layer it belongs to.
        tensor: itself, changed in place.
        rate: factor on the learning rate.
        decay: weight decay, per unit of learning rate.
        blocks: updated in blocks from the two factors of its gradient, or None.
    """

    name: str
    layer: str
    tensor: Tensor
    rate: float
    decay: float
    blocks: WeightUpdate | None = None


class Factors(NamedTuple):
    """A gradient as the product above' @ inputs.

    Attributes:
        above: (n, out), what flows back, already divided by the batch.
        inputs: (n, in).
    """

    above: Tensor
    inputs: Tensor


class Descent:
    """Velocities of parameters and their updates.

    Args:
        treated: parameters and how each is treated.
        rate_inside: the paper's rule; otherwise torch's, with the rate applied to the velocity.
    """

    def __init__(self, treated: Sequence[Treated], rate_inside: bool = True) -> None:
        self.treated = tuple(treated)
        self.velocities = [one.blocks.velocity if one.blocks else torch.zeros_like(one.tensor) for one in self.treated]
        self._inside = rate_inside

    def apply(
        self,
        gradients: Sequence[Tensor | Factors],
        learning_rate: float,
        momentum: float,
        factors: Mapping[str, float] | None = None,
    ) -> None:
        """One update.

        Args:
            gradients: of each parameter, means over the batch.
            learning_rate: of weights of layers without a factor.
            momentum: share of the velocity that is kept.
            factors: further factors by layer; parameters of a factor of 0 stay as they are, velocity and all.
        """
        groups: dict[tuple[float, float], list[tuple[Tensor, Tensor, Tensor]]] = {}
        for one, velocity, gradient in zip(self.treated, self.velocities, gradients, strict=True):
            rate = learning_rate * one.rate * (factors or {}).get(one.layer, 1.0)
            if self._frozen(one, factors):
                continue
            if isinstance(gradient, Factors):
                assert one.blocks is not None
                one.blocks.apply(gradient.above, gradient.inputs, -1.0, Rates(rate, momentum), one.decay)
            else:
                groups.setdefault((rate, one.decay), []).append((one.tensor, velocity, gradient.to(one.tensor.dtype)))
        with torch.no_grad():
            for (rate, decay), members in groups.items():
                weights, velocities, flowing = (list(column) for column in zip(*members))
                # Lists of tensors go through one call each: on a GPU that is one kernel for the whole net.
                torch._foreach_mul_(velocities, momentum)
                inside = rate if self._inside else 1.0
                if decay:
                    torch._foreach_add_(velocities, weights, alpha=-decay * inside)
                torch._foreach_add_(velocities, flowing, alpha=-inside)
                torch._foreach_add_(weights, velocities, alpha=1.0 if self._inside else rate)

    def _frozen(self, one: Treated, factors: Mapping[str, float] | None) -> bool:
        return one.rate == 0 or (factors or {}).get(one.layer, 1.0) == 0
