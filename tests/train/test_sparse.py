"""Training sparse autoencoders: the rules by their formulas, what each way of training touches, exact resume."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.models.sparse.net import stage_terms
from striate.train.sparse import SparseLearner, SparseSettings
from striate.train.updates import Rates

RATE = 0.05


def rows(step: int, count: int = 16) -> Tensor:
    """Pictures with something to learn: a few blobs on noise."""
    draws = Draws(7, step)
    shapes = Draws(1).normal("shapes", (4, 144))
    return draws.normal("amounts", (count, 4)) @ shapes + 0.1 * draws.normal("noise", (count, 144))


def learner(seed: int = 0, dtype: torch.dtype = torch.float32, sharing: str = "untied", **settings: object) -> SparseLearner:
    first = StageSpec(4, 2, 3, pool=2, norm=3, norm_edges="keep", sharing=sharing)  # type: ignore[arg-type]
    spec = NetSpec((1, 12, 12), (first, StageSpec(3, maps=4, pool=1, norm=0)))
    net = SparseNet(spec).start(Draws(seed))
    return SparseLearner(net, SparseSettings(**settings), lambda step: Rates(RATE, 0.9), dtype=dtype)  # type: ignore[arg-type]


def trained(one: SparseLearner, steps: int) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in one.step(rows(step)).items()} for step in range(steps)]


@pytest.mark.parametrize("forget", [0.0, 0.2])
def test_the_first_steps_are_adagrad_s(forget: float) -> None:
    """weight -= rate * g / sqrt(sum of g^2), then the encoder's filters have norm one again; gradients by another way."""
    one = learner(together="apart", sparsity=(0.3,), forget=forget)
    stage = one.net.stages[0]
    sums = [torch.zeros_like(stage.encoder), torch.zeros_like(stage.decoder_or_encoder)]
    for step in range(2):
        held = [stage.encoder.clone(), stage.decoder_or_encoder.clone()]
        leaves = [tensor.clone().requires_grad_() for tensor in held]
        terms, _ = stage_terms(stage, one.net.maps(rows(step)), leaves[0], leaves[1], one.net.pool_floor)
        slopes = torch.autograd.grad(terms.reconstruction + 0.3 * terms.sparsity, leaves)
        one.step(rows(step))
        for number, (before, slope) in enumerate(zip(held, slopes)):
            sums[number] = (1 - forget) * sums[number] + slope.square()
            held[number] = before - RATE * slope / (sums[number].sqrt() + 1e-8)
        filters = held[0] / stage.rows(held[0]).norm(dim=1).view(*held[0].shape[:3], 1).clamp_min(1e-8)
        torch.testing.assert_close(stage.encoder, filters)
        torch.testing.assert_close(stage.decoder_or_encoder, held[1])


def test_momentum_s_first_steps() -> None:
    one = learner(rule="sgd", unit=False, together="apart")
    one.schedule = lambda step: Rates(1e-3, 0.5)
    stage = one.net.stages[0]
    before = stage.encoder.clone()
    leaf = before.clone().requires_grad_()
    terms, _ = stage_terms(stage, one.net.maps(rows(0)), leaf, stage.decoder_or_encoder, one.net.pool_floor)
    [slope] = torch.autograd.grad(terms.reconstruction + 0.1 * terms.sparsity, leaf)
    one.step(rows(0))
    torch.testing.assert_close(stage.encoder, before - 1e-3 * slope)


@pytest.mark.parametrize("together", ["joint", "apart", "greedy"])
@pytest.mark.parametrize("sharing", ["untied", "tied", "tiled"])
def test_training_lowers_the_objective_and_keeps_the_form(together: str, sharing: str) -> None:
    one = learner(together=together, sharing=sharing, total_steps=120)
    lines = trained(one, 120)
    for number in (1, 2):
        errors = [line[f"error{number}"] for line in lines if f"error{number}" in line]
        assert sum(errors[-5:]) < 0.7 * sum(errors[:5]), (number, errors[0], errors[-1])
    for stage in one.net.stages:
        norms = stage.filters().flatten(3).norm(dim=3)
        torch.testing.assert_close(norms, torch.ones_like(norms))
        if not stage.places.period:
            mask = stage.places.mask.bool()
            assert not bool(stage.encoder[:, :, ~mask].any()), "what products skip stays zero"


def test_greedy_training_touches_one_stage_at_a_time() -> None:
    one = learner(together="greedy", total_steps=10)
    start = one.net.state()
    lines = trained(one, 5)
    middle = one.net.state()
    assert all("error1" in line and "error2" not in line for line in lines)
    assert all(torch.equal(middle[name], start[name]) == name.startswith("stage2") for name in start)
    one.step(rows(5))
    end = one.net.state()
    assert all(torch.equal(middle[name], end[name]) == name.startswith("stage1") for name in start)


def test_joint_training_reaches_lower_stages_from_above() -> None:
    """From the same start, the first stage learns otherwise when the second one's objective counts for it too."""
    states = []
    for together in ("joint", "apart"):
        one = learner(together=together)
        one.step(rows(0))
        states.append(one.net.state())
    joint, apart = states
    assert not torch.equal(joint["stage1.encoder"], apart["stage1.encoder"])
    assert torch.equal(joint["stage2.decoder"], apart["stage2.decoder"])


@pytest.mark.parametrize("settings", [{}, {"rule": "sgd", "unit": False}, {"together": "greedy", "total_steps": 8}])
def test_a_resumed_run_is_the_same_to_the_bit(settings: dict[str, object]) -> None:
    whole = learner(**settings)
    one, other = learner(**settings), learner(seed=9, **settings)
    for each in (whole, one, other):
        each.schedule = lambda step: Rates(1e-3, 0.9)
    trained(whole, 8)
    for step in range(4):
        one.step(rows(step))
    other.load_state({name: tensor.clone() for name, tensor in one.state().items()})
    for step in range(4, 8):
        other.step(rows(step))
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, other.state()[name]), name
    with pytest.raises(BadInput, match="this network needs"):
        other.load_state({**one.state(), "stage1.encoder": torch.zeros(1)})


def test_bf16_products_learn_the_same_curve() -> None:
    """Operands of eight bits of mantissa: the objective after training within 3% of float32's."""
    ends = [trained(learner(dtype=dtype), 100)[-10:] for dtype in (torch.float32, torch.bfloat16)]
    plain, coarse = (sum(line["loss"] for line in lines) / 10 for lines in ends)
    assert coarse == pytest.approx(plain, rel=0.03)
