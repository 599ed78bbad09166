"""The fast CD step against the readable one: same draws, same statistics, same update."""

from __future__ import annotations

import pytest
import torch

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import RBM, correlate, new_rbm
from striate.models.rbm.contrastive import sigma_statistics
from striate.models.rbm.units import Gaussian, bernoulli
from striate.train import CDSettings, ContrastiveLearner, Rates
from striate.train.contrastive import constant
from striate.train.updates import WeightUpdate


def _rbm(kind: str, hidden: int = 24, visible: int = 18) -> RBM:
    mean = Draws(4).uniform("m", (visible,)) if kind == "bernoulli" else Draws(4).normal("m", (visible,))
    sigma = 0.5 + Draws(4).uniform("s", (visible,))
    return new_rbm(hidden, mean, visible=kind, sigma=sigma, weight_std=0.3, hidden_bias=-0.5, draws=Draws(9))


def _data(kind: str, rows: int = 20, visible: int = 18) -> torch.Tensor:
    return Draws(8).uniform("v", (rows, visible)) if kind == "bernoulli" else Draws(8).normal("v", (rows, visible))


def reference_step(rbm: RBM, v0: torch.Tensor, settings: CDSettings, draws: Draws, chains: torch.Tensor | None):
    """CD-k and PCD-k in float64, written out; the names of the draws are the trainer's."""
    rbm64 = rbm.to(dtype=torch.float64)
    v0 = v0.double()
    h0_mean = rbm64.hidden_mean(v0)
    h0 = bernoulli(h0_mean, draws, "h0")
    h = h0 if chains is None else chains.double()
    for k in range(1, settings.k + 1):
        mean = rbm64.visible_mean(h)
        v = rbm64.units.sample(mean, draws, f"v{k}") if settings.sample_visible else mean
        h_mean = rbm64.hidden_mean(v)
        h = bernoulli(h_mean, draws, f"h{k}")
    last = h if settings.final_states else h_mean
    return correlate(rbm64, v0, h0 if settings.data_states else h0_mean) - correlate(rbm64, v, last), h


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
@pytest.mark.parametrize(
    "settings",
    [
        CDSettings(),
        CDSettings(k=3),
        CDSettings(sample_visible=False),
        CDSettings(final_states=True),
        CDSettings(data_states=True),
        CDSettings(data_states=True, final_states=True, chains=20),
        CDSettings(chains=20),
        CDSettings(chains=7, k=2),
        CDSettings(chains=33),
    ],
    ids=["cd1", "cd3", "mean-field", "states", "data-states", "all-states", "pcd", "few-chains", "many-chains"],
)
def test_one_step_moves_the_parameters_by_the_reference_statistics(kind: str, settings: CDSettings) -> None:
    """From rest with rate 1, the change is the statistics: float32 products of at most 53 terms, 1e-4 apart at most."""
    rbm, v0 = _rbm(kind), _data(kind)
    learner = ContrastiveLearner(rbm, settings, constant(1.0), seed=3)
    chains = None
    if settings.chains is not None:
        chains = (Draws(3, purpose="sampling/").uniform("chains", (settings.chains, rbm.num_hidden)) < 0.5).float()
    expected, states = reference_step(rbm, v0, settings, Draws(3, purpose="sampling/"), chains)
    learner.step(v0)
    for name in ("weights", "visible_bias", "hidden_bias"):
        change = getattr(learner.rbm, name).double() - getattr(rbm, name).double()
        if name == "visible_bias" and isinstance(rbm.units, Gaussian):
            # Biases learn in units of sigma: the step is the paper's times sigma squared.
            change /= rbm.units.sigma.double().square()
        torch.testing.assert_close(change, getattr(expected, name), rtol=1e-4, atol=2e-5)
    if settings.chains is not None:
        assert torch.equal(learner.state()["chains"].double(), states)


