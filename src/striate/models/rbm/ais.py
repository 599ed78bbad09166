"""Annealed importance sampling: log Z of an RBM too large to enumerate. Source: Neal 2001; Salakhutdinov and Murray 2008.

Chains go from a base model whose Z is known to the RBM through thousands of models between, p_beta(v) = p_base^(1 - beta)
p^beta unnormalised, hidden units summed out; each adds to its weight what every small step of beta changes. The base is fitted
to data, independent pixels: one that keeps the RBM's own visible biases can lose modes. Run backwards from samples of the RBM,
the same chains bound log Z from the other side: forward estimates err low, which flatters the likelihood, reverse ones high.

Cost: two products (runs x visible x hidden) an intermediate model. Weights are float64; softplus throughout.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm.rbm import RBM
from striate.models.rbm.units import Bernoulli, Gaussian

# Pixels that never vary in the data would give a base that cannot reach other states.
_LEAST_PROBABILITY, _LEAST_DEVIATION = 0.01, 0.1


@dataclass(frozen=True)
class LogZ:
    """An estimate of log Z.

    Attributes:
        value: in nats.
        error: standard error of it, by the spread of the weights (delta method).
        effective: effective number of chains, (sum w)^2 / sum w^2: few means that a few chains carry the estimate.
        runs: chains.
        steps: intermediate models.
    """

    value: float
    error: float
    effective: float
    runs: int
    steps: int


def salakhutdinov_murray() -> Tensor:
    """The schedule of the published MNIST numbers: 0 to 0.5 by 1e-3, to 0.9 by 1e-4, to 1 by 1e-5; float64, increasing."""
    parts = [torch.arange(0, 500) / 1e3, 0.5 + torch.arange(0, 4000) / 1e4, 0.9 + torch.arange(0, 10_000) / 1e5]
    return torch.cat([*(part.double() for part in parts), torch.ones(1, dtype=torch.float64)])


def sigmoid_schedule(steps: int, steepness: float = 4.0) -> Tensor:
    """So many steps from 0 to 1, finer at both ends; float64, increasing (Grosse et al. 2013)."""
    if steps < 1:
        raise BadInput(f"annealing needs at least one step, found {steps}")
    raw = torch.sigmoid(steepness * torch.linspace(-1, 1, steps + 1, dtype=torch.float64))
    return (raw - raw[0]) / (raw[-1] - raw[0])


class Annealed:
    """The models between a base of independent pixels and an RBM.

    Args:
        rbm: the model at beta = 1.
        mean: of the base's pixels, (visible,), in data units.
        deviation: of a Gaussian base's pixels, (visible,).
    """

    def __init__(self, rbm: RBM, mean: Tensor, deviation: Tensor) -> None:
        self.rbm = rbm
        self.mean, self.deviation = mean, deviation
        self._gaussian = isinstance(rbm.units, Gaussian)
        if isinstance(rbm.units, Gaussian):
            self._mean, self._sigma = mean, rbm.units.sigma.expand(rbm.num_visible)
            # No narrower than the RBM's own noise, so that the base covers what the RBM can reach.
            least = _LEAST_DEVIATION * float(self._sigma.mean())
            self._deviation = torch.maximum(deviation, self._sigma).clamp_min(least)
        else:
            self._bias = torch.logit(mean.clamp(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY))

    @staticmethod
    def fitted(rbm: RBM, data: Tensor) -> Annealed:
        """With a base fitted to rows (n, visible) in data units."""
        return Annealed(rbm, data.mean(dim=0), data.std(dim=0) if len(data) > 1 else torch.ones_like(data[0]))

    def base_log_z(self) -> float:
        """log Z at beta = 0, where hidden units are fair coins."""
        hidden = self.rbm.num_hidden * math.log(2)
        if self._gaussian:
            return hidden + float((self._deviation.double().log() + 0.5 * math.log(2 * math.pi)).sum())
        return hidden + float(F.softplus(self._bias.double()).sum())

    def start(self, count: int, draws: Draws) -> Tensor:
        """Exact samples of the base, (count, visible)."""
        shape, device = (count, self.rbm.num_visible), self.rbm.weights.device
        if self._gaussian:
            return self._mean + self._deviation * draws.normal("start", shape, device)
        return (draws.uniform("start", shape, device) < torch.sigmoid(self._bias)).to(self.rbm.weights.dtype)

    def visible_slope(self, v: Tensor) -> Tensor:
        """What the visible units' own terms of log p change a unit of beta, (rows,)."""
        if self._gaussian:
            own = ((v - self.rbm.visible_bias) / self._sigma).square().sum(dim=1)
            return (((v - self._mean) / self._deviation).square().sum(dim=1) - own) / 2
        return v @ (self.rbm.visible_bias - self._bias)

    def resample(self, h: Tensor, beta: float | Tensor, draws: Draws) -> Tensor:
        """Visible states given hidden ones at a beta; both ends' distributions are Gaussian, or Bernoulli, and so is this."""
        drive = h @ self.rbm.weights
        if not self._gaussian:
            mean = torch.sigmoid((1 - beta) * self._bias + beta * (self.rbm.visible_bias + drive))
            return (draws.uniform("v", mean.shape, mean.device) < mean).to(mean.dtype)
        base, own = (1 - beta) / self._deviation.square(), beta / self._sigma.square()
        precision = base + own
        mean = (base * self._mean + own * self.rbm.visible_bias + beta * drive / self._sigma) / precision
        return mean + draws.normal("v", mean.shape, mean.device) / precision.sqrt()


