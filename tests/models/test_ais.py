"""Annealed importance sampling against enumeration."""

import math

import pytest
import torch

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import RBM, Bernoulli, Gaussian
from striate.models.rbm.ais import Annealed, estimate_log_z, salakhutdinov_murray, sigmoid_schedule
from striate.models.rbm.exact import all_states, log_partition


def _model(kind: str, visible: int, hidden: int, scale: float, seed: int) -> RBM:
    draws = Draws(seed, purpose="ais-model")
    weights, bias, offset = draws.normal("w", (hidden, visible)), draws.normal("b", (visible,)), draws.normal("c", (hidden,))
    units = Gaussian(0.5 + draws.uniform("s", (visible,))) if kind == "gaussian" else Bernoulli()
    # Gaussian means add up over hidden units: smaller weights, as trained models have.
    size = scale if kind == "bernoulli" else 0.5 * scale
    return RBM(size * weights, bias, offset - (1.0 if kind == "gaussian" else 0.0), units)


def _data(rbm: RBM, seed: int = 0) -> torch.Tensor:
    """Exact samples, by drawing hidden states with their marginal probability."""
    from striate.models.rbm.exact import log_weight_of_hidden

    h = all_states(rbm.num_hidden, torch.float32)
    probability = torch.softmax(log_weight_of_hidden(rbm, h).double(), 0)
    edges = probability.cumsum(0)
    chosen = h[torch.searchsorted(edges, Draws(seed).uniform("h", (500,)).double()).clamp_max(len(h) - 1)]
    return rbm.sample_visible(chosen, Draws(seed), "v")


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
@pytest.mark.parametrize(("visible", "hidden", "scale"), [(20, 10, 0.3), (20, 10, 1.0), (12, 8, 0.6)])
def test_estimates_are_within_three_errors_of_enumeration_and_errors_below_a_tenth_of_a_nat(
    kind: str, visible: int, hidden: int, scale: float
) -> None:
    """400 chains, 2,000 models; forward from the base, reverse from exact samples."""
    rbm = _model(kind, visible, hidden, scale, seed=3)
    exact = float(log_partition(rbm.to(dtype=torch.float64)))
    data = _data(rbm)
    for samples in (None, _data(rbm, seed=1)[:400]):
        found = estimate_log_z(rbm, data, sigmoid_schedule(2000), Draws(5), runs=400, samples=samples)
        assert found.error < 0.1
        assert abs(found.value - exact) < 3 * found.error + 1e-3
        assert found.effective > 40


def test_forward_and_reverse_bracket_log_z_when_the_schedule_is_short() -> None:
    """With one model between, single chains are far off: on average forward ones err low, reverse ones high (Jensen)."""
    rbm, count = _model("bernoulli", 16, 10, 4.0, seed=1), 400
    exact, data, betas = float(log_partition(rbm.to(dtype=torch.float64))), _data(rbm), sigmoid_schedule(2)
    own = _data(rbm, 1)[:count]
    forward = [estimate_log_z(rbm, data, betas, Draws(seed), runs=1).value for seed in range(count)]
    reverse = [estimate_log_z(rbm, data, betas, Draws(seed), samples=own[seed : seed + 1]).value for seed in range(count)]
    for values, side in ((forward, -1), (reverse, 1)):
        gap = torch.tensor(values, dtype=torch.float64) - exact
        assert side * float(gap.mean()) > 3 * float(gap.std()) / math.sqrt(count)


def test_two_far_modes_are_both_found() -> None:
    """A 4x4 model with half of its mass on all-on and half on all-off; a base of the model's own visible biases loses one.

    That wrong variant is made by data that lies about the means: it must be off by more than the errors it claims.
    """
    weights = torch.full((4, 4), 6.0)
    rbm = RBM(weights, torch.full((4,), -12.0), torch.full((4,), -12.0), Bernoulli())
    exact = float(log_partition(rbm.to(dtype=torch.float64)))
    data = torch.cat([torch.zeros(50, 4), torch.ones(50, 4)])
    good = estimate_log_z(rbm, data, sigmoid_schedule(3000), Draws(0), runs=500)
    assert abs(good.value - exact) < 4 * good.error + 0.02
    bad = estimate_log_z(rbm, torch.zeros(50, 4), sigmoid_schedule(30), Draws(0), runs=50)
    assert bad.value < exact - 0.3


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
def test_the_base_is_known_exactly_and_its_chains_start_there(kind: str) -> None:
    """At beta 0 the weights of an RBM equal to its base are all one: log Z is the base's."""
    data = _data(_model(kind, 6, 3, 0.5, seed=0))
    mean = data.mean(dim=0)
    if kind == "gaussian":
        rbm = RBM(torch.zeros(3, 6), mean, torch.zeros(3), Gaussian(data.std(dim=0)))
    else:
        rbm = RBM(torch.zeros(3, 6), torch.logit(mean.clamp(0.01, 0.99)), torch.zeros(3), Bernoulli())
    found = estimate_log_z(rbm, data, sigmoid_schedule(10), Draws(0), runs=20)
    assert found.value == pytest.approx(float(log_partition(rbm.to(dtype=torch.float64))), abs=1e-4)
    assert Annealed.fitted(rbm, data).base_log_z() == pytest.approx(found.value, abs=1e-4)


def test_the_published_schedule_has_its_14500_steps() -> None:
    betas = salakhutdinov_murray()
    assert len(betas) == 14_501 and float(betas[0]) == 0 and float(betas[-1]) == 1 and bool((betas.diff() > 0).all())
    assert float(betas[500]) == 0.5 and float(betas[4500]) == pytest.approx(0.9)


def test_too_much_work_and_bad_schedules_are_refused() -> None:
    rbm, data = _model("bernoulli", 6, 3, 0.5, seed=0), torch.rand(10, 6, generator=torch.Generator().manual_seed(0))
    with pytest.raises(BadInput, match="use fewer chains or steps"):
        estimate_log_z(rbm, data, sigmoid_schedule(1000), Draws(0), max_products=1e5)
    with pytest.raises(BadInput, match="rise from 0 to 1"):
        estimate_log_z(rbm, data, torch.tensor([0.0, 0.5]), Draws(0))
    with pytest.raises(BadInput, match="at least one step"):
        sigmoid_schedule(0)