def test_reconstruction_error_is_of_the_mean_reconstruction_in_data_units() -> None:
    rbm, v0 = _rbm("gaussian"), _data("gaussian")
    h0 = bernoulli(rbm.hidden_mean(v0), Draws(3, purpose="sampling/"), "h0")
    expected = (v0 - rbm.visible_mean(h0)).square().mean()
    got = ContrastiveLearner(rbm, CDSettings(), constant(0.0), seed=3).step(v0)["reconstruction_error"]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_momentum_and_decay_follow_the_stated_rule() -> None:
    """velocity <- m velocity + rate (statistics - decay weights), by a float64 loop over three steps, in blocks and whole."""
    weights = Draws(0).normal("w", (300, 40))
    expected, velocity = weights.double(), torch.zeros(300, 40, dtype=torch.float64)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 4e-2)):
        update = WeightUpdate(weights.clone(), dtype)
        update._rows = 64
        if dtype != torch.float32:
            update._product, update._statistics = update._product[:64], update._statistics[:64]
        expected, velocity = weights.double(), torch.zeros_like(velocity)
        for step in range(3):
            h, v = Draws(1, step).normal("h", (10, 300)), Draws(1, step).normal("v", (10, 40))
            update.apply(h.to(dtype), v.to(dtype), 0.1, Rates(0.05, 0.8), 0.3)
            velocity = 0.8 * velocity + 0.05 * (0.1 * h.double().t() @ v.double() - 0.3 * expected)
            expected = expected + velocity
        torch.testing.assert_close(update.weights.double(), expected, rtol=tolerance, atol=tolerance * 0.1)
        assert torch.equal(update.operand, update.weights.to(dtype))


def test_sparsity_pulls_activities_to_the_target() -> None:
    """Only the hidden biases feel it: from 0.38 mean activity to within 0.03 of 0.1 in 400 steps on independent noise."""
    rbm, data = _rbm("gaussian"), Draws(1).normal("d", (512, 18))
    settings = CDSettings(sparsity_target=0.1, sparsity_cost=10.0)
    learner = ContrastiveLearner(rbm, settings, constant(0.02))
    first = float(learner.step(data)["hidden_activity"])
    for _ in range(400):
        last = float(learner.step(data)["hidden_activity"])
    assert first > 0.25
    assert abs(last - 0.1) < 0.03


