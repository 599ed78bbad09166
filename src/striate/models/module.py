"""Encoders as torch modules of plain operations, for `torch.export` to read: pictures in, features of named layers out.

Encoders are written for speed: batches cut to the cache, buffers used twice, gradients by hand. These modules hold the same
parameters and say the same equations without any of it, so that another runtime can be given them. Tests hold each to its
encoder. Neighbours: `rbm/module.py`, `convnet/module.py`, `sparse/module.py` for what is not a stack of dense layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.autoencoder import Autoencoder
from striate.models.classifier import LogisticNet
from striate.models.encoder import check_layers
from striate.models.rbm import RBM, Gaussian
from striate.preprocess import Preprocessor
from striate.preprocess.contrast import normalise_contrast

Steps = Sequence[tuple[str, nn.Module]]


class FeatureModule(nn.Module):
    """A trained model as a function of pictures alone; in float64 after `.double()`.

    Args:
        first: pictures uint8 (n, c, h, w) to what the layer `pixels` is.
        steps: the layers above by name, nearest the pixels first, each a module on what the one before it gave.
        layers: whose features are given; what lies above the last of them is left out.
        input_shape: (channels, height, width) of the pictures.

    Raises:
        BadInput: there is no such layer.
    """

    def __init__(self, first: nn.Module, steps: Steps, layers: Sequence[str], input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        names = ["pixels", *(name for name, _ in steps)]
        self.layers = check_layers(layers, tuple(names))
        self.input_shape = input_shape
        count = max(names.index(name) for name in self.layers)
        self.first = first
        self.steps = nn.ModuleList(module for _, module in steps[:count])
        self._names = names[: count + 1]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one picture's features in each layer asked for, before they are flattened."""
        found = self._all(self.first(torch.zeros(1, *self.input_shape, dtype=torch.uint8)))
        return {name: tuple(found[self._names.index(name)].shape[1:]) for name in self.layers}

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Features (n, dim) of each layer asked for, in that order."""
        return self.above(self.first(pictures))

    def above(self, below: Tensor) -> tuple[Tensor, ...]:
        """The same of what the layer `pixels` is."""
        found = self._all(below)
        return tuple(found[self._names.index(name)].flatten(1) for name in self.layers)

    def _all(self, below: Tensor) -> list[Tensor]:
        found = [below]
        for step in self.steps:
            found.append(step(found[-1]))
        return found


class Rows(nn.Module):
    """A preprocessor: uint8 pictures (n, c, h, w) to rows (n, c * h * w)."""

    mean: Tensor
    map: Tensor

    def __init__(self, preprocessor: Preprocessor) -> None:
        super().__init__()
        state = preprocessor.state()
        self.contrast = preprocessor.settings.contrast
        self.register_buffer("mean", state["mean"])
        self.register_buffer("map", state["forward"])

    def forward(self, pictures: Tensor) -> Tensor:
        """(x - mean) M, each picture's contrast normalised first where that was asked for."""
        rows = pictures.flatten(1).to(self.mean.dtype)
        if self.contrast:
            rows = normalise_contrast(rows)
        centred = rows - self.mean
        return centred @ self.map if self.map.ndim == 2 else centred * self.map


class Dense(nn.Module):
    """sigmoid(c + W (x / scale)), or without the sigmoid.

    Args:
        weights: (out, in).
        bias: (out,).
        scale: (in,) or (): the visible sigma; None where there is none.
        sigmoid: whether there is one.
    """

    weights: Tensor
    bias: Tensor
    scale: Tensor | None

    def __init__(self, weights: Tensor, bias: Tensor, scale: Tensor | None = None, sigmoid: bool = True) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("bias", bias)
        self.register_buffer("scale", scale)
        self.sigmoid = sigmoid

    def forward(self, x: Tensor) -> Tensor:
        """(n, in) to (n, out)."""
        total_input = F.linear(x if self.scale is None else x / self.scale, self.weights, self.bias)
        return logistic(total_input) if self.sigmoid else total_input


def logistic(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), written out: onnxruntime's own sigmoid is cut off at -18, and rare units live below that."""
    return (1 + torch.exp(-x)).reciprocal()


def stack_steps(rbms: Sequence[RBM]) -> Steps:
    """RBMs, the lowest first, as `hidden1`, `hidden2`, ...: p(h = 1 | v), each on the means below."""
    return [
        (f"hidden{level}", Dense(rbm.weights, rbm.hidden_bias, rbm.units.sigma if isinstance(rbm.units, Gaussian) else None))
        for level, rbm in enumerate(rbms, start=1)
    ]


def net_steps(net: LogisticNet) -> Steps:
    """A logistic net's hidden layers and `logits`."""
    last = len(net.weights)
    return [
        (
            "logits" if level == last else f"hidden{level}",
            Dense(weight, bias, net.input_scale if level == 1 else None, sigmoid=level < last),
        )
        for level, (weight, bias) in enumerate(zip(net.weights, net.biases), start=1)
    ]


def autoencoder_steps(autoencoder: Autoencoder) -> Steps:
    """An autoencoder's way up to its `code`."""
    up = range(autoencoder.code + 1)
    layers = [
        Dense(
            autoencoder.weights[level],
            autoencoder.biases[level],
            autoencoder.scale if level == 0 else None,
            sigmoid=level not in autoencoder.linear,
        )
        for level in up
    ]
    return [("code", nn.Sequential(*layers))]
