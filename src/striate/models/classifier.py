"""Logistic nets: sigmoid layers under a softmax, started at random or from RBMs and a logistic regression on their features.

Source: Krizhevsky 2009, section 3.2. Started from RBMs, a net's output before any training is the logistic regression's.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.encoder import RowMaker, RowsEncoder
from striate.models.rbm import RBM, Gaussian


@dataclass(frozen=True)
class LogisticNet:
    """Sigmoid hidden layers and a softmax output.

    Attributes:
        weights: one (out, in) matrix a layer, the lowest first; the last gives the classes' logits.
        biases: one (out,) vector a layer.
        input_scale: (in,) or (), what rows are divided by first: the visible sigma of a Gaussian RBM.

    Raises:
        BadInput: layers that do not chain.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    input_scale: Tensor

    def __post_init__(self) -> None:
        if not self.weights or len(self.weights) != len(self.biases):
            raise BadInput(f"a net needs a bias for each matrix, found {len(self.weights)} and {len(self.biases)}")
        for level, (weight, bias) in enumerate(zip(self.weights, self.biases), start=1):
            if bias.shape != weight.shape[:1]:
                raise BadInput(f"layer {level} has weights {tuple(weight.shape)} and biases {tuple(bias.shape)}")
        for level, (below, above) in enumerate(zip(self.weights, self.weights[1:]), start=2):
            if above.shape[1] != below.shape[0]:
                raise BadInput(f"layer {level} takes {above.shape[1]} inputs, the layer below it has {below.shape[0]} units")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, units of each hidden layer, classes."""
        return (self.weights[0].shape[1], *(weight.shape[0] for weight in self.weights))

    def hidden(self, rows: Tensor) -> list[Tensor]:
        """Activities of each hidden layer, (batch, in) -> [(batch, units)]."""
        below, layers = rows / self.input_scale, []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1]):
            below = torch.sigmoid(torch.addmm(bias, below, weight.t()))
            layers.append(below)
        return layers

    def logits(self, rows: Tensor) -> Tensor:
        """(batch, in) -> (batch, classes), before the softmax."""
        layers = self.hidden(rows)
        below = layers[-1] if layers else rows / self.input_scale
        return below @ self.weights[-1].t() + self.biases[-1]

    def predict(self, rows: Tensor) -> Tensor:
        """Most probable class of each row, int64 (batch,)."""
        return self.logits(rows).argmax(dim=1)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LogisticNet:
        """The same net elsewhere or in another float format."""
        return LogisticNet(
            tuple(weight.to(device=device, dtype=dtype) for weight in self.weights),
            tuple(bias.to(device=device, dtype=dtype) for bias in self.biases),
            self.input_scale.to(device=device, dtype=dtype),
        )

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors; enough for `restore`."""
        state = {"input_scale": self.input_scale}
        for level, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            state |= {f"weights{level}": weight, f"bias{level}": bias}
        return state

    @staticmethod
    def restore(state: Mapping[str, Tensor]) -> LogisticNet:
        """The net that `state` was taken from."""
        levels = range(sum(name.startswith("weights") for name in state))
        return LogisticNet(
            tuple(state[f"weights{level}"] for level in levels),
            tuple(state[f"bias{level}"] for level in levels),
            state["input_scale"],
        )


def net_from_rbms(rbms: Sequence[RBM], head_weights: Tensor, head_bias: Tensor) -> LogisticNet:
    """The net whose hidden layers are a stack of RBMs and whose output is a logistic regression on the top one's means.

    Args:
        rbms: the lowest first.
        head_weights: (classes, hidden of the top RBM).
        head_bias: (classes,).
    """
    lowest = rbms[0]
    # The very sigma the RBM divides by: a reciprocal of a reciprocal would be off by a rounding.
    scale = lowest.units.sigma if isinstance(lowest.units, Gaussian) else torch.tensor(1.0)
    return LogisticNet((*(rbm.weights for rbm in rbms), head_weights), (*(rbm.hidden_bias for rbm in rbms), head_bias), scale)


def random_net(sizes: Sequence[int], draws: Draws, input_deviation: float = 1.0, gain: float = 1.0) -> LogisticNet:
    """A net at a random start: weights N(0, gain^2 / inputs), biases zero.

    Args:
        sizes: inputs, units of each hidden layer, classes.
        draws: of the weights.
        input_deviation: standard deviation of the rows, which they are divided by.
        gain: standard deviation of a unit's total input where inputs have a mean square of one.
    """
    if len(sizes) < 2:
        raise BadInput(f"a net needs the number of inputs and of classes at least, found {list(sizes)}")
    pairs = list(itertools.pairwise(sizes))
    weights = tuple(draws.normal(f"weights{i}", (out, into)) * (gain / into**0.5) for i, (into, out) in enumerate(pairs))
    return LogisticNet(weights, tuple(torch.zeros(out) for _, out in pairs), torch.tensor(float(input_deviation)))


def net_encoder(rows: RowMaker, net: LogisticNet) -> RowsEncoder:
    """A net on whole pictures. Layers: `pixels`, `hidden1`, `hidden2`, ..., `logits`."""
    dims = {f"hidden{level}": size for level, size in enumerate(net.sizes[1:-1], start=1)} | {"logits": net.sizes[-1]}

    def activities(below: Tensor, wanted: tuple[str, ...]) -> dict[str, Tensor]:
        found = dict(zip(dims, net.hidden(below)))
        return found | ({"logits": net.logits(below)} if "logits" in wanted else {})

    return RowsEncoder(rows, dims, activities)
