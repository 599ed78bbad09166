"""A convolutional net's layers as torch modules of plain operations; normalisation as the paper writes it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.convnet.layers import Conv, Dense, Layer, Local, Norm, Window
from striate.models.convnet.net import ConvNet, Parameters, compute
from striate.models.convnet.trained import TrainedConvNet
from striate.models.module import Steps


class Crop(nn.Module):
    """The centre crop less the mean picture, divided.

    Args:
        mean: the mean picture in levels, (channels, height, width).
        crop: edge.
        divide: divisor.
    """

    mean: Tensor

    def __init__(self, mean: Tensor, crop: int, divide: float) -> None:
        super().__init__()
        self.crop, self.divide = crop, divide
        self.top, self.left = ((edge - crop) // 2 for edge in mean.shape[1:])
        self.register_buffer("mean", self._cut(mean).float().clone())

    def _cut(self, pictures: Tensor) -> Tensor:
        return pictures[..., self.top : self.top + self.crop, self.left : self.left + self.crop]

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 (n, c, h, w) to (n, c, crop, crop)."""
        return (self._cut(pictures).to(self.mean.dtype) - self.mean) / self.divide


class NetLayer(nn.Module):
    """One layer at test time: nothing is dropped."""

    def __init__(self, layer: Layer, held: Parameters | None) -> None:
        super().__init__()
        self.layer, self.held = layer, held

    def forward(self, x: Tensor) -> Tensor:
        """What leaves the layer."""
        return compute(self.layer, x, self.held, None)


class Normalise(nn.Module):
    """y = x / (k + scale * sum of squares over a window)^power.

    Args:
        window: which maps, or which places, and the constants. Source: Krizhevsky, Sutskever, Hinton 2012, section 3.3.
        maps: how many there are.
    """

    band: Tensor

    def __init__(self, window: Window, maps: int) -> None:
        super().__init__()
        self.window = window
        if window.across == "maps":
            self.register_buffer("band", _band(window, maps)[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(n, maps, height, width) to the same."""
        squares, size = x.square(), self.window.size
        if self.window.across == "maps":
            total = F.conv2d(squares, self.band)
        else:
            total = F.avg_pool2d(squares, size, 1, size // 2) * size**2
        return x * (self.window.k + self.window.scale * total).pow(-self.window.power)


def _band(window: Window, maps: int) -> Tensor:
    """(maps, maps), a map's row: ones at the maps of its window, which stays inside its group."""
    at = torch.arange(maps)
    offset, group = at[None] - at[:, None], at * window.groups // maps
    near = (offset >= -(window.size // 2)) & (offset < window.size - window.size // 2)
    return (near & (group[None] == group[:, None])).float()


def net_steps(trained: TrainedConvNet) -> Steps:
    """The net's layers by the names its encoder gives them: the last is `logits`; dropout is part of the layer before it."""
    net = trained.build()
    steps: list[tuple[str, nn.Module]] = []
    for one in net.counted:
        made = Normalise(one.layer.window, one.input[0]) if isinstance(one.layer, Norm) else _plain(net, one.layer)
        steps.append((one.layer.name, made))
    name, last = steps[-1]
    return [*steps[:-1], ("logits" if name == trained.spec.layers[-1].name else name, last)]


def _plain(net: ConvNet, layer: Layer) -> NetLayer:
    return NetLayer(layer, net.layer(layer.name) if isinstance(layer, Conv | Local | Dense) else None)
