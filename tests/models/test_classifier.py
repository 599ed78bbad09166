"""Logistic nets: what they are before training, and what they refuse."""

import pytest
import torch

from striate.draws import Draws
from striate.errors import BadInput
from striate.measure.logistic import fit_logistic
from striate.models.classifier import LogisticNet, net_from_rbms, random_net
from striate.models.rbm import RBM, DeepBeliefNet, new_rbm


def _stack() -> tuple[RBM, RBM]:
    draws = Draws(0, purpose="stack")
    sigma = 0.3 + draws.uniform("sigma", (12,))
    first = new_rbm(20, torch.zeros(12), sigma=sigma, weight_std=0.5, draws=draws)
    second = new_rbm(15, torch.full((20,), 0.5), visible="bernoulli", weight_std=0.5, draws=draws.within("second"))
    return first, second


def test_a_net_from_rbms_says_what_their_logistic_regression_says_to_the_last_bit() -> None:
    """Same operations in the same order: bit-equal logits before fine-tuning, one layer and two, a sigma for each pixel."""
    rows = Draws(1).normal("rows", (300, 12))
    labels = (rows[:, 0] * rows[:, 1] > 0).long() + (rows[:, 2] > 0).long()
    for rbms in (_stack()[:1], _stack()):
        features = DeepBeliefNet(rbms).up(rows)[-1]
        logistic = fit_logistic(features, labels, 3, l2=0.01)
        net = net_from_rbms(rbms, logistic.weights, logistic.bias)
        assert torch.equal(net.logits(rows), logistic.scores(features))
        assert torch.equal(net.hidden(rows)[-1], features)
        restored = LogisticNet.restore(net.state())
        assert torch.equal(restored.logits(rows), net.logits(rows))


def test_a_random_net_keeps_total_inputs_at_its_gain() -> None:
    """N(0, gain^2 / inputs) weights on unit-variance rows: variance gain^2, to 5 standard errors of 4,000 units."""
    net = random_net((100, 4000, 10), Draws(0), input_deviation=3.0, gain=0.7)
    total = (3.0 * Draws(1).normal("rows", (1, 100)) / 3.0) @ net.weights[0].t()
    rows_square = float(Draws(1).normal("rows", (1, 100)).square().mean())
    expected = 0.49 * rows_square
    assert abs(float(total.square().mean()) - expected) < 5 * expected * (2 / 4000) ** 0.5
    assert net.sizes == (100, 4000, 10)


def test_layers_that_do_not_chain_are_refused() -> None:
    with pytest.raises(BadInput, match="layer 2 takes 5 inputs, the layer below it has 4 units"):
        LogisticNet((torch.zeros(4, 3), torch.zeros(2, 5)), (torch.zeros(4), torch.zeros(2)), torch.tensor(1.0))
    with pytest.raises(BadInput, match="layer 1 has weights"):
        LogisticNet((torch.zeros(4, 3),), (torch.zeros(3),), torch.tensor(1.0))
    with pytest.raises(BadInput, match="inputs and of classes"):
        random_net((3,), Draws(0))
