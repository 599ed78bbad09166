"""A convolutional net with what it was told of its pictures: enough to be kept, loaded and used as an encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.models.convnet.layers import Conv, Dropout, NetSpec
from striate.models.convnet.named import named_net
from striate.models.convnet.net import ConvNet
from striate.models.encoder import Images, check_layers, check_shape

# Pictures taken at once: the first maps of 64 crops of 224 are 74 MB.
_PIXELS = 64 * 224 * 224


@dataclass(frozen=True)
class TrainedConvNet:
    """A net by name, its parameters, and how crops are made ready for it.

    Attributes:
        name: of the net.
        classes: units of the last layer.
        state: parameters by key.
        switches: changes of its profile's.
        crop: edge of its crops, where not the net's own.
        channels: of the pictures.
        divide: what levels less the mean are divided by.
    """

    name: str
    classes: int
    state: Mapping[str, Tensor]
    switches: Mapping[str, Any] = field(default_factory=dict)
    crop: int | None = None
    channels: int = 3
    divide: float = 1.0

    @property
    def spec(self) -> NetSpec:
        """The net's description."""
        return named_net(self.name, self.classes, self.switches, self.crop, self.channels)

    @property
    def columns(self) -> int:
        """How many parts of the net see only their own maps somewhere."""
        return max((layer.groups for layer in self.spec.learned if isinstance(layer, Conv)), default=1)

    @property
    def kernels(self) -> Tensor:
        """The first layer's filters, (maps, channels, size, size)."""
        first = self.spec.learned[0]
        return self.state[f"{first.key or first.name}.weight"]

    def to(self, device: torch.device | str) -> TrainedConvNet:
        """The same on another device."""
        return replace(self, state={name: tensor.to(device) for name, tensor in self.state.items()})

    def build(self) -> ConvNet:
        """The net itself, where its parameters are.

        Raises:
            RuntimeError: the parameters are another net's.
        """
        with self.kernels.device:
            net = ConvNet(self.spec)
        net.load_state_dict(dict(self.state))
        return net.eval()

    def describe(self) -> dict[str, Any]:
        """What the tensors do not say, as JSON."""
        return {
            "name": self.name,
            "classes": self.classes,
            "switches": dict(self.switches),
            "crop": self.crop,
            "channels": self.channels,
            "divide": self.divide,
        }

    @staticmethod
    def restore(description: Mapping[str, Any], state: Mapping[str, Tensor]) -> TrainedConvNet:
        """The net that `describe` and `state` were taken from."""
        return TrainedConvNet(state=dict(state), **description)


class ConvNetEncoder:
    """A convolutional net as an encoder: the centre crop's activities in every layer, flattened.

    Args:
        trained: the net.
        mean: the mean picture in levels, float32 (channels, height, width), of the pictures it takes.

    Attributes:
        layers: `pixels` (the crop less the mean), the net's layers, `logits`.
        spec: the net's description.
    """

    def __init__(self, trained: TrainedConvNet, mean: Tensor) -> None:
        self.spec = trained.spec
        self._net, self._divide = trained.build(), trained.divide
        channels, height, width = mean.shape
        self.image_shape = (channels, height, width)
        crop = self.spec.input[1]
        self._top, self._left = (height - crop) // 2, (width - crop) // 2
        self._mean = mean[:, self._top : self._top + crop, self._left : self._left + crop].float()
        sizes = {one.layer.name: math.prod(one.output) for one in self._net.counted if not isinstance(one.layer, Dropout)}
        last = self.spec.layers[-1].name
        self._names = {name: name for name in sizes if name != last} | {"logits": last}
        self.layers: tuple[str, ...] = ("pixels", *self._names)
        self.dims: Mapping[str, int] = {"pixels": self._mean.numel()} | {n: sizes[at] for n, at in self._names.items()}

    def to(self, device: torch.device | str) -> ConvNetEncoder:
        """Compute there from now on; returns itself."""
        self._net, self._mean = self._net.to(device), self._mean.to(device)
        return self

    def encode(self, images: Images, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Features of uint8 pictures (n, c, h, w); by default the logits."""
        wanted = check_layers(layers, self.layers)
        check_shape(images, self.image_shape)
        crop = self.spec.input[1]
        centre = images[..., self._top : self._top + crop, self._left : self._left + crop]
        return self.encode_crops(centre, wanted)

    def encode_crops(self, crops: np.ndarray | Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Features of uint8 crops of the net's own size (n, c, crop, crop), wherever they were cut."""
        parts: dict[str, list[Tensor]] = {name: [] for name in layers}
        size = max(1, _PIXELS // (self.spec.input[1] * self.spec.input[2]))
        inner = tuple(self._names[name] for name in layers if name != "pixels")
        for start in range(0, len(crops), size):
            # An array with mirrored crops in it may run backwards, which torch does not take.
            block = crops[start : start + size]
            levels = torch.as_tensor(np.ascontiguousarray(block) if isinstance(block, np.ndarray) else block)
            x = (levels.to(self._mean.device).float() - self._mean) / self._divide
            with torch.inference_mode():
                found = self._net.activities(x, inner)
            for name in layers:
                made = x if name == "pixels" else found[self._names[name]]
                parts[name].append(made.flatten(1).float().cpu())
        return {name: torch.cat(part) if part else torch.empty(0, self.dims[name]) for name, part in parts.items()}
