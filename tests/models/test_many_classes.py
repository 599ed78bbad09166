"""Losses over many classes: torch's own and their derivatives, whatever the blocks, within little memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import recognising
from striate.draws import Draws
from striate.models.many_classes import OBJECTIVES, Told
from striate.models.top import Kind
from training import clean_server

KINDS: list[Kind] = ["softmax", "one-against-all"]
BATCH, INPUTS, CLASSES = 9, 5, 23


def problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, labels (some classes more than once, most never), weights and bias, in float64."""
    draws = Draws(3)
    labels = (draws.uniform("labels", (BATCH,)) * CLASSES).long()
    labels[1] = labels[0]
    shapes = {"inputs": (BATCH, INPUTS), "weights": (CLASSES, INPUTS), "bias": (CLASSES,)}
    inputs, weights, bias = (2 * draws.normal(name, shape).double() for name, shape in shapes.items())
    return inputs, labels, weights, bias


def told(kind: Kind, block: int | None, of: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Told, Tensor, Tensor]:
    """What is told, and derivatives by weights and bias."""
    inputs, labels, weights, bias = of
    by_weights, by_bias = torch.full_like(weights, torch.nan), torch.full_like(bias, torch.nan)

    def learn(classes: slice, derivative: Tensor) -> None:
        assert by_weights[classes].isnan().all(), "each class once"
        by_weights[classes], by_bias[classes] = derivative.t() @ inputs, derivative.sum(dim=0)

    return OBJECTIVES[kind](inputs, labels, weights, bias, learn, block), by_weights, by_bias


def by_torch(kind: Kind, scores: Tensor, labels: Tensor) -> Tensor:
    if kind == "softmax":
        return F.cross_entropy(scores, labels)
    targets = F.one_hot(labels, scores.shape[1]).to(scores.dtype)
    return F.binary_cross_entropy_with_logits(scores, targets, reduction="sum") / len(labels)


@pytest.mark.parametrize("block", [None, 1, 4, CLASSES, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_and_its_derivatives_are_torch_s_in_blocks_of_any_size(kind: Kind, block: int | None) -> None:
    of = problem()
    found, *by_parameters = told(kind, block, of)
    leaves = [tensor.clone().requires_grad_() for tensor in (of[0], *of[2:])]
    scores = F.linear(*leaves)
    loss = by_torch(kind, scores, of[1])
    # Sums of a few dozen numbers in float64.
    close = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(found.loss, loss.detach(), **close)
    assert float(found.error) == float((scores.argmax(dim=1) != of[1]).float().mean())
    for one, other in zip((found.slope, *by_parameters), torch.autograd.grad(loss, leaves)):
        torch.testing.assert_close(one, other, **close)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_finite_differences(kind: Kind) -> None:
    """Central, in float64: their own error is a third of the step squared, times a third derivative of order one."""
    of, step = problem(), 1e-4
    found, by_weights, by_bias = told(kind, 4, of)
    for tensor, slope in ((of[0], found.slope), (of[2], by_weights), (of[3], by_bias)):
        for at in range(0, tensor.numel(), 7):
            kept, sides = float(tensor.view(-1)[at]), []
            for way in (step, -step):
                tensor.view(-1)[at] = kept + way
                sides.append(float(told(kind, 4, of)[0].loss))
            tensor.view(-1)[at] = kept
            assert abs((sides[0] - sides[1]) / (2 * step) - float(slope.view(-1)[at])) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_s_weights_may_be_changed_once_it_is_told_of(kind: Kind) -> None:
    """What flows back has gone through the weights that the scores were made with."""
    inputs, labels, weights, bias = problem()
    before = told(kind, 4, (inputs, labels, weights, bias))[0]

    def learn(classes: slice, derivative: Tensor) -> None:
        weights[classes].zero_()

    after = OBJECTIVES[kind](inputs, labels, weights, bias, learn, 4)
    assert all(torch.equal(one, other) for one, other in zip(before, after))
    assert not weights.any()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_any_size_have_a_finite_loss(kind: Kind) -> None:
    """exp(1000) is infinite; where the right class is ahead by thousands nothing is to be learned."""
    inputs, labels = torch.eye(3), torch.tensor([0, 1, 2])
    for size in (-3e3, 3e3):
        scores = size * torch.eye(3)
        found = OBJECTIVES[kind](inputs, labels, scores, torch.zeros(3), lambda *_: None, 1)
        torch.testing.assert_close(found.loss, by_torch(kind, scores, labels))
        assert found.slope.isfinite().all()
    assert float(found.loss) < (1e-6 if kind == "softmax" else 1.4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_20_000_classes_holds_neither_their_scores_nor_their_gradient(kind: Kind, tmp_path: Path) -> None:
    """Each of the two is 41 MB; a whole step, stages and all, may have 28 MB more than weights and their sums of squares."""
    said = tmp_path / "said"
    process = clean_server().Process(target=recognising.with_little_memory, args=(20_000, kind, 28 << 20, said))
    process.start()
    process.join()
    assert process.exitcode == 0, said.read_text()
