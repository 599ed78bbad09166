"""The variational bound on a deep belief net's likelihood.

Source: Krizhevsky 2009, equation 1.7; Salakhutdinov and Murray 2008.

log p(v) >= E_Q[log p(v | h1) + log p_top(h1)] + entropy of Q, where Q(h1 | v) is the lowest RBM's posterior. With more layers
log p_top is bounded in the same way. Exact log p_top needs the top RBM's log Z, by enumeration or annealing.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.draws import Draws
from striate.models.rbm.dbn import DeepBeliefNet
from striate.models.rbm.rbm import RBM
from striate.models.rbm.units import Gaussian, bernoulli


def log_conditional(rbm: RBM, v: Tensor, h: Tensor) -> Tensor:
    """log p(v | h) of rows, (batch,), in nats; a density for Gaussian visible units."""
    if isinstance(rbm.units, Gaussian):
        scaled = (v - rbm.visible_mean(h)) / rbm.units.sigma
        constant = (rbm.units.sigma.log() + 0.5 * math.log(2 * math.pi)).expand(rbm.num_visible).sum()
        return -scaled.square().sum(dim=1) / 2 - constant
    logits = h @ rbm.weights + rbm.visible_bias
    return (v * logits - F.softplus(logits)).sum(dim=1)


def variational_bound(net: DeepBeliefNet, v: Tensor, log_z_top: float, draws: Draws, samples: int = 20) -> Tensor:
    """A lower bound on log p(v) of each row, (batch,), in nats, estimated without bias over samples of Q.

    Args:
        net: of any depth.
        v: rows (batch, visible).
        log_z_top: of the top RBM.
        draws: of hidden states.
        samples: draws of Q a row.
    """
    total = torch.zeros(len(v), dtype=v.dtype, device=v.device)
    for number in range(samples):
        total += _one_sample(net, v, log_z_top, draws.within(f"sample{number}"))
    return total / samples


def _one_sample(net: DeepBeliefNet, v: Tensor, log_z_top: float, draws: Draws) -> Tensor:
    bound = torch.zeros(len(v), dtype=v.dtype, device=v.device)
    for level, rbm in enumerate(net.rbms[:-1]):
        logits = rbm.hidden_input(v)
        h = bernoulli(torch.sigmoid(logits), draws, f"h{level}")
        # Entropy of Q as -log Q(h): a sample of it for the same h, so that a tight bound is tight for every sample.
        bound += log_conditional(rbm, v, h) - (h * logits - F.softplus(logits)).sum(dim=1)
        v = h
    return bound - net.rbms[-1].free_energy(v) - log_z_top
