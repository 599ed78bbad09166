"""The variational bound against log p(v) of deep belief nets small enough to enumerate."""

import pytest
import torch

from striate.draws import Draws
from striate.models.rbm import RBM, Bernoulli, DeepBeliefNet, Gaussian, transposed
from striate.models.rbm.bound import log_conditional, variational_bound
from striate.models.rbm.exact import all_states, log_likelihood, log_partition


def _small(visible: int, hidden: int, name: str, gaussian: bool = False) -> RBM:
    draws = Draws(0, purpose=name)
    weights, bias, offset = draws.normal("w", (hidden, visible)), draws.normal("b", (visible,)), draws.normal("c", (hidden,))
    units = Gaussian(0.5 + draws.uniform("s", (visible,)).double()) if gaussian else Bernoulli()
    return RBM(weights.double(), bias.double(), offset.double(), units)


def _exact(net: DeepBeliefNet, v: torch.Tensor) -> torch.Tensor:
    """log p(v) = log sum over h1 of p_top(h1) p(v | h1)."""
    below, top = net.rbms
    h1 = all_states(below.num_hidden)
    log_top = -top.free_energy(h1) - log_partition(top)
    conditional = torch.stack([log_conditional(below, v, row.expand(len(v), -1)) for row in h1], dim=1)
    return torch.logsumexp(conditional + log_top, dim=1)


@pytest.mark.parametrize("gaussian", [False, True])
def test_the_bound_is_below_the_exact_likelihood(gaussian: bool) -> None:
    """Averaged over 400 samples of Q a row: nowhere above by more than five standard errors, and on average clearly below."""
    net = DeepBeliefNet((_small(5, 4, "below", gaussian), _small(4, 3, "top")))
    v = Draws(1).normal("v", (30, 5)).double() if gaussian else all_states(5)
    log_z = float(log_partition(net.rbms[1]))
    each = torch.stack([variational_bound(net, v, log_z, Draws(seed), samples=1) for seed in range(400)])
    error = each.std(dim=0) / 20
    exact = _exact(net, v)
    assert ((each.mean(dim=0) - exact) < 5 * error).all()
    assert float((exact - each.mean(dim=0)).mean()) > 0.02


def test_the_bound_is_tight_for_a_transposed_second_layer() -> None:
    """Equation 1.7: with W2 = W1' the posterior is exact, and every single sample gives log p(v) itself."""
    below = _small(5, 4, "below")
    net = DeepBeliefNet((below, transposed(below)))
    v = all_states(5)
    bound = variational_bound(net, v, float(log_partition(net.rbms[1])), Draws(0), samples=1)
    torch.testing.assert_close(bound, log_likelihood(below, v), rtol=0, atol=1e-9)


def test_a_single_rbms_bound_is_its_likelihood() -> None:
    rbm = _small(5, 4, "below")
    v = all_states(5)
    bound = variational_bound(DeepBeliefNet((rbm,)), v, float(log_partition(rbm)), Draws(0), samples=2)
    torch.testing.assert_close(bound, log_likelihood(rbm, v), rtol=0, atol=1e-9)
