"""Models of timm as encoders, to hold learned features against, and to search and classify with: `timm:NAME`.

    timm:resnet18                        random weights, the same each time
    timm:resnet18@weights.safetensors    weights from a file

Nothing is downloaded, but where STRIATE_TIMM_DOWNLOAD=1 says that timm may fetch its own weights. timm imports torchvision,
whose native operators do not load beside every build of torch; their names are declared then, and nothing here calls them.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from striate.app.encoders import TIMM
from striate.errors import BadInput
from striate.models.encoder import Images, check_layers, check_shape

DOWNLOAD = "STRIATE_TIMM_DOWNLOAD"
# Operators of torchvision that it looks for while it is imported.
_OPERATORS = ("nms", "qnms")
_AT_ONCE = 32


@dataclass(frozen=True)
class Preparation:
    """How a model wants its pictures.

    Attributes:
        input_size: (channels, height, width).
        mean, std: a colour, of levels from 0 to 1.
        interpolation: `bicubic`, `bilinear` or `nearest`.
        crop: share of a resized picture's side that is cut from its middle.
        squash: whether the aspect ratio gives way.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop: float
    squash: bool

    @staticmethod
    def of(config: Mapping[str, Any]) -> Preparation:
        """From a model's own configuration."""
        channels, height, width = config["input_size"]
        interpolation = config.get("interpolation", "bicubic")
        return Preparation(
            (channels, height, width),
            tuple(config["mean"]),
            tuple(config["std"]),
            interpolation if interpolation in ("bilinear", "nearest") else "bicubic",
            float(config.get("crop_pct") or 1.0),
            config.get("crop_mode") == "squash",
        )

    def apply(self, pictures: Tensor, device: torch.device) -> Tensor:
        """uint8 (n, c, h, w) to what the model sees: resized (by the processor), its middle cut out, normalised."""
        channels, height, width = self.input_size
        resized = self._resize(pictures)
        top, left = (round((edge - side) / 2) for edge, side in zip(resized.shape[2:], (height, width)))
        x = resized[:, :, top : top + height, left : left + width].to(device).float() / 255
        if x.shape[1] != channels:
            x = x.expand(-1, channels, -1, -1) if x.shape[1] == 1 else x.mean(dim=1, keepdim=True)
        mean, std = (x.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (x - mean) / std

    def _resize(self, pictures: Tensor) -> Tensor:
        wanted = tuple(math.floor(edge / self.crop) for edge in self.input_size[1:])
        sides = pictures.shape[2:]
        if not self.squash:
            # The shorter side fits, as seen from what is wanted; the longer one is cut.
            scale = max(edge / side for edge, side in zip(wanted, sides))
            wanted = tuple(max(edge, round(side * scale)) for edge, side in zip(wanted, sides))
        if tuple(sides) == wanted:
            return pictures
        # In whole levels, as Pillow does and so timm: in fractions, overshoots at edges come out otherwise.
        antialias = self.interpolation != "nearest"
        return F.interpolate(pictures, wanted, mode=self.interpolation, antialias=antialias)


class TimmEncoder:
    """A model of timm as an encoder. Layers: `pixels` (what it sees), `features` (what its classifier sees), `logits`.

    Args:
        model: it, as timm makes it.
        image_shape: (channels, height, width) of the pictures it is given; by default what it sees.
        device: where to compute.

    Attributes:
        preparation: of pictures.
    """

    def __init__(self, model: Any, image_shape: tuple[int, int, int] | None, device: torch.device) -> None:
        self._model, self._device = model.to(device).eval(), device
        self.preparation = Preparation.of(model.pretrained_cfg)
        self.image_shape = image_shape or self.preparation.input_size
        found = self._features(torch.zeros(1, *self.image_shape, dtype=torch.uint8))
        self.dims: Mapping[str, int] = {name: made.shape[1] for name, made in found.items()}
        self.layers: tuple[str, ...] = tuple(found)

    def encode(self, images: Images, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Features of uint8 pictures (n, c, h, w); by default the logits, or the features of a model without."""
        wanted = check_layers(layers, self.layers)
        check_shape(images, self.image_shape)
        parts: dict[str, list[Tensor]] = {name: [torch.empty(0, self.dims[name])] for name in wanted}
        for start in range(0, len(images), _AT_ONCE):
            found = self._features(torch.as_tensor(images[start : start + _AT_ONCE]))
            for name in wanted:
                parts[name].append(found[name].cpu())
        return {name: torch.cat(part) for name, part in parts.items()}

    def _features(self, pictures: Tensor) -> dict[str, Tensor]:
        with torch.inference_mode():
            x = self.preparation.apply(pictures, self._device)
            maps = self._model.forward_features(x)
            found = {"pixels": x.flatten(1), "features": self._model.forward_head(maps, pre_logits=True).flatten(1).float()}
            if self._model.num_classes:
                found["logits"] = self._model.forward_head(maps).float()
        return found


@dataclass(frozen=True)
class Named:
    """What `timm:NAME@FILE` names.

    Attributes:
        name: of the model.
        weights: a file of them.
        download: whether timm may fetch its own.
    """

    name: str
    weights: Path | None
    download: bool

    @staticmethod
    def of(source: str) -> Named:
        """From its text; the environment says whether weights may be fetched."""
        name, at, file = source.removeprefix(TIMM).partition("@")
        return Named(name, Path(file) if at else None, os.environ.get(DOWNLOAD) == "1")

    @property
    def random(self) -> bool:
        """Whether nothing was learned."""
        return self.weights is None and not self.download

    @property
    def origin(self) -> str:
        """Where the weights are from, in words."""
        if self.weights is not None:
            return f"weights of {self.weights.name}"
        return "timm's own weights" if self.download else "random weights"


def timm_model(named: Named) -> tuple[Any, str]:
    """A model of timm, and 16 hexadecimal digits of its name and weights.

    Raises:
        BadInput: timm is not installed or has no such model, or the weights are not this model's.
    """
    timm = import_timm()
    weights = None if named.weights is None else _weights(named.weights)
    try:
        # timm starts models by torch's global generator: it is put back, and they are the same each time.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            model = timm.create_model(
                named.name, pretrained=named.download and weights is None, **_classes(timm, named, weights)
            )
    except RuntimeError as error:
        raise BadInput(f"timm has no model {named.name!r} that can be had here ({str(error).splitlines()[0]})") from None
    if weights is not None:
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            said = " ".join(str(error).split())[:200]
            raise BadInput(f"{named.weights} does not hold weights of {named.name}: {said}") from None
    digest = hashlib.sha256(named.name.encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return model, digest.hexdigest()[:16]


def _weights(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{file} holds no weights: expected a safetensors file ({error})") from None


def _classes(timm: ModuleType, named: Named, weights: Mapping[str, Tensor] | None) -> dict[str, int]:
    """How many classes the weights are for, where they say so."""
    if weights is None:
        return {}
    config = timm.get_pretrained_cfg(named.name)
    head = weights.get(f"{getattr(config, 'classifier', None)}.weight")
    return {} if head is None else {"num_classes": len(head)}


def import_timm() -> ModuleType:
    """timm, also beside a torch that torchvision's operators do not load with.

    Raises:
        BadInput: it is not installed.
    """
    try:
        try:
            return importlib.import_module("timm")
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            _declare_operators()
            for name in [name for name in sys.modules if name.split(".")[0] in ("timm", "torchvision")]:
                del sys.modules[name]
            return importlib.import_module("timm")
    except ImportError as error:
        raise BadInput(f"models of timm need the extra `timm` ({error}): pip install 'striate[timm]'") from None


# Declarations last as long as this.
_declared: list[torch.library.Library] = []


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
