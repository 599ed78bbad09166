"""Locally connected layers: a filter bank of its own at every place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def local_filters(x: Tensor, weight: Tensor, bias: Tensor, size: int, pad: int = 0) -> Tensor:
    """Apply untied filters with stride 1.

    Args:
        x: (n, channels, height, width).
        weight: (places, maps, channels * size * size), places row by row.
        bias: (places, maps).
        size: edge of a filter.
        pad: zeros on all four sides.

    Returns:
        (n, maps, height + 2 pad - size + 1, width + 2 pad - size + 1).
    """
    count = x.shape[0]
    height, width = (edge + 2 * pad - size + 1 for edge in x.shape[2:])
    # One product a place: (places, n, inputs) @ (places, inputs, maps).
    patches = F.unfold(x, size, padding=pad).permute(2, 0, 1)
    out = torch.baddbmm(bias[:, None].to(patches.dtype), patches, weight.transpose(1, 2).to(patches.dtype))
    return out.permute(1, 2, 0).reshape(count, -1, height, width)
