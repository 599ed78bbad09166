"""Many RBMs of one size side by side, each with data of its own: the first dimension is the model's number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.errors import BadInput
from striate.models.rbm.rbm import RBM
from striate.models.rbm.units import Bernoulli, Gaussian


@dataclass(frozen=True)
class ManyRBMs:
    """RBMs that share nothing but their sizes and the kind of their visible units.

    Attributes:
        weights: (models, hidden, visible).
        visible_bias: (models, visible), in data units.
        hidden_bias: (models, hidden).
        sigma: (models, visible) of Gaussian visible units; None where they are binary.
    """

    weights: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor
    sigma: Tensor | None = None

    @staticmethod
    def of(rbms: Sequence[RBM]) -> ManyRBMs:
        """Copies of some RBMs.

        Raises:
            BadInput: none, or RBMs of several sizes or kinds.
        """
        shapes = {(tuple(rbm.weights.shape), rbm.units.kind) for rbm in rbms}
        if len(shapes) != 1:
            raise BadInput(f"RBMs side by side must be of one size and kind, found {sorted(map(str, shapes)) or 'none'}")
        gaussian = isinstance(rbms[0].units, Gaussian)
        deviations = [rbm.units.sigma.expand(rbm.num_visible) for rbm in rbms if isinstance(rbm.units, Gaussian)]
        return ManyRBMs(
            torch.stack([rbm.weights for rbm in rbms]),
            torch.stack([rbm.visible_bias for rbm in rbms]),
            torch.stack([rbm.hidden_bias for rbm in rbms]),
            torch.stack(deviations) if gaussian else None,
        )

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, number: int) -> RBM:
        """One of them, sharing its tensors."""
        units = Bernoulli() if self.sigma is None else Gaussian(self.sigma[number])
        return RBM(self.weights[number], self.visible_bias[number], self.hidden_bias[number], units)

    def to(self, device: torch.device | str) -> ManyRBMs:
        """The same elsewhere."""
        sigma = None if self.sigma is None else self.sigma.to(device)
        return ManyRBMs(self.weights.to(device), self.visible_bias.to(device), self.hidden_bias.to(device), sigma)
