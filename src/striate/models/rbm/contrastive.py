"""Contrastive divergence and persistent contrastive divergence: the statistics an update receives, written to be read.

The trainer's fast path (`striate.train.contrastive`) computes the same statistics in place; its tests hold it to this.
Source: Krizhevsky 2009, section 1.4 (CD-k, Hinton 2002); Tieleman 2008 (PCD).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm.gibbs import gibbs
from striate.models.rbm.rbm import RBM
from striate.models.rbm.units import Gaussian, bernoulli


@dataclass(frozen=True)
class Statistics:
    """Averages over a batch of -dE/d(parameter); `positive - negative` estimates the log-likelihood's gradient."""

    weights: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor

    def __sub__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.weights - other.weights,
            self.visible_bias - other.visible_bias,
            self.hidden_bias - other.hidden_bias,
        )


def correlate(rbm: RBM, v: Tensor, h: Tensor) -> Statistics:
    """Statistics of visible v (batch, visible) with hidden states or means h (batch, hidden)."""
    return Statistics(
        weights=h.t() @ rbm.units.scaled(v) / len(v),
        visible_bias=rbm.units.bias_statistics(v, rbm.visible_bias).mean(dim=0),
        hidden_bias=h.mean(dim=0),
    )


def sigma_statistics(rbm: RBM, v: Tensor, h: Tensor) -> Tensor:
    """Mean of -dE/d(log sigma) over rows, (visible,): ((v - b) / sigma)^2 - (v / sigma) W'h. Section 1.4.3.2."""
    if not isinstance(rbm.units, Gaussian):
        raise BadInput("only gaussian visible units have a sigma to learn")
    squares = ((v - rbm.visible_bias) / rbm.units.sigma).square()
    return (squares - rbm.units.scaled(v) * (h @ rbm.weights)).mean(dim=0)


def contrastive_gradient(rbm: RBM, v0: Tensor, draws: Draws, k: int = 1) -> Statistics:
    """CD-k: statistics at the data minus statistics after k steps from it.

    The data's hidden layer enters as means, the chain starts from its sampled states, the last hidden layer enters as means.
    """
    h0_mean = rbm.hidden_mean(v0)
    h0 = bernoulli(h0_mean, draws, "h0")
    v_k, h_k_mean = gibbs(rbm, h0, draws, k)
    return correlate(rbm, v0, h0_mean) - correlate(rbm, v_k, h_k_mean)


def persistent_gradient(rbm: RBM, v0: Tensor, chains: Tensor, draws: Draws, k: int = 1) -> tuple[Statistics, Tensor]:
    """PCD-k: negative statistics from kept chains of hidden states (chains, hidden), advanced k steps.

    Each phase is averaged over its own count, so the number of chains need not be the batch's.

    Returns:
        The statistics and the chains' new states.
    """
    v_k, h_k_mean = gibbs(rbm, chains, draws, k)
    statistics = correlate(rbm, v0, rbm.hidden_mean(v0)) - correlate(rbm, v_k, h_k_mean)
    return statistics, bernoulli(h_k_mean, draws, "chains")
