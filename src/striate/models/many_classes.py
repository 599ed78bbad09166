"""Losses over many classes, a block of classes at a time: neither scores nor gradients of all of them are ever held at once.

Two objectives: one softmax over all classes, or one logistic regression a class against all others (Le et al. 2012, section 5).
Scores (batch, classes) and the gradient of weights (classes, inputs) would each be as large as the weights' own memory or more.
Here a block's scores are made, turned into derivatives in place, used, and forgotten; for the softmax they are made twice,
since its normaliser needs all of them first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Learn = Callable[[slice, Tensor], None]
"""(classes, derivative of the loss by their scores (batch, classes of the block)), good until it returns."""

# Numbers of a block's scores, or of its weights' gradient: 3 MB, which stay in cache; a GPU wants few and large products.
_BLOCK, _BLOCK_ON_GPU = 3 << 18, 1 << 26
_LEAST = 16


class Told(NamedTuple):
    """What a batch says of a classifier.

    Attributes:
        loss: mean over the batch, in nats; of one-against-all the sum over classes.
        error: share of the batch whose class has not the highest score.
        slope: derivative of the loss by the inputs, (batch, inputs).
    """

    loss: Tensor
    error: Tensor
    slope: Tensor


class Objective(Protocol):
    """A loss of scores W x + b, and what it wants of x and of W."""

    def __call__(
        self, inputs: Tensor, labels: Tensor, weights: Tensor, bias: Tensor, learn: Learn, block: int | None = None
    ) -> Told:
        """The loss and its derivatives.

        Args:
            inputs: (batch, inputs).
            labels: int64 (batch,).
            weights: (classes, inputs).
            bias: (classes,).
            learn: told of each block once, when its weights are no longer needed: it may change them.
            block: classes at a time; by default as many as stay in cache.
        """
        ...


def softmax(inputs: Tensor, labels: Tensor, weights: Tensor, bias: Tensor, learn: Learn, block: int | None = None) -> Told:
    """-log softmax: a pass over all classes for its normaliser, another for derivatives. See `Objective`."""
    count = len(labels)
    most, total = inputs.new_full((count,), -torch.inf), inputs.new_zeros(count)
    named = labels.new_zeros(count)
    for classes, scores in _scores(inputs, weights, bias, block):
        best, at = scores.max(dim=1)
        named = torch.where(best > most, at + classes.start, named)
        raised = torch.maximum(most, best)
        # Sums so far are of exponentials less the largest so far.
        total.mul_(torch.exp(most - raised)).add_(scores.sub_(raised[:, None]).exp_().sum(dim=1))
        most = raised
    normaliser, slope, loss = most + total.log(), torch.zeros_like(inputs), inputs.new_zeros(())
    for classes, scores in _scores(inputs, weights, bias, block):
        rows, own = _own(labels, classes)
        loss += (normaliser[rows] - scores[rows, own]).sum()
        derivative = scores.sub_(normaliser[:, None]).exp_()
        derivative[rows, own] -= 1
        slope.addmm_(derivative.div_(count), weights[classes])
        learn(classes, derivative)
    return Told(loss / count, (named != labels).float().mean(), slope)


def one_against_all(
    inputs: Tensor, labels: Tensor, weights: Tensor, bias: Tensor, learn: Learn, block: int | None = None
) -> Told:
    """The sum over classes of -log p(this one, or not), each class a logistic regression of its own. See `Objective`."""
    count = len(labels)
    most, named = inputs.new_full((count,), -torch.inf), labels.new_zeros(count)
    slope, loss = torch.zeros_like(inputs), inputs.new_zeros(())
    for classes, scores in _scores(inputs, weights, bias, block):
        best, at = scores.max(dim=1)
        named = torch.where(best > most, at + classes.start, named)
        most = torch.maximum(most, best)
        rows, own = _own(labels, classes)
        # The right class with its sign turned: the probability of being wrong is then each score's sigmoid, to its last digit.
        scores[rows, own] *= -1
        loss -= F.logsigmoid(-scores).sum()
        derivative = scores.sigmoid_()
        derivative[rows, own] *= -1
        slope.addmm_(derivative.div_(count), weights[classes])
        learn(classes, derivative)
    return Told(loss / count, (named != labels).float().mean(), slope)


OBJECTIVES: dict[str, Objective] = {"softmax": softmax, "one-against-all": one_against_all}


def block_of(inputs: Tensor) -> int:
    """Classes whose scores for a batch (batch, inputs), and whose weights' gradient, make a block."""
    numbers = _BLOCK if inputs.device.type == "cpu" else _BLOCK_ON_GPU
    return max(_LEAST, numbers // max(inputs.shape))


def _scores(inputs: Tensor, weights: Tensor, bias: Tensor, block: int | None) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of classes and their scores (batch, classes of the block), in one buffer that may be written to."""
    size = min(len(weights), block or block_of(inputs))
    buffer = inputs.new_empty(size * len(inputs))
    for start in range(0, len(weights), size):
        classes = slice(start, min(start + size, len(weights)))
        scores = buffer[: (classes.stop - start) * len(inputs)].view(len(inputs), -1)
        torch.addmm(bias[classes], inputs, weights[classes].t(), out=scores)
        yield classes, scores


def _own(labels: Tensor, classes: slice) -> tuple[Tensor, Tensor]:
    """Of a batch those whose class is in a block, and where in it."""
    rows = ((labels >= classes.start) & (labels < classes.stop)).nonzero()[:, 0]
    return rows, labels[rows] - classes.start
