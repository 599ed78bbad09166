"""Autoencoders unrolled from stacks of RBMs: up through the stack, down through its transposes, then trained as one net.

Source: Hinton and Salakhutdinov 2006; short binary codes: Salakhutdinov and Hinton 2007. Before training, an autoencoder
rebuilds what the stack does when means are passed up and down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from striate.errors import BadInput
from striate.models.encoder import RowMaker, RowsEncoder
from striate.models.rbm import RBM, DeepBeliefNet, Gaussian


@dataclass(frozen=True)
class Autoencoder:
    """Encoder and mirrored decoder.

    Attributes:
        weights: (out, in) a layer, encoder then decoder.
        biases: (out,) a layer.
        scale: (visible,) what rows are divided by, and what outputs are multiplied by: the visible sigma; () for binary units.
        gaussian: whether outputs are linear (real data) or sigmoid (data in [0, 1]).
        linear_code: whether the code layer has no sigmoid.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    scale: Tensor
    gaussian: bool
    linear_code: bool = False

    def __post_init__(self) -> None:
        if len(self.weights) % 2 or len(self.weights) != len(self.biases):
            raise BadInput(f"an autoencoder has as many layers up as down, each with biases, found {len(self.weights)} layers")
        for level, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            below = self.weights[level - 1].shape[0] if level else self.weights[-1].shape[0]
            if weight.shape[1] != below or bias.shape != weight.shape[:1]:
                raise BadInput(f"layer {level + 1} has weights {tuple(weight.shape)} on {below} units below it")

    @property
    def code(self) -> int:
        """The code layer's number, from 0."""
        return len(self.weights) // 2 - 1

    @property
    def linear(self) -> frozenset[int]:
        """Numbers of hidden layers without a sigmoid."""
        return frozenset({self.code} if self.linear_code else ())

    def encode(self, rows: Tensor) -> Tensor:
        """Codes (n, width) of rows (n, visible): activities from 0 to 1, or any real numbers where the code is linear."""
        below = rows / self.scale
        for level in range(self.code + 1):
            below = torch.addmm(self.biases[level], below, self.weights[level].t())
            if level not in self.linear:
                below = torch.sigmoid(below)
        return below

    def bits(self, rows: Tensor) -> Tensor:
        """Codes rounded to states, bool (n, width): on where the unit's total input is above zero."""
        return self.encode(rows) > (0.0 if self.linear_code else 0.5)

    def decode(self, codes: Tensor) -> Tensor:
        """Rebuilt rows (n, visible), in data units."""
        below = codes
        for level in range(self.code + 1, len(self.weights)):
            below = torch.addmm(self.biases[level], below, self.weights[level].t())
            if level < len(self.weights) - 1 or not self.gaussian:
                below = torch.sigmoid(below)
        return below * self.scale if self.gaussian else below

    def to(self, device: torch.device | str) -> Autoencoder:
        """The same on another device."""
        weights, biases = (tuple(tensor.to(device) for tensor in tensors) for tensors in (self.weights, self.biases))
        return replace(self, weights=weights, biases=biases, scale=self.scale.to(device))

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors; with `describe` enough for `restore`."""
        state = {"scale": self.scale}
        for level, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            state |= {f"weights{level}": weight, f"bias{level}": bias}
        return state

    def describe(self) -> dict[str, bool]:
        """What the tensors do not say."""
        return {"gaussian": self.gaussian, "linear_code": self.linear_code}

    @staticmethod
    def restore(description: Mapping[str, bool], state: Mapping[str, Tensor]) -> Autoencoder:
        """The autoencoder that `describe` and `state` were taken from."""
        levels = range(sum(name.startswith("weights") for name in state))
        weights, biases = (tuple(state[f"{name}{level}"] for level in levels) for name in ("weights", "bias"))
        return Autoencoder(weights, biases, state["scale"], description["gaussian"], description["linear_code"])


def autoencoder_encoder(rows: RowMaker, autoencoder: Autoencoder) -> RowsEncoder:
    """An autoencoder on whole pictures. Layers: `pixels`, `code`."""
    width = autoencoder.biases[autoencoder.code].numel()

    def activities(below: Tensor, wanted: tuple[str, ...]) -> dict[str, Tensor]:
        return {"code": autoencoder.encode(below)} if "code" in wanted else {}

    return RowsEncoder(rows, {"code": width}, activities)


def unrolled(rbms: Sequence[RBM], linear_code: bool = False) -> Autoencoder:
    """The autoencoder that a stack of RBMs is when unrolled.

    Args:
        rbms: the lowest first; the top one's hidden units are the code.
        linear_code: code units without a sigmoid (their RBM's mean is then its total input).
    """
    net = DeepBeliefNet(tuple(rbms))
    lowest = net.rbms[0]
    gaussian = isinstance(lowest.units, Gaussian)
    scale = lowest.units.sigma if isinstance(lowest.units, Gaussian) else torch.tensor(1.0)
    down = [rbm.weights.t().contiguous() for rbm in reversed(net.rbms)]
    # In units of sigma, where the decoder works, the visible biases are b / sigma.
    down_bias = [rbm.visible_bias / (scale if rbm is lowest else 1.0) for rbm in reversed(net.rbms)]
    return Autoencoder(
        (*(rbm.weights for rbm in net.rbms), *down),
        (*(rbm.hidden_bias for rbm in net.rbms), *down_bias),
        scale,
        gaussian,
        linear_code,
    )
