"""One RBM of whole pictures made of copies of a patch RBM. Source: Krizhevsky 2009, section 2.5.1, figure 2.7.

Weights to pixels outside a copy's patch are zero; a pixel's bias is the average over the copies that see it. The paper trains
one patch RBM a place; here one serves all places, whose statistics are nearly the same, with as many times the data.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from striate.errors import BadInput
from striate.models.rbm.rbm import RBM
from striate.models.rbm.units import Gaussian


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


def _starts(length: int, window: int, stride: int) -> list[int]:
    starts = list(range(0, length - window + 1, stride))
    return starts if starts[-1] == length - window else [*starts, length - window]
