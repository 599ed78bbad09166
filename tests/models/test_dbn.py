"""Deep belief nets, on nets small enough to enumerate."""

import itertools

import pytest
import torch

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import RBM, Bernoulli, DeepBeliefNet, Gaussian, first_layer_likes, transposed
from striate.models.rbm.exact import all_states, log_likelihood, log_partition, log_weight_of_hidden

# A two-sided normal tail of 1e-6 / 20 comparisons.
_Z = 5.5


def _small(visible: int, hidden: int, name: str, scale: float = 1.0) -> RBM:
    draws = Draws(0, purpose=name)
    normal = {
        key: scale * draws.normal(key, shape).double()
        for key, shape in (("w", (hidden, visible)), ("b", (visible,)), ("c", (hidden,)))
    }
    return RBM(normal["w"], normal["b"], normal["c"], Bernoulli())


def _visible_distribution(net: DeepBeliefNet) -> torch.Tensor:
    """p(v) of a net with two layers by enumeration: sum over h1 of p_top(h1) p(v | h1)."""
    below, top = net.rbms
    h1 = all_states(below.num_hidden)
    p_h1 = torch.exp(-top.free_energy(h1) - log_partition(top))
    mean = below.visible_mean(h1)
    v = all_states(below.num_visible)
    p_v_given_h1 = torch.exp(v @ mean.log().t() + (1 - v) @ (1 - mean).log().t())
    return p_v_given_h1 @ p_h1


def test_a_transposed_second_layer_leaves_the_distribution_as_it_was() -> None:
    """Equation 1.7 starts tight: by enumeration the two-layer net is the one-layer one; any other second layer is not."""
    below = _small(5, 4, "below")
    v = all_states(5)
    one = log_likelihood(below, v).exp()
    assert torch.allclose(_visible_distribution(DeepBeliefNet((below, transposed(below)))), one, atol=1e-12)
    other = _visible_distribution(DeepBeliefNet((below, _small(4, 5, "other"))))
    assert other.sum() == pytest.approx(1.0)
    assert (other - one).abs().max() > 0.01


def test_samples_have_the_enumerated_means() -> None:
    """20,000 chains of 60 steps; false failure below 1e-6 over all comparisons, least deviation caught about 0.02."""
    net = DeepBeliefNet((_small(5, 4, "below", 0.7), _small(4, 3, "top", 0.7)))
    count = 20_000
    drawn = net.sample(count, Draws(1), steps=60)
    expected = _visible_distribution(net) @ all_states(5)
    error = drawn.std(dim=0) / count**0.5
    assert ((drawn.mean(dim=0) - expected).abs() < _Z * error).all()
    lower = net.rbms[0]
    alone = DeepBeliefNet((lower,)).sample(count, Draws(2), steps=60)
    expected_alone = torch.softmax(-lower.free_energy(all_states(5)), 0) @ all_states(5)
    assert ((alone.mean(dim=0) - expected_alone).abs() < _Z * alone.std(dim=0) / count**0.5).all()
    assert (expected - expected_alone).abs().max() > 0.02


def test_up_and_down_pass_means_through_every_layer() -> None:
    rbms = (_small(6, 5, "a"), _small(5, 4, "b"), _small(4, 3, "c"))
    net = DeepBeliefNet(rbms)
    v = all_states(6)[::7]
    h1, h2, h3 = net.up(v)
    assert torch.equal(h3, rbms[2].hidden_mean(rbms[1].hidden_mean(rbms[0].hidden_mean(v))))
    assert (h1.shape[1], h2.shape[1]) == (5, 4)
    assert torch.equal(net.down(h3), rbms[0].visible_mean(rbms[1].visible_mean(rbms[2].visible_mean(h3))))
    sampled = torch.stack([net.down(h3, Draws(seed)) for seed in range(20)])
    assert sampled.std(dim=0).max() > 0


def test_the_posterior_of_the_top_layer_is_as_likely_as_its_weight() -> None:
    """log p(h) by `log_weight_of_hidden` is the marginal over enumerated v."""
    rbm = _small(4, 3, "x")
    v, h = all_states(4), all_states(3)
    joint = torch.tensor(
        [[float((x @ rbm.weights.t()) @ y + x @ rbm.visible_bias + y @ rbm.hidden_bias) for x in v] for y in h]
    )
    assert torch.allclose(torch.logsumexp(joint.double(), 1), log_weight_of_hidden(rbm, h), atol=1e-5)


def test_likes_are_the_extremes_of_each_row() -> None:
    below, above = _small(6, 8, "p"), _small(8, 3, "q")
    most, least = first_layer_likes(below, above, 2)
    for unit, row in itertools.islice(enumerate(above.weights), 3):
        order = row.argsort(descending=True)
        assert most[unit].tolist() == order[:2].tolist()
        assert least[unit].tolist() == order.flip(0)[:2].tolist()


def test_layers_that_do_not_chain_are_refused() -> None:
    with pytest.raises(BadInput, match="layer 2 has 5 visible units, but the layer below it has 4"):
        DeepBeliefNet((_small(6, 4, "a"), _small(5, 3, "b")))
    gaussian = RBM(torch.zeros(3, 4), torch.zeros(4), torch.zeros(3), Gaussian(torch.ones(4)))
    with pytest.raises(BadInput, match="layer 2 has gaussian visible units"):
        DeepBeliefNet((_small(6, 4, "a"), gaussian))
    with pytest.raises(BadInput, match="at least one"):
        DeepBeliefNet(())
