"""RBMs against enumeration of every state, finite differences and closed forms."""

from __future__ import annotations

import itertools

import pytest
import torch

from bounds import z_for
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import (
    RBM,
    Bernoulli,
    Gaussian,
    contrastive_gradient,
    correlate,
    gibbs,
    new_rbm,
    persistent_gradient,
    tile_rbm,
)
from striate.models.rbm.contrastive import sigma_statistics
from striate.models.rbm.exact import all_states, exact_gradient, log_likelihood, log_partition, log_weight_of_hidden
from striate.models.rbm.units import bernoulli

KINDS = ["bernoulli", "gaussian"]


def small_rbm(kind: str, num_hidden: int = 4, num_visible: int = 5, scale: float = 0.7) -> RBM:
    """Random parameters in float64; sigmas differ between units, so that a sigma left out shows."""
    draws = Draws(7).within(kind)
    weights = scale * draws.normal("w", (num_hidden, num_visible)).double()
    units = Gaussian(0.6 + draws.uniform("s", (num_visible,)).double()) if kind == "gaussian" else Bernoulli()
    return RBM(weights, draws.normal("b", (num_visible,)).double(), draws.normal("c", (num_hidden,)).double(), units)


def data_for(kind: str, rows: int = 6, num_visible: int = 5) -> torch.Tensor:
    if kind == "bernoulli":
        return (Draws(3).uniform("v", (rows, num_visible)) < 0.4).double()
    return Draws(3).normal("v", (rows, num_visible)).double()


