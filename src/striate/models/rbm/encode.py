"""Encoders of RBMs: pictures to hidden activities, of whole pictures or of every patch of larger ones.

Features are hidden means p(h = 1 | v), as in Krizhevsky 2009, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.errors import BadInput
from striate.models.encoder import Images, RowMaker, RowsEncoder, check_layers, check_shape
from striate.models.rbm.rbm import RBM

# Patches taken at once by the patch encoder, whatever the picture's size: 64 MB of a thousand units' activities.
_PATCHES = 1 << 14
# Levels are taken less this before a folded product, so that float32 loses nothing to a large common term.
_MIDDLE = 127.5


def rbm_encoder(rows: RowMaker, rbms: Sequence[RBM]) -> RowsEncoder:
    """One RBM (or a stack) on whole pictures. Layers: `pixels`, `hidden1`, `hidden2`, ..."""

    def activities(below: Tensor, wanted: tuple[str, ...]) -> dict[str, Tensor]:
        found = {}
        for level, rbm in enumerate(rbms, start=1):
            below = rbm.hidden_mean(below)
            found[f"hidden{level}"] = below
        return found

    return RowsEncoder(rows, {f"hidden{level}": rbm.num_hidden for level, rbm in enumerate(rbms, start=1)}, activities)


class PatchEncoder:
    """An RBM of small patches, read at every position of a picture and averaged over a grid of regions.

    The quadrants' averages are the usual code of patch models (Coates, Lee, Ng 2011, section 3.2). Layers: `pixels` (levels
    less their mean), `hidden1` (regions x regions x hidden).

    Args:
        rows: preprocessing of patches.
        rbm: of patches.
        image_shape: (channels, height, width) of the pictures to encode, at least a patch wide.
        stride: between positions, in pixels.
        regions: side of the grid of averages.

    Attributes:
        places: rows and columns of positions.
        regions: as given, or fewer where there are not so many positions.
    """

    def __init__(self, rows: RowMaker, rbm: RBM, image_shape: tuple[int, int, int], stride: int = 1, regions: int = 2) -> None:
        self._rows, self._rbm, self._stride = rows, rbm, stride
        self.image_shape = image_shape
        channels, height, width = image_shape
        size = rows.shape[1]
        if channels != rows.shape[0] or min(height, width) < size:
            raise BadInput(f"pictures of shape {image_shape} cannot be read by patches of shape {rows.shape}")
        self.places = ((height - size) // stride + 1, (width - size) // stride + 1)
        self.regions = min(regions, *self.places)
        self._folded = self._fold()
        self.layers: tuple[str, ...] = ("pixels", "hidden1")
        self.dims: Mapping[str, int] = {
            "pixels": channels * height * width,
            "hidden1": self.regions**2 * rbm.num_hidden,
        }

    def encode(self, images: Images, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Features of uint8 pictures (n, c, h, w); by default of the hidden layer, regions first."""
        wanted = check_layers(layers, self.layers)
        check_shape(images, self.image_shape)
        at_once = max(1, _PATCHES // (self.places[0] * self.places[1]))
        parts: dict[str, list[Tensor]] = {name: [] for name in wanted}
        for start in range(0, len(images), at_once):
            batch = torch.as_tensor(images[start : start + at_once]).to(self._rbm.weights.device)
            if "pixels" in parts:
                parts["pixels"].append((batch.flatten(1).float() - _MIDDLE).cpu())
            if "hidden1" in parts:
                parts["hidden1"].append(self._pooled(batch).cpu())
        return {name: torch.cat(part) for name, part in parts.items()}

    def _fold(self) -> tuple[Tensor, Tensor] | None:
        """Preprocessing and weights as one convolution of levels less the middle one, where preprocessing is linear."""
        scale = self._rbm.units.scaled(torch.ones_like(self._rbm.visible_bias))
        folded = self._rows.fold(self._rbm.weights * scale)
        if folded is None:
            return None
        weights, offset = folded
        bias = self._rbm.hidden_bias - offset + _MIDDLE * weights.sum(dim=1)
        return weights.view(-1, *self._rows.shape), bias

    def _pooled(self, batch: Tensor) -> Tensor:
        if self._folded is not None:
            filters, offset = self._folded
            total_input = F.conv2d(batch.float() - _MIDDLE, filters, offset, stride=self._stride)
            return F.adaptive_avg_pool2d(total_input.sigmoid_(), self.regions).flatten(1)
        size = self._rows.shape[1]
        windows = batch.unfold(2, size, self._stride).unfold(3, size, self._stride)
        patches = windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, *self._rows.shape)
        activity = self._rbm.hidden_mean(self._rows.apply(patches))
        maps = activity.view(len(batch), *self.places, -1).permute(0, 3, 1, 2)
        return F.adaptive_avg_pool2d(maps, self.regions).flatten(1)