def estimate_log_z(
    rbm: RBM,
    data: Tensor,
    betas: Tensor,
    draws: Draws,
    *,
    runs: int = 100,
    samples: Tensor | None = None,
    max_products: float = 1e15,
) -> LogZ:
    """log Z by annealed importance sampling.

    Args:
        rbm: the model.
        data: rows (n, visible) for the base.
        betas: increasing from 0 to 1.
        draws: of the chains.
        runs: number of chains.
        samples: states (runs, visible) drawn from the RBM, for the reverse estimate, which errs high; None: forward, errs low.
        max_products: most multiply-adds to spend.

    Raises:
        BadInput: more work than allowed, or betas that do not go from 0 to 1.
    """
    if len(betas) < 2 or float(betas[0]) != 0 or float(betas[-1]) != 1 or bool((betas.diff() <= 0).any()):
        raise BadInput("betas must rise from 0 to 1")
    count = runs if samples is None else len(samples)
    work = 2.0 * count * len(betas) * rbm.weights.numel()
    if work > max_products:
        raise BadInput(
            f"annealing {count} chains over {len(betas):,} models of {rbm.num_visible} x {rbm.num_hidden} units takes "
            f"{work:.2g} multiply-adds, more than the {max_products:.2g} allowed: use fewer chains or steps"
        )
    path = Annealed.fitted(rbm, data)
    if samples is None:
        log_weights = _anneal(path, path.start(count, draws), betas.tolist(), draws)
        return _summarise(path.base_log_z(), log_weights, len(betas) - 1, 1)
    log_weights = _anneal(path, samples, betas.flip(0).tolist(), draws)
    return _summarise(path.base_log_z(), log_weights, len(betas) - 1, -1)


def _anneal(path: Annealed, v: Tensor, betas: Sequence[float], draws: Draws) -> Tensor:
    """Log weights of chains along betas, float64 (runs,)."""
    total = torch.zeros(len(v), dtype=torch.float64)
    for step, (now, then) in enumerate(itertools.pairwise(betas)):
        hidden_input = path.rbm.hidden_input(v)
        change = F.softplus(then * hidden_input).sub_(F.softplus(now * hidden_input)).sum(dim=1)
        total += (change.double() + (then - now) * path.visible_slope(v).double()).cpu()
        at = draws.at(step)
        mean = torch.sigmoid(then * hidden_input)
        h = (at.uniform("h", mean.shape, mean.device) < mean).to(mean.dtype)
        v = path.resample(h, then, at)
    return total


def _summarise(base: float, log_weights: Tensor, steps: int, sign: int) -> LogZ:
    count = len(log_weights)
    log_mean = float(torch.logsumexp(log_weights, 0)) - math.log(count)
    relative = torch.exp(log_weights - log_weights.max())
    error = float(relative.std() / relative.mean() / math.sqrt(count)) if count > 1 else math.inf
    effective = float(relative.sum().square() / relative.square().sum())
    return LogZ(base + sign * log_mean, error, effective, count, steps)


def is_enumerable(rbm: RBM, most: int = 20) -> bool:
    """Whether `exact.log_partition` is quicker than any sampling."""
    return rbm.num_hidden <= most or (isinstance(rbm.units, Bernoulli) and rbm.num_visible <= most)
