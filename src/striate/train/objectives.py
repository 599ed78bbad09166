"""What a net's output is judged by, and what flows back from it. Each takes the output to its delta, in place.

Softmax with cross-entropy, sigmoid with cross-entropy, linear units with half the squared error: in each the derivative of a
row's loss by the output layer's total input is output minus target.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Objective = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""(total inputs of the output layer, target) -> metrics; the first then holds output - target."""


def softmax_cross_entropy(output: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Classes: logits (batch, classes) and labels int64 (batch,). Metrics: mean `loss` in nats, share of `error`."""
    error = (output.argmax(dim=1) != labels).float().mean()
    loss = F.cross_entropy(output, labels)
    torch.softmax(output, dim=1, out=output)
    output[torch.arange(len(labels), device=labels.device), labels] -= 1
    return {"loss": loss, "error": error}


def squared_error(output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Linear output units: loss is half the squared error of a row; `reconstruction_error` is the squared error a unit."""
    output.sub_(target)
    return {"reconstruction_error": output.square().mean()}


def binary_cross_entropy(output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Sigmoid output units and targets in [0, 1]: loss in nats a row; `reconstruction_error` is the squared error a unit."""
    loss = F.binary_cross_entropy_with_logits(output, target, reduction="sum") / len(target)
    output.sigmoid_().sub_(target)
    return {"reconstruction_error": output.square().mean(), "loss": loss}
