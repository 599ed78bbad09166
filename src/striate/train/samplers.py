"""Negative phases other than plain Gibbs steps, as parts of the learner: they keep their chains and say how to resume them.

These are written for what they sample, not for speed: each costs a few plain steps. Chains are visible states in data units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import RBM, gibbs
from striate.models.rbm.ais import Annealed
from striate.models.rbm.langevin import langevin
from striate.models.rbm.tempering import TemperedChains
from striate.models.rbm.units import bernoulli
from striate.train.cd_settings import CDSettings

# Fast weights lose a twentieth of themselves at each step (Tieleman and Hinton 2009).
_FAST_DECAY = 0.95
_FAST_NAMES = ("fast_weights", "fast_visible_bias", "fast_hidden_bias")


class NegativeSampler(Protocol):
    """Draws the negative phase."""

    def advance(self, data: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Negative visible states and the hidden means given them, (chains, visible) and (chains, hidden), in data units."""
        ...

    def learn(
        self, hidden: Tensor, visible: Tensor, hidden_bias: Tensor, visible_bias: Tensor, scale: float, rate: float
    ) -> None:
        """Hear of an update: rows of both phases as `WeightUpdate.apply` takes them, and the biases' statistics."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Chains and whatever else a resumed run needs."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        ...


def make_sampler(rbm: RBM, settings: CDSettings, seed: int) -> NegativeSampler | None:
    """The sampler that settings name, on a live model; None for plain Gibbs steps, which the learner does itself."""
    if settings.sampler == "gibbs":
        return None
    if settings.sampler == "langevin":
        return LangevinSampler(rbm, settings)
    assert settings.chains is not None
    if settings.sampler == "tempering":
        return TemperedSampler(rbm, settings.chains, settings.temperatures, settings.k, seed)
    return FastSampler(rbm, settings, settings.chains, seed)


class _Forgetful:
    """Samplers that do not care for updates."""

    def learn(
        self, hidden: Tensor, visible: Tensor, hidden_bias: Tensor, visible_bias: Tensor, scale: float, rate: float
    ) -> None:
        """Nothing to learn."""


class LangevinSampler(_Forgetful):
    """Gibbs-Langevin steps from the data, or from kept chains that began there."""

    def __init__(self, rbm: RBM, settings: CDSettings) -> None:
        if rbm.units.kind != "gaussian":
            raise BadInput("train.sampler=langevin is for gaussian visible units: binary ones are drawn exactly by gibbs")
        self._rbm, self._settings = rbm, settings
        self._chains: Tensor | None = None

    def advance(self, data: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """As `NegativeSampler`."""
        settings = self._settings
        start = data if settings.chains is None else self._chains
        if start is None:
            start = data[torch.arange(settings.chains or len(data)) % len(data)]
        v = langevin(self._rbm, start, draws, settings.k, settings.langevin_step)
        if settings.chains is not None:
            self._chains = v
        return v, self._rbm.hidden_mean(v)

    def state(self) -> dict[str, Tensor]:
        """The chains, once there are any."""
        return {} if self._chains is None else {"chains": self._chains}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over the chains."""
        self._chains = state["chains"].clone() if "chains" in state else None


class TemperedSampler(_Forgetful):
    """Parallel tempering; the base is fitted to the first minibatch."""

    def __init__(self, rbm: RBM, count: int, temperatures: int, steps: int, seed: int) -> None:
        self._rbm, self._count, self._temperatures, self._steps = rbm, count, temperatures, steps
        self._start = Draws(seed, purpose="tempering-start/")
        self._chains: TemperedChains | None = None

    def advance(self, data: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """As `NegativeSampler`."""
        if self._chains is None:
            self._begin(data.mean(dim=0), data.std(dim=0))
        assert self._chains is not None
        for step in range(self._steps):
            self._chains.step(draws.within(f"tempering{step}"))
        v = self._chains.v[-1]
        return v, self._rbm.hidden_mean(v)

    def _begin(self, mean: Tensor, deviation: Tensor) -> None:
        path = Annealed(self._rbm, mean, deviation)
        self._chains = TemperedChains(path, self._count, self._temperatures, self._start)

    def state(self) -> dict[str, Tensor]:
        """Chains at all temperatures and the base."""
        if self._chains is None:
            return {}
        return {"chains": self._chains.v, "mean": self._chains.path.mean, "deviation": self._chains.path.deviation}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over chains and base."""
        if "chains" in state:
            self._begin(state["mean"].clone(), state["deviation"].clone())
            assert self._chains is not None
            self._chains.v = state["chains"].clone()


class FastSampler:
    """PCD whose chains see weights that learn fast and forget: they are pushed out of wherever they dwell."""

    def __init__(self, rbm: RBM, settings: CDSettings, chains: int, seed: int) -> None:
        self._rbm, self._settings = rbm, settings
        self._fast = [torch.zeros_like(tensor) for tensor in (rbm.weights, rbm.visible_bias, rbm.hidden_bias)]
        coins = Draws(seed, purpose="sampling/").uniform("chains", (chains, rbm.num_hidden), rbm.weights.device)
        self._h = (coins < 0.5).float()

    def advance(self, data: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """As `NegativeSampler`."""
        rbm = self._rbm
        weights, visible_bias, hidden_bias = self._fast
        pushed = RBM(rbm.weights + weights, rbm.visible_bias + visible_bias, rbm.hidden_bias + hidden_bias, rbm.units)
        v, h_mean = gibbs(pushed, self._h, draws, self._settings.k)
        self._h = bernoulli(h_mean, draws, "fast-h")
        return v, h_mean

    def learn(
        self, hidden: Tensor, visible: Tensor, hidden_bias: Tensor, visible_bias: Tensor, scale: float, rate: float
    ) -> None:
        """The same update at a rate of their own, and a twentieth forgotten."""
        rate *= self._settings.fast_rate
        gradient = hidden.float().t() @ visible.float()
        for fast, change, factor in zip(self._fast, (gradient, visible_bias, hidden_bias), (scale * rate, rate, rate)):
            fast.mul_(_FAST_DECAY).add_(change, alpha=factor)

    def state(self) -> dict[str, Tensor]:
        """Chains and fast weights."""
        return {"chains": self._h, **dict(zip(_FAST_NAMES, self._fast))}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over chains and fast weights."""
        self._h = state["chains"].clone()
        for name, fast in zip(_FAST_NAMES, self._fast):
            fast.copy_(state[name])
