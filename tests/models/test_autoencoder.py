"""Autoencoders unrolled from RBMs, before and after training."""

import pytest
import torch

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.autoencoder import Autoencoder, unrolled
from striate.models.rbm import RBM, Bernoulli, DeepBeliefNet, Gaussian
from striate.train.backprop import BackpropLearner, BackpropSettings
from striate.train.objectives import binary_cross_entropy, squared_error
from striate.train.updates import Rates


def _stack(gaussian: bool) -> tuple[RBM, ...]:
    sizes, rbms = (10, 8, 6, 3), []
    for level in range(3):
        draws = Draws(level, purpose="stack")
        shape = (sizes[level + 1], sizes[level])
        units = Gaussian(0.4 + draws.uniform("s", (10,))) if gaussian and level == 0 else Bernoulli()
        rbms.append(RBM(draws.normal("w", shape), draws.normal("b", shape[1:]), draws.normal("c", shape[:1]), units))
    return tuple(rbms)


@pytest.mark.parametrize("gaussian", [True, False])
def test_unrolled_it_is_the_stacks_pass_of_means_up_and_down(gaussian: bool) -> None:
    rbms = _stack(gaussian)
    net, rows = DeepBeliefNet(rbms), Draws(9).uniform("rows", (20, 10))
    auto = unrolled(rbms)
    codes = net.up(rows)[-1]
    torch.testing.assert_close(auto.encode(rows), codes, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(auto.decode(auto.encode(rows)), net.down(codes), rtol=1e-5, atol=1e-5)
    assert torch.equal(auto.bits(rows), auto.encode(rows) > 0.5)
    again = Autoencoder.restore(auto.describe(), auto.state())
    assert torch.equal(again.decode(again.encode(rows)), auto.decode(auto.encode(rows)))


def test_training_lowers_the_error_of_a_two_number_code() -> None:
    """Rows on a plane in ten dimensions: a linear code of two comes below a tenth of their variance, from a random stack."""
    rows = Draws(1).normal("t", (500, 2)) @ Draws(2).normal("plane", (2, 10))
    draws = Draws(3)
    rbms = (
        RBM(0.3 * draws.normal("a", (30, 10)), torch.zeros(10), torch.zeros(30), Gaussian(torch.ones(10))),
        RBM(0.3 * draws.normal("b", (2, 30)), torch.zeros(30), torch.zeros(2), Bernoulli()),
    )
    auto = unrolled(rbms, linear_code=True)
    learner = BackpropLearner(
        auto.weights,
        auto.biases,
        squared_error,
        BackpropSettings(),
        lambda step: Rates(0.02 * min(1, 2 * (4000 - step) / 4000), 0.9),
        input_scale=auto.scale,
        linear=auto.linear,
    )
    for step in range(4000):
        learner.step(rows[(step % 10) * 50 : (step % 10) * 50 + 50])
    trained = Autoencoder(tuple(learner.weights), tuple(learner.biases), auto.scale, True, True)
    error = float((trained.decode(trained.encode(rows)) - rows).square().mean())
    before = float((auto.decode(auto.encode(rows)) - rows).square().mean())
    assert error < 0.1 * float(rows.var()) < before


def test_noise_on_the_code_makes_its_units_binary() -> None:
    """Salakhutdinov and Hinton 2007: with noise of 4 on their total inputs, code units saturate; without it they need not."""
    rows = (Draws(4).uniform("r", (400, 8)) < 0.5).float()
    shares = {}
    for noise in (0.0, 4.0):
        draws = Draws(5)
        rbm = RBM(0.1 * draws.normal("w", (8, 8)), torch.zeros(8), torch.zeros(8), Bernoulli())
        auto = unrolled((rbm,))
        settings = BackpropSettings(code_noise=noise, code=auto.code)
        learner = BackpropLearner(
            auto.weights,
            auto.biases,
            binary_cross_entropy,
            settings,
            lambda step: Rates(0.2, 0.9),
            input_scale=auto.scale,
            seed=1,
        )
        for step in range(1500):
            learner.step(rows[(step % 8) * 50 : (step % 8) * 50 + 50])
        codes = Autoencoder(tuple(learner.weights), tuple(learner.biases), auto.scale, False).encode(rows)
        shares[noise] = float(((codes < 0.1) | (codes > 0.9)).float().mean())
    assert shares[4.0] > 0.8 > shares[0.0], shares


def test_layers_that_do_not_mirror_are_refused() -> None:
    with pytest.raises(BadInput, match="as many layers up as down"):
        Autoencoder((torch.zeros(3, 4),), (torch.zeros(3),), torch.tensor(1.0), True)
    with pytest.raises(BadInput, match="layer 2 has weights"):
        Autoencoder((torch.zeros(3, 4), torch.zeros(4, 5)), (torch.zeros(3), torch.zeros(4)), torch.tensor(1.0), True)
