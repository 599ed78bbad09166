"""How contrastive divergence takes its statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from striate.errors import BadInput
from striate.train.updates import Rates

Sampler = Literal["gibbs", "fast", "tempering", "langevin"]
Schedule = Callable[[int], Rates]

# Mean activities below and above which a unit says nothing about the picture.
DEAD, ALWAYS_ON = 1e-3, 0.99


@dataclass(frozen=True)
class CDSettings:
    """How the statistics are taken. Rates and momentum come from the schedule.

    Attributes:
        k: full Gibbs steps an update.
        chains: None for CD (chains start at the data); a number for PCD with that many kept chains.
        weight_decay: per unit of learning rate.
        sparsity_target: wanted mean activity of every hidden unit, or None.
        sparsity_cost: pull towards it, on the hidden biases' statistics (Lee et al. 2008).
        sparsity_memory: decay of the running mean of activities that the pull is computed from.
        sample_visible: whether reconstructions are sampled (the paper) or means.
        sample_data: whether binary visible units take states drawn from the data's levels, anew at each step, or the levels.
        sigma_rate: factor on the learning rate for the visible standard deviations; 0 keeps them fixed (section 1.4.3.2).
        sampler: how negative states are drawn: Gibbs steps; PCD with fast weights; parallel tempering; Langevin steps (Gaussian
            visible units). All but Gibbs cost more than a plain step; tempering and fast weights need chains.
        fast_rate: rate of the fast weights beside the learning rate; they lose a twentieth at each step (Tieleman and Hinton
            2009).
        temperatures: of parallel tempering.
        langevin_step: size of a Langevin step, a share of the visible units' variance; `k` says how many.
        centring: learn from activities less their running means (Melchior et al. 2016; Cho et al. 2011).
        clip: most length of the gradient of one filter, before the learning rate; None: any.
        data_states: whether the data's hidden layer enters as states (one bit each, chapter 4) or as means.
        final_states: the same of the last hidden layer.
    """

    k: int = 1
    chains: int | None = None
    weight_decay: float = 0.0
    sparsity_target: float | None = None
    sparsity_cost: float = 0.0
    sparsity_memory: float = 0.9
    sample_visible: bool = True
    sample_data: bool = False
    sigma_rate: float = 0.0
    sampler: Sampler = "gibbs"
    fast_rate: float = 1.0
    temperatures: int = 10
    langevin_step: float = 0.1
    centring: bool = False
    clip: float | None = None
    data_states: bool = False
    final_states: bool = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadInput(f"train.k: CD-k needs k >= 1, found {self.k}")
        if self.chains is not None and self.chains < 1:
            raise BadInput(f"train.chains: PCD needs at least one chain, found {self.chains}")
        if self.sampler in ("fast", "tempering") and self.chains is None:
            raise BadInput(f"train.sampler={self.sampler} keeps chains: set train.chains, for example to train.batch_size")
        if self.clip is not None and self.clip <= 0:
            raise BadInput(f"train.clip is a length above 0, found {self.clip}")


def constant(learning_rate: float, momentum: float = 0.0) -> Schedule:
    """The schedule that never changes."""
    return lambda step: Rates(learning_rate, momentum)
