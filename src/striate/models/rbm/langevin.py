"""Langevin sampling of Gaussian visible units with hidden ones summed out or drawn. Source: Liao et al. 2022, arXiv 2210.10318.

In units of sigma, u = v / sigma: the gradient of the free energy is (u - b / sigma) - W' p(h | u). A step of size s is
u <- u - s * gradient + sqrt(2 s) * noise; with h drawn rather than averaged it is their Gibbs-Langevin. Unadjusted: a step of
finite size leaves an error that vanishes with s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm.rbm import RBM
from striate.models.rbm.units import Gaussian, bernoulli


def langevin(rbm: RBM, v: Tensor, draws: Draws, steps: int, size: float, draw_hidden: bool = True) -> Tensor:
    """Visible states (batch, visible) after some Langevin steps from v, in data units.

    Args:
        rbm: with Gaussian visible units.
        v: where to start.
        draws: of noise and hidden states.
        steps: how many.
        size: of each, a share of the visible units' own variance; 0.1 to 0.5.
        draw_hidden: states of h (Gibbs-Langevin) or means.

    Raises:
        BadInput: binary visible units, or a size that is not between 0 and 1.
    """
    if not isinstance(rbm.units, Gaussian):
        raise BadInput("Langevin sampling is for gaussian visible units: binary ones are drawn exactly by Gibbs sampling")
    if not 0 < size <= 1:
        raise BadInput(f"a Langevin step is a share of the variance from 0 to 1, found {size}")
    u, centre = v / rbm.units.sigma, rbm.visible_bias / rbm.units.sigma
    for step in range(steps):
        mean = torch.sigmoid(torch.addmm(rbm.hidden_bias, u, rbm.weights.t()))
        h = bernoulli(mean, draws, f"langevin-h{step}") if draw_hidden else mean
        noise = draws.normal(f"langevin{step}", u.shape, u.device).to(u.dtype)
        u = u - size * (u - centre - h @ rbm.weights) + (2 * size) ** 0.5 * noise
    return u * rbm.units.sigma
