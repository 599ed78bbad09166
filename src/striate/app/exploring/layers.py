"""Layers as units with filters: how many units a layer has, at how many places each answers, and what its filters look like."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from striate.app.load import TrainedModel
from striate.models.convnet.shapes import count
from striate.models.encoder import Encoder
from striate.models.sparse.trained import layer_shapes

# Filters of deeper layers are sums of those below: products of more multiplications than this are not waited for.
_MOST = 1 << 34


@dataclass(frozen=True)
class Layer:
    """One layer of a model.

    Attributes:
        name: as the encoder calls it.
        units: how many there are; a convolution's maps count once.
        places: at which each answers; features are units first, places within.
        filters: as the model holds them (units, channels, height, width), None where there are no pictures of them.
        first: whether they are the layer's own weights on pictures, not sums of filters below.
    """

    name: str
    units: int
    places: int
    filters: Tensor | None = None
    first: bool = True

    @property
    def kind(self) -> str:
        """What one of them is called."""
        return "unit" if self.places == 1 else "map" if self.filters is None else "filter"


def layers_of(model: TrainedModel, encoder: Encoder) -> dict[str, Layer]:
    """All layers but the pixels, lowest first."""
    units = _maps(model)
    pictures = _filters(model)
    found: dict[str, Layer] = {}
    for name in encoder.layers:
        if name == "pixels":
            continue
        dim = encoder.dims[name]
        many = units.get(name, dim)
        filters = pictures.get(name)
        if filters is not None and len(filters) != many:
            filters = None
        lowest = not found
        found[name] = Layer(name, many, dim // many, filters, lowest)
    return found


def _maps(model: TrainedModel) -> dict[str, int]:
    """Units of layers that answer at several places."""
    parts = model.parts
    if parts.convnet is not None:
        spec = parts.convnet.spec
        return {one.layer.name: one.output[0] for one in count(spec)}
    if parts.sparse is not None:
        # Untied filters differ from place to place: each place is a unit of its own.
        tied = [stage.sharing != "untied" for stage in parts.sparse.spec.stages]
        shapes = layer_shapes(parts.sparse.spec)
        return {name: maps for name, (maps, _, _) in shapes.items() if tied[int(name[-1]) - 1]}
    if model.preprocessor.settings.patch is not None and parts.rbms:
        return {"hidden1": model.rbm.num_hidden}
    return {}


def _filters(model: TrainedModel) -> dict[str, Tensor]:
    parts, shape = model.parts, model.preprocessor.shape
    if parts.convnet is not None:
        return {parts.convnet.spec.learned[0].name: parts.convnet.kernels}
    if parts.sparse is not None:
        banks = parts.sparse.state["stage1.encoder"]
        # (rows, columns, maps, height, width, channels) to units as features count them: maps, then places.
        return {"filter1": banks.permute(2, 0, 1, 5, 3, 4).flatten(0, 2)}
    if parts.autoencoder is not None:
        half = parts.autoencoder.weights[: len(parts.autoencoder.weights) // 2]
        return {"code": _seen_through(half)[-1].view(-1, *shape)}
    weights = parts.net.weights[:-1] if parts.net is not None else tuple(rbm.weights for rbm in parts.rbms)
    return {f"hidden{level}": one.view(-1, *shape) for level, one in enumerate(_seen_through(weights), start=1)}


def _seen_through(weights: tuple[Tensor, ...]) -> list[Tensor]:
    """Each layer's filters as sums of those below it; as far up as that is quick."""
    quick = [weights[0]]
    for one in weights[1:]:
        if one.numel() * quick[-1].shape[1] > _MOST:
            break
        quick.append(one)
    return list(accumulate(quick, lambda below, above: above @ below))


def levels(filters: Tensor | np.ndarray, most: float | None = None) -> np.ndarray:
    """Filters (k, c, h, w) as pictures uint8 (k, 1 or 3, h, w): grey is zero, each scaled by its own largest weight.

    Filters of other than 1 or 3 channels (a first layer that sees maps) are shown by their mean over channels.
    """
    pictures = torch.as_tensor(filters).float()
    if pictures.shape[1] not in (1, 3):
        pictures = pictures.mean(dim=1, keepdim=True)
    largest = pictures.abs().amax(dim=(1, 2, 3), keepdim=True) if most is None else torch.tensor(most)
    scaled = 0.5 + 0.5 * pictures / largest.clamp_min(1e-12)
    return (255 * scaled.clamp(0, 1)).round().to(torch.uint8).numpy()
