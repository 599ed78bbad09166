"""Mean log-likelihood of rows: exact for small models, by annealing for others, and the two agree where both can be had."""

import torch

from striate.draws import Draws
from striate.measure.likelihood import log_likelihood
from striate.models.rbm import RBM, Bernoulli, Gaussian
from striate.models.rbm.ais import is_enumerable, sigmoid_schedule
from striate.models.rbm.exact import log_partition


def _rbm(hidden: int, gaussian: bool) -> RBM:
    draws = Draws(1, purpose="likelihood")
    units = Gaussian(torch.full((9,), 0.8)) if gaussian else Bernoulli()
    return RBM(0.4 * draws.normal("w", (hidden, 9)), draws.normal("b", (9,)), draws.normal("c", (hidden,)) - 1, units)


def _rows(rbm: RBM) -> torch.Tensor:
    h = (Draws(2).uniform("h", (500, rbm.num_hidden)) < 0.3).float()
    return rbm.sample_visible(h, Draws(2))


def test_a_small_model_is_enumerated() -> None:
    rbm = _rbm(6, gaussian=False)
    rows = _rows(rbm)
    found = log_likelihood(rbm, rows, rows)
    expected = float((-rbm.free_energy(rows).double()).mean() - log_partition(rbm.to(dtype=torch.float64)))
    assert abs(found.value - expected) < 1e-4 and found.conservative == found.value and "enumeration" in found.protocol
    assert found.low < found.value < found.high


def test_a_model_just_too_large_is_annealed_to_what_enumeration_gives() -> None:
    """21 Gaussian-visible hidden units: 2 million states can still be summed; both directions within four errors of them."""
    rbm = _rbm(21, gaussian=True)
    assert not is_enumerable(rbm)
    rows = _rows(rbm)
    found = log_likelihood(rbm, rows, rows, runs=200, betas=sigmoid_schedule(1000), burn_in=200)
    exact = float(-rbm.free_energy(rows).double().mean()) - float(log_partition(rbm))
    assert found.log_z_error < 0.1
    assert abs(found.value - exact) < 4 * found.log_z_error + 2e-3
    assert abs(found.conservative - exact) < 6 * found.log_z_error + 2e-3
    assert 20 < found.effective <= 200