def energy_by_hand(rbm: RBM, v: torch.Tensor, h: torch.Tensor) -> float:
    """The paper's formulae as plain sums."""
    total = 0.0
    for i in range(rbm.num_visible):
        sigma = float(rbm.units.sigma[i]) if isinstance(rbm.units, Gaussian) else 1.0
        if isinstance(rbm.units, Gaussian):
            total += float((v[i] - rbm.visible_bias[i]) ** 2) / (2 * sigma**2)
        else:
            total -= float(rbm.visible_bias[i] * v[i])
        for j in range(rbm.num_hidden):
            total -= float(v[i]) / sigma * float(h[j]) * float(rbm.weights[j, i])
    return total - float((rbm.hidden_bias * h).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_energy_is_the_papers_sum(kind: str) -> None:
    rbm, v = small_rbm(kind), data_for(kind)
    h = all_states(4)[[3, 9, 15, 0, 6, 1]]
    expected = torch.tensor([energy_by_hand(rbm, v[n], h[n]) for n in range(6)], dtype=torch.float64)
    torch.testing.assert_close(rbm.energy(v, h), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_free_energy_is_minus_log_sum_over_hidden(kind: str) -> None:
    rbm, v, h = small_rbm(kind), data_for(kind), all_states(4)
    by_enumeration = torch.stack([-torch.logsumexp(-rbm.energy(row.expand(len(h), -1), h), dim=0) for row in v])
    torch.testing.assert_close(rbm.free_energy(v), by_enumeration, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_mean_is_the_posterior_by_enumeration(kind: str) -> None:
    rbm, v, h = small_rbm(kind), data_for(kind), all_states(4)
    posterior = torch.stack([torch.softmax(-rbm.energy(row.expand(len(h), -1), h), dim=0) @ h for row in v])
    torch.testing.assert_close(rbm.hidden_mean(v), posterior, rtol=1e-12, atol=1e-12)


def test_bernoulli_visible_mean_is_the_conditional_by_enumeration() -> None:
    rbm, h, v = small_rbm("bernoulli"), all_states(4), all_states(5)
    conditional = torch.stack([torch.softmax(-rbm.energy(v, row.expand(len(v), -1)), dim=0) @ v for row in h])
    torch.testing.assert_close(rbm.visible_mean(h), conditional, rtol=1e-12, atol=1e-12)


def test_gaussian_conditional_completes_the_square() -> None:
    """E(v, h) - E(mean, h) = sum((v - mean)^2 / (2 sigma^2)): so v | h is N(mean, sigma^2)."""
    rbm, v = small_rbm("gaussian"), data_for("gaussian")
    assert isinstance(rbm.units, Gaussian)
    h = all_states(4)[[3, 9, 15, 0, 6, 1]]
    mean = rbm.visible_mean(h)
    expected = ((v - mean) / rbm.units.sigma).square().sum(dim=1) / 2
    torch.testing.assert_close(rbm.energy(v, h) - rbm.energy(mean, h), expected, rtol=1e-10, atol=1e-10)


def test_bernoulli_log_partition_is_the_sum_over_every_joint_state() -> None:
    rbm = small_rbm("bernoulli")
    energies = [rbm.energy(v[None], h[None]) for v, h in itertools.product(all_states(5), all_states(4))]
    expected = torch.logsumexp(-torch.cat(energies), dim=0)
    torch.testing.assert_close(log_partition(rbm), expected, rtol=1e-12, atol=1e-12)
    turned = RBM(rbm.weights.t().contiguous(), rbm.hidden_bias, rbm.visible_bias, Bernoulli())
    torch.testing.assert_close(log_partition(turned), expected, rtol=1e-12, atol=1e-12)


def test_gaussian_density_integrates_to_one() -> None:
    """Numerical integration of exp(log p(v)) over a fine grid in two dimensions."""
    rbm = small_rbm("gaussian", num_hidden=3, num_visible=2)
    side = torch.linspace(-14, 14, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    mass = log_likelihood(rbm, grid).exp().sum() * (side[1] - side[0]) ** 2
    assert float(mass) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["weights", "visible_bias", "hidden_bias"])
def test_exact_gradient_is_the_finite_difference_of_the_log_likelihood(kind: str, name: str) -> None:
    """Central differences in float64 at every entry; step 1e-5 gives errors near 1e-9."""
    rbm, v = small_rbm(kind), data_for(kind)
    analytic = getattr(exact_gradient(rbm, v), name)
    parameter = getattr(rbm, name)
    numeric = torch.zeros_like(parameter)
    step = 1e-5
    for index in itertools.product(*map(range, parameter.shape)):
        kept = float(parameter[index])
        parameter[index] = kept + step
        above = log_likelihood(rbm, v).mean()
        parameter[index] = kept - step
        below = log_likelihood(rbm, v).mean()
        parameter[index] = kept
        numeric[index] = (above - below) / (2 * step)
    torch.testing.assert_close(analytic, numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_gibbs_keeps_the_exact_distribution_of_hidden_states(kind: str) -> None:
    """Stationarity: 200,000 chains begun exactly at the model stay there; each of 8 states within z = 5.3 standard errors.

    A sampler that left out sigma, or used means for states, moves these shares by more than 0.01 (30 standard errors).
    """
    rbm = small_rbm(kind, num_hidden=3, num_visible=4)
    states = all_states(3)
    exact = torch.softmax(log_weight_of_hidden(rbm, states), dim=0)
    chains = 200_000
    uniform = Draws(1).uniform("start", (chains,)).double()
    h = states[torch.searchsorted(exact.cumsum(0), uniform).clamp_max(7)]
    _, h_mean = gibbs(rbm, h, Draws(2), k=3)
    after = bernoulli(h_mean, Draws(3), "last")
    shares = torch.bincount((after @ torch.tensor([1.0, 2, 4], dtype=torch.float64)).long(), minlength=8) / chains
    bound = z_for(8) * (exact * (1 - exact) / chains).sqrt()
    assert ((shares - exact).abs() <= bound).all()


@pytest.mark.parametrize("kind", KINDS)
def test_long_chains_make_contrastive_divergence_the_likelihoods_gradient(kind: str) -> None:
    """CD-30 on a small model, averaged over 60,000 chains, against the exact gradient; 5 standard errors and chain bias."""
    rbm = small_rbm(kind, num_hidden=3, num_visible=4, scale=0.4)
    v = data_for(kind, rows=4, num_visible=4)
    repeated = v.repeat(15_000, 1)
    estimate = contrastive_gradient(rbm, repeated, Draws(5), k=30)
    exact = exact_gradient(rbm, v)
    for name in ("weights", "visible_bias", "hidden_bias"):
        # One term's standard deviation is below 2 here; 60,000 of them.
        bound = z_for(19) * 2 / 60_000**0.5
        assert (getattr(estimate, name) - getattr(exact, name)).abs().max() < bound


def test_cd1_is_biased_and_its_sign_is_right() -> None:
    """The mean CD-1 direction makes an acute angle with the exact gradient; with the phases swapped it would be obtuse."""
    rbm, v = small_rbm("bernoulli", scale=1.0), data_for("bernoulli")
    estimate = contrastive_gradient(rbm, v.repeat(2000, 1), Draws(5), k=1).weights
    exact = exact_gradient(rbm, v).weights
    cosine = torch.nn.functional.cosine_similarity(estimate.flatten(), exact.flatten(), dim=0)
    assert 0.5 < float(cosine) < 0.9999


def test_persistent_chains_may_be_fewer_than_the_batch() -> None:
    """Each phase is averaged over its own count: with one chain, statistics are that chain's, not a sixth of them."""
    rbm, v = small_rbm("bernoulli"), data_for("bernoulli")
    chains = all_states(4)[5:6]
    statistics, after = persistent_gradient(rbm, v, chains, Draws(2))
    v_k, h_k_mean = gibbs(rbm, chains, Draws(2), 1)
    expected = correlate(rbm, v, rbm.hidden_mean(v)).weights - h_k_mean.t() @ v_k
    torch.testing.assert_close(statistics.weights, expected)
    assert after.shape == chains.shape


@pytest.mark.parametrize("kind", KINDS)
def test_state_and_description_restore_the_model(kind: str) -> None:
    rbm = small_rbm(kind)
    again = RBM.restore(rbm.describe(), rbm.state())
    assert torch.equal(again.free_energy(data_for(kind)), rbm.free_energy(data_for(kind)))


def test_binary_biases_start_at_the_logit_of_the_data() -> None:
    rbm = new_rbm(3, torch.tensor([0.5, 0.9, 0.0]), visible="bernoulli", draws=Draws(0))
    torch.testing.assert_close(torch.sigmoid(rbm.visible_bias), torch.tensor([0.5, 0.9, 0.01]))


def test_wrong_shapes_and_units_are_named() -> None:
    with pytest.raises(BadInput, match="biases"):
        RBM(torch.zeros(3, 4), torch.zeros(3), torch.zeros(3), Bernoulli())
    with pytest.raises(BadInput, match="sigma must be positive"):
        new_rbm(3, torch.zeros(4), sigma=0.0, draws=Draws(0))
    with pytest.raises(BadInput, match="use AIS"):
        log_partition(new_rbm(40, torch.zeros(50), visible="bernoulli", draws=Draws(0)))


def test_a_tiled_rbm_sees_through_each_copy_what_the_patch_rbm_sees() -> None:
    """Figure 2.7: block k's hidden inputs on a picture equal the patch model's on the patch at place k, and no pixel else."""
    patch = new_rbm(5, torch.zeros(3 * 4 * 4), sigma=0.5, weight_std=1.0, hidden_bias=-1.0, draws=Draws(0))
    tiled = tile_rbm(patch, (3, 4, 4), (10, 9), stride=3)
    pictures = Draws(1).normal("p", (2, 3, 10, 9))
    tops, lefts = [0, 3, 6], [0, 3, 5]
    inputs = tiled.hidden_input(pictures.flatten(1)).view(2, 9, 5)
    for number, (top, left) in enumerate(itertools.product(tops, lefts)):
        window = pictures[:, :, top : top + 4, left : left + 4].flatten(1)
        torch.testing.assert_close(inputs[:, number], patch.hidden_input(window), rtol=1e-4, atol=1e-4)
    assert int((tiled.weights != 0).sum()) == 9 * 5 * 48


def test_the_gradient_by_log_sigma_is_that_of_the_exact_likelihood() -> None:
    """Central differences in float64; the model's share is 1 - (b / sigma) E[W'h], for given h v is Gaussian in closed form."""
    draws = Draws(5, purpose="sigma")
    weights, bias, hidden = (
        draws.normal("w", (5, 4)).double(),
        draws.normal("b", (4,)).double(),
        draws.normal("c", (5,)).double(),
    )
    log_sigma, v = 0.3 * draws.normal("s", (4,)).double(), draws.normal("v", (30, 4)).double()

    def model(log_sigma: torch.Tensor) -> RBM:
        return RBM(weights, bias, hidden, Gaussian(log_sigma.exp()))

    rbm = model(log_sigma)
    h = all_states(5)
    share = torch.softmax(log_weight_of_hidden(rbm, h), dim=0)
    expected = 1 - (bias / log_sigma.exp()) * (share @ (h @ weights))
    gradient = sigma_statistics(rbm, v, rbm.hidden_mean(v)) - expected
    for pixel in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[pixel] = 1e-5
        up, down = (log_likelihood(model(log_sigma + sign * step), v).mean() for sign in (1, -1))
        assert float((up - down) / 2e-5) == pytest.approx(float(gradient[pixel]), abs=1e-7)