def test_bf16_follows_fp32() -> None:
    """The same draws: after 50 steps the curves differ by less than 2%, and bf16 really was used."""
    errors = {}
    for dtype in (torch.float32, torch.bfloat16):
        learner = ContrastiveLearner(_rbm("gaussian", 64, 48), CDSettings(), constant(0.01, 0.5), dtype=dtype)
        data = _data("gaussian", 256, 48)
        for _ in range(50):
            errors[dtype] = float(learner.step(data)["reconstruction_error"])
    assert errors[torch.float32] != errors[torch.bfloat16]
    assert errors[torch.bfloat16] == pytest.approx(errors[torch.float32], rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chains", [None, 9])
def test_a_restored_learner_goes_on_to_the_last_bit(dtype: torch.dtype, chains: int | None) -> None:
    def learner() -> ContrastiveLearner:
        settings = CDSettings(chains=chains, sparsity_target=0.2, sparsity_cost=1.0, weight_decay=1e-3)
        return ContrastiveLearner(_rbm("gaussian"), settings, constant(0.05, 0.9), seed=1, dtype=dtype)

    whole, half = learner(), learner()
    batches = [_data("gaussian", 20) + i for i in range(6)]
    for batch in batches:
        whole.step(batch)
    for batch in batches[:3]:
        half.step(batch)
    kept = {name: tensor.clone() for name, tensor in half.state().items()}
    resumed = learner()
    resumed.load_state(kept)
    for batch in batches[3:]:
        resumed.step(batch)
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name


def test_the_callers_model_is_left_alone_and_misfits_are_named() -> None:
    rbm = _rbm("gaussian")
    before = rbm.weights.clone()
    learner = ContrastiveLearner(rbm, CDSettings(), constant(0.1))
    learner.step(_data("gaussian"))
    assert torch.equal(rbm.weights, before)
    with pytest.raises(BadInput, match="18 visible"):
        learner.step(torch.zeros(4, 17))
    with pytest.raises(BadInput, match="has shape"):
        learner.load_state(ContrastiveLearner(_rbm("gaussian", 10), CDSettings(), constant(0.1)).state())
    with pytest.raises(BadInput, match="k >= 1"):
        CDSettings(k=0)
    assert isinstance(rbm.units, Gaussian)


@pytest.mark.parametrize(
    "settings", [CDSettings(sigma_rate=0.01), CDSettings(sigma_rate=0.01, chains=7, k=2)], ids=["cd", "pcd"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_learned_deviations_move_by_the_reference_statistics(settings: CDSettings, dtype: torch.dtype) -> None:
    """The change of log sigma from rest, against the readable statistics of the same draws in float64; bf16 to its 8 bits."""
    rbm, v0 = _rbm("gaussian"), _data("gaussian")
    learner = ContrastiveLearner(rbm, settings, constant(1.0), seed=3, dtype=dtype)
    rbm64, draws = rbm.to(dtype=torch.float64), Draws(3, purpose="sampling/")
    h0_mean = rbm64.hidden_mean(v0.double())
    h = bernoulli(h0_mean, draws, "h0")
    if settings.chains is not None:
        h = (draws.uniform("chains", (settings.chains, rbm.num_hidden)) < 0.5).double()
    for k in range(1, settings.k + 1):
        v = rbm64.units.sample(rbm64.visible_mean(h), draws, f"v{k}")
        h_mean = rbm64.hidden_mean(v)
        h = bernoulli(h_mean, draws, f"h{k}")
    expected = sigma_statistics(rbm64, v0.double(), h0_mean) - sigma_statistics(rbm64, v, h_mean)
    learner.step(v0)
    assert isinstance(learner.rbm.units, Gaussian) and isinstance(rbm.units, Gaussian)
    change = (learner.rbm.units.sigma.double() / rbm.units.sigma.double()).log() / 0.01
    if dtype == torch.float32:
        torch.testing.assert_close(change, expected, rtol=1e-3, atol=2e-4)
    else:
        # Draws near their probabilities flip in bf16; the bulk of it must agree.
        assert torch.corrcoef(torch.stack([change, expected]))[0, 1] > 0.98


def test_deviations_learned_by_exact_gradients_find_the_datas() -> None:
    """Independent Gaussian pixels, weights held at nearly zero: sigma goes to each pixel's own deviation (3% at 500 steps)."""
    true = torch.tensor([0.5, 1.0, 2.0])
    rbm = new_rbm(1, torch.zeros(3), sigma=1.0, weight_std=1e-4, hidden_bias=-20, draws=Draws(0))
    learner = ContrastiveLearner(rbm, CDSettings(sigma_rate=1.0), constant(0.02), seed=0)
    for step in range(800):
        learner.step(true * Draws(1).at(step).normal("v", (500, 3)))
    assert isinstance(learner.rbm.units, Gaussian)
    assert (learner.rbm.units.sigma / true - 1).abs().max() < 0.06


def test_a_learner_with_deviations_goes_on_to_the_last_bit() -> None:
    rbm, v0 = _rbm("gaussian"), _data("gaussian")
    whole = ContrastiveLearner(rbm, CDSettings(sigma_rate=0.1), constant(0.01, 0.9), seed=3)
    for _ in range(5):
        whole.step(v0)
    state = {name: tensor.clone() for name, tensor in whole.state().items()}
    restarted = ContrastiveLearner(whole.rbm, CDSettings(sigma_rate=0.1), constant(0.01, 0.9), seed=3)
    restarted.load_state(state)
    for _ in range(5):
        whole.step(v0)
        restarted.step(v0)
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, restarted.state()[name]), name


def test_sigma_stays_in_its_range_whatever_the_rate() -> None:
    """A rate a thousand times too high ends at the bounds, a twentieth of and four times the start; nothing turns negative."""
    rbm = new_rbm(4, torch.zeros(6), sigma=2.0, weight_std=0.1, draws=Draws(0))
    learner = ContrastiveLearner(rbm, CDSettings(sigma_rate=100.0), constant(0.1), seed=0)
    for step in range(20):
        learner.step(Draws(1).at(step).normal("v", (20, 6)))
    assert isinstance(learner.rbm.units, Gaussian)
    assert float(learner.rbm.units.sigma.min()) >= 0.1 * (1 - 1e-5) and float(learner.rbm.units.sigma.max()) <= 8 * (1 + 1e-5)
    assert learner.diagnose()["sigma_min"] > 0


def test_only_gaussian_units_learn_a_sigma() -> None:
    with pytest.raises(BadInput, match="only gaussian"):
        ContrastiveLearner(_rbm("bernoulli"), CDSettings(sigma_rate=0.1), constant(0.1))
