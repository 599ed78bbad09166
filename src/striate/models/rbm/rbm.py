"""The restricted Boltzmann machine: energy, conditionals, free energy. Source: Krizhevsky 2009, section 1.4.

Weights are (hidden, visible): a row is a filter. See `contrastive.py` for learning, `exact.py` for small models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm.units import Bernoulli, Gaussian, VisibleUnits, bernoulli


@dataclass(frozen=True)
class RBM:
    """A Bernoulli-hidden RBM.

    Attributes:
        weights: (hidden, visible), float32 or float64.
        visible_bias: (visible,), in data units.
        hidden_bias: (hidden,).
        units: the visible units' kind, `Bernoulli()` or `Gaussian(sigma)`.
    """

    weights: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor
    units: VisibleUnits

    def __post_init__(self) -> None:
        hidden, visible = self.weights.shape
        if self.visible_bias.shape != (visible,) or self.hidden_bias.shape != (hidden,):
            raise BadInput(
                f"an RBM with weights (hidden, visible) = {(hidden, visible)} needs biases ({visible},) and ({hidden},), "
                f"found {tuple(self.visible_bias.shape)} and {tuple(self.hidden_bias.shape)}"
            )

    @property
    def num_hidden(self) -> int:
        """Number of hidden units."""
        return self.weights.shape[0]

    @property
    def num_visible(self) -> int:
        """Number of visible units."""
        return self.weights.shape[1]

    def hidden_input(self, v: Tensor) -> Tensor:
        """c + W (v / sigma): (batch, visible) -> (batch, hidden)."""
        return torch.addmm(self.hidden_bias, self.units.scaled(v), self.weights.t())

    def hidden_mean(self, v: Tensor) -> Tensor:
        """p(h = 1 | v): (batch, visible) -> (batch, hidden)."""
        return torch.sigmoid(self.hidden_input(v))

    def visible_mean(self, h: Tensor) -> Tensor:
        """E[v | h] in data units: (batch, hidden) -> (batch, visible)."""
        return self.units.mean(h @ self.weights, self.visible_bias)

    def sample_hidden(self, v: Tensor, draws: Draws, name: str = "h") -> Tensor:
        """States drawn from p(h | v), (batch, hidden)."""
        return bernoulli(self.hidden_mean(v), draws, name)

    def sample_visible(self, h: Tensor, draws: Draws, name: str = "v") -> Tensor:
        """Visible states drawn from p(v | h), (batch, visible)."""
        return self.units.sample(self.visible_mean(h), draws, name)

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h) for each row, (batch,), in nats."""
        coupling = (self.units.scaled(v) * (h @ self.weights)).sum(dim=1)
        return self.units.own_energy(v, self.visible_bias) - h @ self.hidden_bias - coupling

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v) = -log sum_h exp(-E(v, h)) = E_v(v) - softplus(c + W (v / sigma)).sum(), (batch,), in nats."""
        return self.units.own_energy(v, self.visible_bias) - F.softplus(self.hidden_input(v)).sum(dim=1)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> RBM:
        """The same model elsewhere or in another float format."""
        units = self.units
        if isinstance(units, Gaussian):
            units = replace(units, sigma=units.sigma.to(device=device, dtype=dtype))
        moved = {name: tensor.to(device=device, dtype=dtype) for name, tensor in self._parameters().items()}
        return RBM(**moved, units=units)

    def _parameters(self) -> dict[str, Tensor]:
        return {"weights": self.weights, "visible_bias": self.visible_bias, "hidden_bias": self.hidden_bias}

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors; with `describe` enough for `restore`."""
        state = self._parameters()
        if isinstance(self.units, Gaussian):
            state["sigma"] = self.units.sigma.expand(self.num_visible).contiguous()
        return state

    def describe(self) -> dict[str, object]:
        """What the tensors do not say, as JSON."""
        return {"visible": self.units.kind}

    @staticmethod
    def restore(description: Mapping[str, object], state: Mapping[str, Tensor]) -> RBM:
        """The model that `describe` and `state` were taken from."""
        kind = description.get("visible")
        if kind not in ("bernoulli", "gaussian"):
            raise BadInput(f"visible units {kind!r} are unknown: expected bernoulli or gaussian")
        units = Gaussian(state["sigma"]) if kind == "gaussian" else Bernoulli()
        return RBM(state["weights"], state["visible_bias"], state["hidden_bias"], units)
