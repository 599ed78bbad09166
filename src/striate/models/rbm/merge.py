"""One RBM of whole pictures made of RBMs of patches. Source: Krizhevsky 2009, section 2.5.1, figure 2.7.

Weights to pixels outside a patch are zero; a pixel's bias is the average over the models that see it. The paper trains one
patch RBM a place and a last one on the picture made small (`merge_patch_rbms`); one patch RBM can also serve all places, whose
statistics are nearly the same, with as many times the data (`tile_rbm`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from striate.errors import BadInput
from striate.models.rbm.many import ManyRBMs
from striate.models.rbm.rbm import RBM
from striate.models.rbm.units import Bernoulli, Gaussian, VisibleUnits


def tile_rbm(patch: RBM, shape: tuple[int, int, int], size: tuple[int, int], stride: int, scale: float = 1.0) -> RBM:
    """Tile pictures with copies of a patch RBM.

    Args:
        patch: its visible units are a patch, (channels, height, width) flattened.
        shape: of the patch.
        size: (height, width) of the pictures.
        stride: pixels from one copy to the next; a last copy is aligned with the far edge.
        scale: factor on the weights (overlapping copies explain the same pixels together).

    Returns:
        An RBM of places * hidden units, copies in row-major order of their places.
    """
    channels, height, width = shape
    if patch.num_visible != channels * height * width:
        raise BadInput(f"a patch of shape {shape} has {channels * height * width} pixels, the RBM sees {patch.num_visible}")
    if height > size[0] or width > size[1]:
        raise BadInput(f"patches of {height}x{width} do not fit pictures of {size[0]}x{size[1]}")
    places = [(top, left) for top in _starts(size[0], height, stride) for left in _starts(size[1], width, stride)]
    weights = torch.zeros(len(places), patch.num_hidden, channels, *size)
    bias_sum, coverage = torch.zeros(channels, *size), torch.zeros(channels, *size)
    for number, (top, left) in enumerate(places):
        window = (slice(None), slice(top, top + height), slice(left, left + width))
        weights[number][:, *window] = scale * patch.weights.view(-1, *shape)
        bias_sum[window] += patch.visible_bias.view(shape)
        coverage[window] += 1
    units = patch.units
    if isinstance(units, Gaussian):
        units = replace(units, sigma=units.sigma.mean().expand(bias_sum.numel()).contiguous())
    return RBM(
        weights.flatten(0, 1).flatten(1),
        (bias_sum / coverage.clamp_min(1)).flatten(),
        patch.hidden_bias.repeat(len(places)),
        units,
    )


class Spreading(Protocol):
    """Where patch models look (a `PatchLayout`)."""

    @property
    def count(self) -> int:
        """Number of patches."""
        ...

    @property
    def dim(self) -> int:
        """Numbers in a patch."""
        ...

    @property
    def factor(self) -> int:
        """Pixels a side that one pixel of the last, subsampled patch stands for."""
        ...

    def spread(self, patches: Tensor) -> Tensor:
        """Weights on patches (count, n, dim) to weights on pictures (count, n, pixels) with the same total inputs."""
        ...


def merge_patch_rbms(many: ManyRBMs, layout: Spreading) -> RBM:
    """One RBM whose hidden units are those of all patch RBMs, block by block, each with the total input it had.

    Weights of the subsampled patch are repeated over the pixels each is the mean of, and divided by their number. Visible
    biases are averaged over the models that see a pixel, and so are, geometrically, the sigmas of those that see it itself;
    where sigmas differ, weights are scaled so that W (v / sigma) stays the same.

    Args:
        many: one RBM a patch, in the layout's order.
        layout: where each looks.

    Returns:
        An RBM of models * hidden units.

    Raises:
        BadInput: RBMs that are not one for each patch of the layout.
    """
    if len(many) != layout.count or many.weights.shape[2] != layout.dim:
        raise BadInput(
            f"the layout has {layout.count} patches of {layout.dim} pixels, found {len(many)} RBMs of "
            f"{many.weights.shape[2]} visible units"
        )
    # The mean over pixels undone: a small picture's bias is the same number for each pixel it stands for.
    upscale = torch.ones(layout.count, 1, 1)
    upscale[-1] = layout.factor**2
    seen = layout.spread(upscale.expand(-1, 1, layout.dim).contiguous()).sum(dim=0)[0]

    def average(of_patches: Tensor) -> Tensor:
        return layout.spread((of_patches[:, None] * upscale).contiguous()).sum(dim=0)[0] / seen

    weights = many.weights if many.sigma is None else many.weights / many.sigma[:, None]
    spread = layout.spread(weights.contiguous()).flatten(0, 1)
    units: VisibleUnits = Bernoulli()
    if many.sigma is not None:
        # Sigma of a pixel is what the models that see the pixel itself say; that of a mean of pixels is another quantity.
        places = torch.ones(layout.count, 1, layout.dim)
        places[-1] = 0
        covered = layout.spread(places).sum(dim=0)[0]
        sigma = (layout.spread((many.sigma.log()[:, None] * places).contiguous()).sum(dim=0)[0] / covered).exp()
        spread, units = spread * sigma, Gaussian(sigma)
    return RBM(spread.contiguous(), average(many.visible_bias), many.hidden_bias.flatten().clone(), units)


def _starts(length: int, window: int, stride: int) -> list[int]:
    starts = list(range(0, length - window + 1, stride))
    return starts if starts[-1] == length - window else [*starts, length - window]
