"""A patch RBM as a torch module of plain operations: one convolution, a sigmoid, averages over quadrants."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.module import logistic
from striate.models.rbm.rbm import RBM
from striate.preprocess import Preprocessor
from striate.preprocess.contrast import normalise_contrast

# Levels less this are small numbers: float32 then loses nothing to a large common term.
_MIDDLE = 127.5


class Levels(nn.Module):
    """Pictures as levels less the middle one, (n, c, h, w)."""

    middle: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("middle", torch.tensor(_MIDDLE))

    def forward(self, pictures: Tensor) -> Tensor:
        """-127.5 to 127.5."""
        return pictures.to(self.middle.dtype) - self.middle


class PatchLayer(nn.Module):
    """What hidden units answer to every patch, averaged over regions: preprocessing and weights as one bank of filters.

    With P(x) = (x - mean) M the preprocessing of a patch, c + W P(x) / sigma is a convolution of levels plus a bias. Where
    contrast is normalised first, patches are cut out and normalised one by one: as filters that sum to zero, what they give
    divided by each patch's deviation, a bright flat patch would be lost to rounding.

    Args:
        preprocessor: of patches.
        rbm: of patches.
        places: rows and columns of positions in a picture.
        regions: side of the grid of averages.
        stride: between positions, in pixels.
    """

    filters: Tensor
    bias: Tensor

    def __init__(self, preprocessor: Preprocessor, rbm: RBM, places: tuple[int, int], regions: int, stride: int = 1) -> None:
        super().__init__()
        self.contrast = preprocessor.settings.contrast
        # The map by itself, which can be folded into weights.
        settings = dataclasses.replace(preprocessor.settings, contrast=False)
        linear = Preprocessor(settings, preprocessor.shape, preprocessor.state())
        folded = linear.fold(rbm.weights * rbm.units.scaled(torch.ones_like(rbm.visible_bias)))
        assert folded is not None
        filters, offset = folded
        shift = torch.zeros_like(offset) if self.contrast else _MIDDLE * filters.sum(dim=1)
        self.register_buffer("filters", filters.view(-1, *preprocessor.shape))
        self.register_buffer("bias", rbm.hidden_bias - offset + shift)
        self.stride, self.places, self.regions = stride, places, regions

    def forward(self, levels: Tensor) -> Tensor:
        """(n, c, h, w) to (n, hidden, regions, regions)."""
        if self.contrast:
            patches = F.unfold(levels, self.filters.shape[2], stride=self.stride).transpose(1, 2)
            normal = normalise_contrast(patches.flatten(0, 1))
            answers = F.linear(normal, self.filters.flatten(1), self.bias)
            total_input = answers.unflatten(0, (-1, *self.places)).permute(0, 3, 1, 2)
        else:
            total_input = F.conv2d(levels, self.filters, self.bias, self.stride)
        return _averages(logistic(total_input), self.places, self.regions)


def _averages(maps: Tensor, places: tuple[int, int], regions: int) -> Tensor:
    """Means over a grid of regions that share the places between them, neighbours overlapping where they must."""
    rows, columns = (_region(edge, regions, maps) for edge in places)
    return rows @ maps @ columns.t()


def _region(edge: int, regions: int, like: Tensor) -> Tensor:
    """(regions, edge): the weights of places in each region's mean."""
    at, region = torch.arange(edge), torch.arange(regions)[:, None]
    start, stop = region * edge // regions, -(-(region + 1) * edge // regions)
    inside = ((at >= start) & (at < stop)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)
