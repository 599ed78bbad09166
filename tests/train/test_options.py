"""Centring, clipping and other samplers in the learner: closed forms, exact likelihoods, exact restarts."""

import numpy as np
import pytest
import torch

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import RBM, contrastive_gradient, new_rbm
from striate.models.rbm.exact import log_likelihood
from striate.train import CDSettings, ContrastiveLearner, Rates
from striate.train.contrastive import constant

_OPTIONS = {
    "cd": CDSettings(),
    "pcd": CDSettings(chains=50),
    "fast": CDSettings(sampler="fast", chains=50, fast_rate=1.0),
    "tempering": CDSettings(sampler="tempering", chains=50, temperatures=5),
    "centring": CDSettings(centring=True),
    "centred pcd": CDSettings(centring=True, chains=50),
    "clip": CDSettings(clip=0.5),
}


def _bars(count: int, step: int) -> torch.Tensor:
    random = np.random.default_rng(step)
    images = np.repeat(random.integers(0, 2, (count, 3))[:, :, None], 3, axis=2)
    turned = random.integers(0, 2, count).astype(bool)
    images[turned] = images[turned].transpose(0, 2, 1)
    return torch.tensor(images.reshape(count, 9), dtype=torch.float32)


def _start() -> RBM:
    return new_rbm(12, torch.full((9,), 0.5), visible="bernoulli", weight_std=0.05, draws=Draws(0))


@pytest.mark.parametrize("name", list(_OPTIONS))
def test_every_option_learns_bars_and_stripes(name: str) -> None:
    """Exact mean log-likelihood after 1,500 steps: from -9 log 2 = -6.24 nats to above -4.6 (the data's own entropy: -3.5)."""
    learner = ContrastiveLearner(
        _start(), _OPTIONS[name], lambda step: Rates(0.2 * min(1, 2 * (1500 - step) / 1500), 0.5), seed=1
    )
    for step in range(1500):
        learner.step(_bars(50, step))
    found = float(log_likelihood(learner.rbm.to(dtype=torch.float64), _bars(2000, 10_000).double()).mean())
    assert found > -4.6, f"{name}: {found}"


def test_the_centred_step_is_its_closed_form() -> None:
    """dW = cov at data - cov at chains about the offsets; biases move by the plain statistics less what dW moved them."""
    rbm, v0 = _start(), _bars(40, 0)
    learner = ContrastiveLearner(rbm, CDSettings(centring=True), constant(1.0), seed=3)
    learner.step(v0)
    plain = contrastive_gradient(rbm.to(dtype=torch.float64), v0.double(), Draws(3, purpose="sampling/"))
    visible, hidden = v0.double().mean(dim=0), rbm.hidden_mean(v0).double().mean(dim=0)
    weights = plain.weights - torch.outer(hidden, plain.visible_bias) - torch.outer(plain.hidden_bias, visible)
    torch.testing.assert_close(learner.rbm.weights.double() - rbm.weights, weights, rtol=1e-4, atol=2e-5)
    hidden_bias = plain.hidden_bias - weights @ visible
    torch.testing.assert_close(learner.rbm.hidden_bias.double() - rbm.hidden_bias, hidden_bias, rtol=1e-4, atol=5e-5)
    visible_bias = plain.visible_bias - hidden @ weights
    torch.testing.assert_close(learner.rbm.visible_bias.double() - rbm.visible_bias, visible_bias, rtol=1e-4, atol=5e-5)
    assert (weights - plain.weights).abs().max() > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_filter_moves_further_than_the_clip(dtype: torch.dtype) -> None:
    rbm, v0 = _start(), _bars(40, 0)
    free = ContrastiveLearner(rbm, CDSettings(), constant(1.0), seed=3, dtype=dtype)
    clipped = ContrastiveLearner(rbm, CDSettings(clip=0.1), constant(1.0), seed=3, dtype=dtype)
    free.step(v0)
    clipped.step(v0)
    moved, free_moved = (torch.linalg.vector_norm(one.rbm.weights - rbm.weights, dim=1) for one in (clipped, free))
    assert float(moved.max()) <= 0.1 * (1 + 1e-3) < float(free_moved.max())
    short = free_moved < 0.095
    torch.testing.assert_close(moved[short], free_moved[short], rtol=1e-2, atol=1e-4)


_GAUSSIAN = {
    "langevin": CDSettings(sampler="langevin", k=5),
    "kept langevin": CDSettings(sampler="langevin", k=5, chains=30),
    "gaussian tempering": CDSettings(sampler="tempering", chains=30, temperatures=4),
    "centring, clip, sigma": CDSettings(centring=True, clip=1.0, sigma_rate=0.1),
}


@pytest.mark.parametrize("name", [*_OPTIONS, *_GAUSSIAN])
def test_a_restart_goes_on_to_the_last_bit(name: str) -> None:
    gaussian = name in _GAUSSIAN
    settings = _GAUSSIAN[name] if gaussian else _OPTIONS[name]
    rbm = new_rbm(8, torch.zeros(9), sigma=0.7, weight_std=0.1, draws=Draws(0)) if gaussian else _start()

    def learner(start: RBM) -> ContrastiveLearner:
        return ContrastiveLearner(start, settings, constant(0.02, 0.9), seed=3)

    def batch(step: int) -> torch.Tensor:
        return Draws(9).at(step).normal("v", (50, 9)) if gaussian else _bars(50, step)

    whole = learner(rbm)
    for step in range(4):
        whole.step(batch(step))
    restarted = learner(whole.rbm)
    restarted.load_state({key: tensor.clone() for key, tensor in whole.state().items()})
    for step in range(4, 8):
        whole.step(batch(step))
        restarted.step(batch(step))
    for key, tensor in whole.state().items():
        assert torch.equal(tensor, restarted.state()[key]), key


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(BadInput, match="keeps chains"):
        CDSettings(sampler="fast")
    with pytest.raises(BadInput, match="a length above 0"):
        CDSettings(clip=0.0)
    with pytest.raises(BadInput, match="gaussian visible units"):
        ContrastiveLearner(_start(), CDSettings(sampler="langevin"), constant(0.1))
