"""Block Gibbs sampling: the two half-steps, k times. Source: Krizhevsky 2009, section 1.4."""

from __future__ import annotations

from torch import Tensor

from striate.draws import Draws
from striate.models.rbm.rbm import RBM
from striate.models.rbm.units import bernoulli


def gibbs(rbm: RBM, h: Tensor, draws: Draws, k: int) -> tuple[Tensor, Tensor]:
    """k full steps h -> v -> h from hidden states h, (batch, hidden).

    Returns:
        Sampled visible states v_k (batch, visible), and the hidden means p(h = 1 | v_k) (batch, hidden).
    """
    for step in range(1, k + 1):
        v = rbm.sample_visible(h, draws, f"v{step}")
        h_mean = rbm.hidden_mean(v)
        if step < k:
            h = bernoulli(h_mean, draws, f"h{step}")
    return v, h_mean
