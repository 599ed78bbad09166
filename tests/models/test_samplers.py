"""Samplers on models small enough to enumerate: the right distribution stays, and far modes are reached."""

import pytest
import torch

from bounds import z_for
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import RBM, Bernoulli, Gaussian, gibbs
from striate.models.rbm.ais import Annealed
from striate.models.rbm.exact import all_states, log_weight_of_hidden
from striate.models.rbm.langevin import langevin
from striate.models.rbm.tempering import TemperedChains
from striate.models.rbm.units import bernoulli

_COUNT = 4000


def _rbm(gaussian: bool) -> RBM:
    draws = Draws(4, purpose="samplers")
    units = Gaussian(torch.tensor([0.6, 0.9, 1.2, 0.8])) if gaussian else Bernoulli()
    return RBM(1.2 * draws.normal("w", (5, 4)), draws.normal("b", (4,)), 0.5 * draws.normal("c", (5,)), units)


def _exact(rbm: RBM, count: int, seed: int) -> torch.Tensor:
    """Visible states drawn exactly, by the hidden layer's enumerated marginal."""
    h = all_states(rbm.num_hidden, torch.float32)
    edges = torch.softmax(log_weight_of_hidden(rbm, h).double(), 0).cumsum(0)
    chosen = h[torch.searchsorted(edges, Draws(seed).uniform("pick", (count,)).double()).clamp_max(len(h) - 1)]
    return rbm.sample_visible(chosen, Draws(seed), "exact")


def _moments(rbm: RBM) -> tuple[torch.Tensor, torch.Tensor]:
    """E[v] and E[v^2] by enumeration."""
    h = all_states(rbm.num_hidden, torch.float32)
    p = torch.softmax(log_weight_of_hidden(rbm, h).double(), 0)
    mean = rbm.visible_mean(h).double()
    extra = rbm.units.sigma.double().square() if isinstance(rbm.units, Gaussian) else mean * (1 - mean)
    return p @ mean, p @ (mean.square() + extra)


def _assert_distributed(rbm: RBM, v: torch.Tensor, slack: float = 0.0) -> None:
    for power, expected in zip((1, 2), _moments(rbm), strict=True):
        values = v.double() ** power
        error = values.std(dim=0) / len(v) ** 0.5
        assert ((values.mean(dim=0) - expected).abs() < z_for(16) * error + slack).all()


@pytest.mark.parametrize("gaussian", [True, False])
def test_tempered_chains_stay_in_the_models_distribution(gaussian: bool) -> None:
    """Every temperature starts exactly right (the base is drawn exactly, between are 60 steps): the coldest must stay right."""
    rbm = _rbm(gaussian)
    chains = TemperedChains(Annealed.fitted(rbm, _exact(rbm, 2000, 1)), _COUNT, 5, Draws(2))
    for step in range(60):
        chains.step(Draws(3).at(step))
    _assert_distributed(rbm, chains.v[-1])
    assert float(chains.swapped.min()) > 0.05
    for step in range(60, 65):
        chains.step(Draws(3).at(step))
    _assert_distributed(rbm, chains.v[-1])


def test_tempering_mixes_between_modes_that_gibbs_never_leaves() -> None:
    """All-on and all-off, each half of the mass: 200 Gibbs steps from all-off stay there, tempered chains find both."""
    rbm = RBM(torch.full((4, 4), 5.0), torch.full((4,), -10.0), torch.full((4,), -10.0), Bernoulli())
    off = torch.zeros(500, 4)
    stuck, _ = gibbs(rbm, bernoulli(rbm.hidden_mean(off), Draws(0), "h"), Draws(0), 200)
    assert float(stuck.mean()) < 0.05
    data = torch.cat([torch.zeros(50, 4), torch.ones(50, 4)])
    chains = TemperedChains(Annealed.fitted(rbm, data), 500, 10, Draws(1))
    chains.v[:] = 0
    for step in range(200):
        chains.step(Draws(2).at(step))
    # Half of 500 chains, to five standard errors.
    assert abs(float(chains.v[-1].mean()) - 0.5) < 5 * 0.5 / 500**0.5


@pytest.mark.parametrize("draw_hidden", [True, False])
def test_small_langevin_steps_stay_in_the_models_distribution(draw_hidden: bool) -> None:
    """Steps of a fiftieth leave an error of about a fiftieth of the variance; steps of a half leave much more."""
    rbm = _rbm(True)
    v = langevin(rbm, _exact(rbm, _COUNT, 1), Draws(5), 200, 0.02, draw_hidden)
    _assert_distributed(rbm, v, slack=0.06)
    coarse = langevin(rbm, _exact(rbm, _COUNT, 1), Draws(5), 50, 0.9, draw_hidden)
    assert (coarse.square().mean(dim=0) - _moments(rbm)[1]).abs().max() > 0.2


def test_samplers_refuse_what_they_cannot_do() -> None:
    with pytest.raises(BadInput, match="gaussian visible units"):
        langevin(_rbm(False), torch.zeros(3, 4), Draws(0), 1, 0.1)
    with pytest.raises(BadInput, match="share of the variance"):
        langevin(_rbm(True), torch.zeros(3, 4), Draws(0), 1, 1.5)
    with pytest.raises(BadInput, match="two temperatures"):
        TemperedChains(Annealed.fitted(_rbm(False), torch.zeros(3, 4)), 5, 1, Draws(0))
