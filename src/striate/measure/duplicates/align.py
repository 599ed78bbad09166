"""Distance between two pictures of which one may be cropped, shifted or scaled a little: after the best alignment.

Two steps. Tangents (Simard, LeCun and Denker 1993) tell at a glance: a picture moved by a little is itself plus a sum of four
derivatives (shift and scale, each way), so the distance from one picture's tangent plane to the other's is what alignment
would leave, as far as low frequencies go. Who passes is aligned in earnest: Gauss-Newton steps on the same four numbers
(Lucas and Kanade 1981), the picture sampled anew at each, and compared where both have pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Ridge on tangent planes of rows of norm 1: along flat directions a plane must not reach everything.
_TANGENT_RIDGE = 0.01
_STEP_RIDGE = 0.01
_COARSE_STEPS, _FINE_STEPS = 3, 4
_TANGENTS = 4
_BLUR = (1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9)
_AT_ONCE = 512


def tangents(pictures: Tensor) -> Tensor:
    """Derivatives of pictures (n, c, h, w) by shift and scale, x and y, a pixel (at the edge): (n, 4, c * h * w)."""
    across, down = _slopes(pictures)
    x, y = _places(pictures.shape[-2:])
    return torch.stack([across, down, across * x, down * y], dim=1).flatten(2)


def tangent_distances(first: Tensor, first_tangents: Tensor, second: Tensor, second_tangents: Tensor) -> Tensor:
    """Distances (n,) between tangent planes of rows (n, d) with tangents (n, 4, d)."""
    difference = second - first
    plane = torch.cat([first_tangents, second_tangents], dim=1)
    gram = plane @ plane.transpose(1, 2) + _TANGENT_RIDGE * torch.eye(2 * _TANGENTS)
    along = torch.cholesky_solve((plane @ difference[:, :, None]), torch.linalg.cholesky(gram))
    return (difference - (along.transpose(1, 2) @ plane)[:, 0]).norm(dim=1)


def aligned_distances(first: Tensor, second: Tensor, most: float, threshold: float) -> Tensor:
    """Contrast distances (n,) between pictures (n, c, h, w), the smaller of those after moving the first and the second.

    Pairs that are clearly further apart than the threshold are given a distance beyond it, not their own: those that a
    coarse alignment leaves further apart, and those that moving the first leaves at twice the threshold. Pairs that are
    nearer than half of it are not tried the other way round.

    Args:
        first, second: float pictures.
        most: pixels a side may move.
        threshold: distances beyond it need not be exact.
    """
    parts = []
    for a, b in zip(first.split(_AT_ONCE), second.split(_AT_ONCE), strict=True):
        found = torch.minimum(_plain(a, b), _aligned(a, b, most, threshold))
        again = (found > threshold / 2) & (found < 2 * threshold)
        found[again] = torch.minimum(found[again], _aligned(b[again], a[again], most, threshold))
        parts.append(found)
    return torch.cat(parts) if parts else torch.empty(0)


def _plain(first: Tensor, second: Tensor) -> Tensor:
    whole = torch.ones_like(first[:, :1])
    return (_contrast(first, whole) - _contrast(second, whole)).flatten(1).norm(dim=1)


def _aligned(moving: Tensor, still: Tensor, most: float, threshold: float) -> Tensor:
    """Distances once `moving` has been shifted and scaled as suits `still` best.

    Where blurred pictures stay further apart than the threshold, or the result is beyond twice the threshold: that.
    """
    moved = torch.zeros(len(moving), _TANGENTS)
    coarse, coarse_still = _blurred(moving), _blurred(still)
    left = torch.zeros(len(moving))
    for _ in range(_COARSE_STEPS + 1):
        moved, left = _step(coarse, coarse_still, moved, most)
    best = torch.full((len(moving),), 2 * threshold)
    near = left <= threshold
    moving, still, moved = moving[near], still[near], moved[near]
    for _ in range(_FINE_STEPS):
        moved, distances = _step(moving, still, moved, most)
        best[near] = torch.minimum(best[near], distances)
    return best


def _step(moving: Tensor, still: Tensor, moved: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """One Gauss-Newton step, and the distances before it."""
    warped, seen = _warp(moving, moved)
    warped = _contrast(warped, seen)
    left = (_contrast(still, seen) - warped).flatten(1)
    slopes = tangents(warped) * seen.expand(-1, moving.shape[1], -1, -1).flatten(1)[:, None]
    gram = slopes @ slopes.transpose(1, 2)
    gram = gram + torch.diag_embed(_STEP_RIDGE * gram.diagonal(dim1=1, dim2=2) + 1e-6)
    change = torch.linalg.solve(gram, slopes @ left[:, :, None])[..., 0]
    return (moved + change).clamp(-most, most), left.norm(dim=1)


def _warp(pictures: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures seen through a window that is shifted by moved[:, :2] and wider by moved[:, 2:] pixels at its edge, each way.

    Returns:
        The pictures, and where (n, 1, h, w) the window lies within them.
    """
    height, width = pictures.shape[-2:]
    half = torch.tensor([width / 2, height / 2])
    shift, scale = moved[:, None, None, :2] / half, moved[:, None, None, 2:] / half
    x, y = _places((height, width))
    window = torch.stack(torch.broadcast_tensors(x, y), dim=-1)
    grid = window * (1 + scale) + shift
    seen = (grid.abs() <= 1 + 1e-4).all(dim=-1)[:, None].float()
    return F.grid_sample(pictures, grid, mode="bicubic", padding_mode="border", align_corners=False), seen


def _places(size: torch.Size | tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where pixels lie between -1 and 1: x (width,), y (height, 1)."""
    height, width = size
    return (torch.arange(width) * 2 + 1) / width - 1, ((torch.arange(height) * 2 + 1) / height - 1)[:, None]


def _slopes(pictures: Tensor) -> tuple[Tensor, Tensor]:
    across, down = torch.zeros_like(pictures), torch.zeros_like(pictures)
    across[..., 1:-1] = (pictures[..., 2:] - pictures[..., :-2]) / 2
    down[..., 1:-1, :] = (pictures[..., 2:, :] - pictures[..., :-2, :]) / 2
    return across, down


def _blurred(pictures: Tensor) -> Tensor:
    """By 1 2 3 2 1 each way."""
    height, width = pictures.shape[-2:]
    padded = F.pad(pictures, (2, 2, 2, 2), mode="replicate")
    across = sum(weight * padded[..., i : i + width] for i, weight in enumerate(_BLUR))
    assert isinstance(across, Tensor)
    down = sum(weight * across[..., i : i + height, :] for i, weight in enumerate(_BLUR))
    assert isinstance(down, Tensor)
    return down


def _contrast(pictures: Tensor, seen: Tensor) -> Tensor:
    """Mean removed and norm 1 over the pixels seen, 0 elsewhere."""
    count = seen.sum(dim=(1, 2, 3), keepdim=True) * pictures.shape[1]
    centred = (pictures - (pictures * seen).sum(dim=(1, 2, 3), keepdim=True) / count) * seen
    return centred / centred.flatten(1).norm(dim=1).clamp_min(1e-6)[:, None, None, None]
