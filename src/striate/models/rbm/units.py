"""Visible units: what a layer's mean, sample and share of the energy are. Hidden units are Bernoulli throughout.

Source: Krizhevsky 2009, section 1.4. Binary: E = -v'Wh - b'v - c'h. Gaussian:
E = sum((v - b)^2 / (2 s^2)) - c'h - sum((v / s) * (W'h)), where W couples v / s (others couple v / s^2: Cho et al. 2011).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.draws import Draws


class VisibleUnits(Protocol):
    """What an RBM asks of its visible layer. ``drive`` is W'h, (batch, visible)."""

    @property
    def kind(self) -> str:
        """The name recipes and files use."""
        ...

    def scaled(self, v: Tensor) -> Tensor:
        """What the weights see of the data: v, or v / sigma."""
        ...

    def mean(self, drive: Tensor, bias: Tensor) -> Tensor:
        """E[v | h], in data units."""
        ...

    def sample(self, mean: Tensor, draws: Draws, name: str) -> Tensor:
        """A draw from p(v | h), in data units."""
        ...

    def own_energy(self, v: Tensor, bias: Tensor) -> Tensor:
        """The energy's terms in v alone, (batch,)."""
        ...

    def bias_statistics(self, v: Tensor, bias: Tensor) -> Tensor:
        """-dE/d(bias) for each row, (batch, visible)."""
        ...

    def log_integral(self, drive: Tensor, bias: Tensor) -> Tensor:
        """log of the sum (or integral) over v of exp(-E), hidden biases' terms left out, (batch,)."""
        ...


@dataclass(frozen=True)
class Bernoulli:
    """Binary visible units; data in [0, 1] are probabilities."""

    kind: str = "bernoulli"

    def scaled(self, v: Tensor) -> Tensor:
        """v itself."""
        return v

    def mean(self, drive: Tensor, bias: Tensor) -> Tensor:
        """sigmoid(b + W'h)."""
        return torch.sigmoid(drive + bias)

    def sample(self, mean: Tensor, draws: Draws, name: str) -> Tensor:
        """States 0 and 1."""
        return bernoulli(mean, draws, name)

    def own_energy(self, v: Tensor, bias: Tensor) -> Tensor:
        """-b'v."""
        return -(v @ bias)

    def bias_statistics(self, v: Tensor, bias: Tensor) -> Tensor:
        """v itself."""
        return v

    def log_integral(self, drive: Tensor, bias: Tensor) -> Tensor:
        """sum(log(1 + exp(b + W'h)))."""
        return F.softplus(drive + bias).sum(dim=1)


@dataclass(frozen=True)
class Gaussian:
    """Real visible units of fixed standard deviation ``sigma``, (visible,) or (), in data units."""

    sigma: Tensor
    kind: str = "gaussian"

    def scaled(self, v: Tensor) -> Tensor:
        """v / sigma."""
        return v / self.sigma

    def mean(self, drive: Tensor, bias: Tensor) -> Tensor:
        """b + sigma W'h."""
        return torch.addcmul(bias, drive, self.sigma)

    def sample(self, mean: Tensor, draws: Draws, name: str) -> Tensor:
        """mean + sigma times a standard normal draw."""
        return mean + self.sigma * draws.normal(name, mean.shape, mean.device).to(mean.dtype)

    def own_energy(self, v: Tensor, bias: Tensor) -> Tensor:
        """sum((v - b)^2 / (2 sigma^2))."""
        return ((v - bias) / self.sigma).square().sum(dim=1) / 2

    def bias_statistics(self, v: Tensor, bias: Tensor) -> Tensor:
        """(v - b) / sigma^2 (the paper writes only the gradient of W; this one is needed too)."""
        return (v - bias) / self.sigma.square()

    def log_integral(self, drive: Tensor, bias: Tensor) -> Tensor:
        """sum(log(sigma sqrt(2 pi)) + (b / sigma) W'h + (W'h)^2 / 2)."""
        constant = (self.sigma.log() + 0.5 * math.log(2 * math.pi)).expand_as(bias).sum()
        return constant + (drive * (bias / self.sigma) + drive.square() / 2).sum(dim=1)


def bernoulli(mean: Tensor, draws: Draws, name: str) -> Tensor:
    """States 0 and 1 with the given probabilities, drawn in float32 (1 - eps rounds to 1 in bf16)."""
    return (draws.uniform(name, mean.shape, mean.device) < mean).to(mean.dtype)
