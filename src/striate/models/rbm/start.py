"""Where an RBM's parameters start: small random weights, biases that already explain the data's means."""

from __future__ import annotations

import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm.rbm import RBM
from striate.models.rbm.units import Bernoulli, Gaussian, VisibleUnits

# Pixels that never change would get an infinite logit; Hinton's guide clips near this.
_LEAST_PROBABILITY = 0.01


def new_rbm(
    num_hidden: int,
    visible_mean: Tensor,
    *,
    visible: str = "gaussian",
    sigma: float | Tensor = 1.0,
    weight_std: float = 0.01,
    hidden_bias: float = 0.0,
    draws: Draws,
) -> RBM:
    """An RBM at its start: weights N(0, weight_std^2), visible biases from the data's mean (visible,), hidden biases constant.

    Binary visible biases are log(p / (1 - p)) of the data's mean (Hinton 2010, section 8), Gaussian ones the mean itself.

    Raises:
        BadInput: unknown units, no hidden units, or a sigma that is not positive.
    """
    if num_hidden < 1:
        raise BadInput(f"an RBM needs at least one hidden unit, found {num_hidden}")
    units, visible_bias = _visible(visible, visible_mean.float(), sigma)
    weights = weight_std * draws.normal("weights", (num_hidden, visible_mean.numel()))
    hidden = torch.full((num_hidden,), float(hidden_bias))
    return RBM(weights.to(visible_bias.device), visible_bias, hidden.to(visible_bias.device), units)


def _visible(kind: str, mean: Tensor, sigma: float | Tensor) -> tuple[VisibleUnits, Tensor]:
    if kind == "bernoulli":
        return Bernoulli(), torch.logit(mean.clamp(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY))
    if kind != "gaussian":
        raise BadInput(f"visible units {kind!r} are unknown: expected bernoulli or gaussian")
    spread = torch.as_tensor(sigma, dtype=torch.float32, device=mean.device).expand(mean.numel()).contiguous()
    if not bool((spread > 0).all()):
        raise BadInput(f"sigma must be positive, found {float(spread.min())}")
    return Gaussian(spread), mean.clone()
