"""How likely a model finds pictures: log-likelihood of RBMs, exact where small, by annealed importance sampling else.

The forward estimate of log Z errs low and so flatters; the reverse one, from samples of the model, errs high. The two together
say how far to trust either. Source: Salakhutdinov and Murray 2008; Burda et al. 2015 for the reverse direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from striate.draws import Draws
from striate.models.rbm import RBM, gibbs
from striate.models.rbm.ais import LogZ, estimate_log_z, is_enumerable, sigmoid_schedule
from striate.models.rbm.exact import log_partition
from striate.models.rbm.units import bernoulli

_ROWS = 2000


@dataclass(frozen=True)
class Likelihood:
    """Mean log-likelihood of rows, in nats.

    Attributes:
        value: by the forward estimate of log Z, or exactly.
        low, high: 95% interval over rows and log Z's spread.
        conservative: by the reverse estimate, a lower bound on average where its chains have become samples of the model; equal
            to value where exact.
        log_z, log_z_error: of the forward estimate.
        effective: effective number of chains, of `runs`.
        n: rows.
        protocol: in words.
    """

    value: float
    low: float
    high: float
    conservative: float
    log_z: float
    log_z_error: float
    effective: float
    runs: int
    n: int
    protocol: str


def log_likelihood(
    rbm: RBM,
    rows: Tensor,
    data: Tensor,
    *,
    runs: int = 100,
    betas: Tensor | None = None,
    burn_in: int = 1000,
    seed: int = 0,
) -> Likelihood:
    """Mean log p(v) of rows.

    Args:
        rbm: the model.
        rows: (n, visible), in data units; states 0 and 1 for binary units.
        data: training rows, which the base of the annealing is fitted to and reverse chains start near.
        runs: chains.
        betas: the schedule; by default 10,000 steps.
        burn_in: Gibbs steps from data before reverse chains start.
        seed: of all draws.
    """
    own = -torch.cat([rbm.free_energy(block) for block in rows.split(_ROWS)]).double()
    spread = float(own.std()) / len(own) ** 0.5
    if is_enumerable(rbm):
        log_z = LogZ(float(log_partition(rbm.to(dtype=torch.float64))), 0.0, 1.0, 1, 0)
        backward, protocol = log_z, "log Z by enumeration"
    else:
        betas = sigmoid_schedule(10_000) if betas is None else betas
        draws = Draws(seed, purpose="ais/")
        log_z = estimate_log_z(rbm, data, betas, draws, runs=runs)
        backward = estimate_log_z(rbm, data, betas, draws.within("reverse"), samples=_samples(rbm, data, runs, burn_in, draws))
        protocol = (
            f"AIS, {runs} chains over {len(betas) - 1:,} models from independent pixels; conservative: in reverse, from data "
            f"after {burn_in} Gibbs steps"
        )
    value = float(own.mean()) - log_z.value
    half = 1.96 * (spread**2 + log_z.error**2) ** 0.5
    conservative = float(own.mean()) - backward.value
    return Likelihood(
        value,
        value - half,
        value + half,
        conservative,
        log_z.value,
        log_z.error,
        log_z.effective,
        log_z.runs,
        len(rows),
        protocol,
    )


def _samples(rbm: RBM, data: Tensor, count: int, burn_in: int, draws: Draws) -> Tensor:
    start = data[torch.linspace(0, len(data) - 1, count).long()]
    h = bernoulli(rbm.hidden_mean(start), draws, "burn-in")
    return gibbs(rbm, h, draws.within("burn-in"), burn_in)[0]
