"""RBMs trained side by side are the same RBMs trained each by itself."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import RBM, ManyRBMs, contrastive_gradient, new_rbm
from striate.models.rbm.units import Gaussian
from striate.train import CDSettings, Rates
from striate.train.batched import BatchedContrastiveLearner
from striate.train.contrastive import constant

_MODELS, _VISIBLE, _HIDDEN, _ROWS = 5, 14, 9, 20


class _RowOf(Draws):
    """One model's share of draws that are made for all."""

    def __init__(self, draws: Draws, model: int) -> None:
        super().__init__(draws.seed, draws.step, draws.purpose)
        self._model = model

    def uniform(
        self, name: str, shape: Sequence[int], device: torch.device | str = "cpu", *, out: Tensor | None = None
    ) -> Tensor:
        return super().uniform(name, (_MODELS, *shape))[self._model]

    def normal(
        self, name: str, shape: Sequence[int], device: torch.device | str = "cpu", *, out: Tensor | None = None
    ) -> Tensor:
        whole = Draws(self.seed, self.step, self.purpose)
        return whole.normal(name, (_MODELS, *shape))[self._model]


def _rbms(kind: str) -> list[RBM]:
    rbms = []
    for number in range(_MODELS):
        draws = Draws(number, purpose="side")
        mean = draws.uniform("mean", (_VISIBLE,))
        sigma = 0.5 + draws.uniform("sigma", (_VISIBLE,))
        rbms.append(new_rbm(_HIDDEN, mean, visible=kind, sigma=sigma, weight_std=0.4, hidden_bias=-0.5, draws=draws))
    return rbms


def _data(step: int = 0) -> Tensor:
    return Draws(7).at(step).uniform("v", (_MODELS, _ROWS, _VISIBLE))


@pytest.mark.parametrize("kind", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("k", [1, 3])
def test_one_step_is_each_models_own(kind: str, k: int) -> None:
    """From rest at rate 1 the change is the readable CD-k statistics in float64, of each model with its row of the draws."""
    rbms, batch = _rbms(kind), _data()
    learner = BatchedContrastiveLearner(ManyRBMs.of(rbms), CDSettings(k=k), constant(1.0), seed=3)
    learner.step(batch)
    for number, rbm in enumerate(rbms):
        draws = _RowOf(Draws(3, purpose="sampling/"), number)
        expected = contrastive_gradient(rbm.to(dtype=torch.float64), batch[number].double(), draws, k)
        trained = learner.many[number]
        visible = trained.visible_bias.double() - rbm.visible_bias.double()
        if isinstance(rbm.units, Gaussian):
            visible /= rbm.units.sigma.double().square()
        torch.testing.assert_close(trained.weights.double() - rbm.weights.double(), expected.weights, rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(
            trained.hidden_bias.double() - rbm.hidden_bias.double(), expected.hidden_bias, rtol=1e-4, atol=2e-5
        )
        torch.testing.assert_close(visible, expected.visible_bias, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("states", [False, True])
def test_momentum_decay_and_sparsity_are_those_of_a_model_alone(states: bool) -> None:
    """With one model the draws are those of `ContrastiveLearner`: ten steps side by side end where ten steps alone do."""
    from striate.train import ContrastiveLearner

    rbm = _rbms("bernoulli")[0]
    bits = {"data_states": states, "final_states": states}
    settings = CDSettings(weight_decay=0.01, sparsity_target=0.1, sparsity_cost=2.0, **bits)
    side = BatchedContrastiveLearner(ManyRBMs.of([rbm]), settings, lambda step: Rates(0.05, 0.9), seed=3)
    alone = ContrastiveLearner(rbm, settings, lambda step: Rates(0.05, 0.9), seed=3)
    for step in range(10):
        batch = _data(step)[:1]
        ours, theirs = side.step(batch), alone.step(batch[0])
        assert float(ours["reconstruction_error"]) == pytest.approx(float(theirs["reconstruction_error"]), rel=1e-4)
    torch.testing.assert_close(side.many.weights[0], alone.rbm.weights, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(side.many.hidden_bias[0], alone.rbm.hidden_bias, rtol=1e-3, atol=1e-4)


def test_bf16_learns_as_fp32_does() -> None:
    errors = {}
    for dtype in (torch.float32, torch.bfloat16):
        learner = BatchedContrastiveLearner(
            ManyRBMs.of(_rbms("gaussian")), CDSettings(), lambda step: Rates(0.02, 0.9), dtype=dtype
        )
        errors[dtype] = [float(learner.step(_data(step % 10))["reconstruction_error"]) for step in range(200)]
    first, last = errors[torch.float32][0], sum(errors[torch.float32][-20:]) / 20
    assert last < 0.5 * first
    assert sum(errors[torch.bfloat16][-20:]) / 20 == pytest.approx(last, rel=0.1)


def test_a_restart_goes_on_to_the_last_bit_and_other_sizes_are_refused() -> None:
    def learner(rbms: list[RBM]) -> BatchedContrastiveLearner:
        return BatchedContrastiveLearner(
            ManyRBMs.of(rbms), CDSettings(sparsity_target=0.1), lambda step: Rates(0.05, 0.9), seed=3
        )

    whole, restarted = learner(_rbms("gaussian")), learner(_rbms("gaussian"))
    for step in range(3):
        whole.step(_data(step))
    restarted.load_state({name: tensor.clone() for name, tensor in whole.state().items()})
    for step in range(3, 6):
        whole.step(_data(step))
        restarted.step(_data(step))
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, restarted.state()[name]), name
    with pytest.raises(BadInput, match="these models need"):
        learner(_rbms("gaussian")[:-1]).load_state(whole.state())
    with pytest.raises(BadInput, match="does not fit 5 RBMs"):
        whole.step(_data()[:4])
    with pytest.raises(BadInput, match="fixed sigma"):
        BatchedContrastiveLearner(ManyRBMs.of(_rbms("gaussian")), CDSettings(sigma_rate=0.1), constant(0.1))
