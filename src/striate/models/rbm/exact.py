"""Exact answers by enumerating the hidden layer (or a smaller binary visible one): for models of about 20 units.

log Z = log sum_h exp(c'h) * integral_v exp(-E_v + ...); the visible layer integrates out in closed form for both units.
"""

from __future__ import annotations

import torch
from torch import Tensor

from striate.errors import BadInput
from striate.models.rbm.contrastive import Statistics, correlate
from striate.models.rbm.rbm import RBM
from striate.models.rbm.units import Bernoulli

# 2^24 states of a 20-unit layer are about 1.3 GB in float32, taken in blocks of 2^16.
_MOST_UNITS = 24
_BLOCK = 1 << 16


def all_states(num_units: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Every binary state of a layer, (2^num_units, num_units), counting up with unit 0 as the lowest bit."""
    return _states(0, 1 << num_units, num_units, dtype)


def _states(start: int, stop: int, num_units: int, dtype: torch.dtype) -> Tensor:
    numbers = torch.arange(start, stop).unsqueeze(1)
    return ((numbers >> torch.arange(num_units)) & 1).to(dtype)


def log_partition(rbm: RBM) -> Tensor:
    """log Z in nats, a 0-d tensor, by enumeration of the smaller layer that can be enumerated.

    Raises:
        BadInput: more than 24 units would have to be enumerated.
    """
    by_visible = isinstance(rbm.units, Bernoulli) and rbm.num_visible < rbm.num_hidden
    num_units = rbm.num_visible if by_visible else rbm.num_hidden
    if num_units > _MOST_UNITS:
        raise BadInput(f"exact log Z needs a layer of at most {_MOST_UNITS} binary units, found {num_units}: use AIS")
    parts = []
    for start in range(0, 1 << num_units, _BLOCK):
        states = _states(start, min(start + _BLOCK, 1 << num_units), num_units, rbm.weights.dtype)
        parts.append(-rbm.free_energy(states) if by_visible else log_weight_of_hidden(rbm, states))
    return torch.logsumexp(torch.cat(parts), dim=0)


def log_weight_of_hidden(rbm: RBM, h: Tensor) -> Tensor:
    """log of the integral over v of exp(-E(v, h)), for hidden states (n, hidden): log p(h) + log Z."""
    return h @ rbm.hidden_bias + rbm.units.log_integral(h @ rbm.weights, rbm.visible_bias)


def log_likelihood(rbm: RBM, v: Tensor) -> Tensor:
    """log p(v) for each row, (batch,), in nats."""
    return -rbm.free_energy(v) - log_partition(rbm)


def exact_gradient(rbm: RBM, v0: Tensor) -> Statistics:
    """The gradient of the mean log-likelihood of v0, as statistics at the data minus their expectation under the model."""
    return correlate(rbm, v0, rbm.hidden_mean(v0)) - model_statistics(rbm)


def model_statistics(rbm: RBM) -> Statistics:
    """Expected statistics under the model, by enumeration of the hidden layer; given h the visible means are exact."""
    h = all_states(rbm.num_hidden, rbm.weights.dtype)
    probability = torch.softmax(log_weight_of_hidden(rbm, h), dim=0)
    v_mean = rbm.visible_mean(h)
    return Statistics(
        weights=(h * probability.unsqueeze(1)).t() @ rbm.units.scaled(v_mean),
        visible_bias=probability @ rbm.units.bias_statistics(v_mean, rbm.visible_bias),
        hidden_bias=probability @ h,
    )
