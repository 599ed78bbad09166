"""How a unit's answer changes as what it likes is moved, scaled and turned.

Source: Le et al. 2012, section 4.4 (figures 5 and 6): averaged answers to transformed pictures of faces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Respond = Callable[[np.ndarray], Tensor]
"""Pictures uint8 (n, c, h, w) to answers (n,)."""

STEPS: dict[str, tuple[float, ...]] = {
    "shift right": (-0.25, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.25),
    "shift down": (-0.25, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.25),
    "scale": (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6),
    "turn": (-60.0, -45.0, -30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0, 45.0, 60.0),
}
"""By transformation: shifts as shares of the edge, magnifications, degrees in the plane."""


@dataclass(frozen=True)
class Curve:
    """Answers along one transformation, as shares of the untransformed pictures' mean answer.

    Attributes:
        at: the transformation's amounts.
        mean: over pictures.
        low: their lower quartile.
        high: their upper quartile.
    """

    at: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def by_pose(answers: Tensor, poses: Tensor, baseline: float = 0.0) -> Curve:
    """A unit's curve over poses that pictures come in, as shares of the greatest mean answer of any pose.

    Args:
        answers: (n,).
        poses: of each picture, (n,), say degrees out of the plane.
        baseline: the answer that counts as none.
    """
    at = sorted(set(poses.tolist()))
    parts = [answers[poses == pose].double() - baseline for pose in at]
    most = max((float(part.mean()) for part in parts), key=abs)
    whole = most if abs(most) > 1e-12 else 1.0
    quartiles = [(part / whole).quantile(torch.tensor([0.25, 0.75], dtype=torch.float64)) for part in parts]
    return Curve(
        tuple(map(float, at)),
        tuple(float(part.mean()) / whole for part in parts),
        tuple(float(low) for low, _ in quartiles),
        tuple(float(high) for _, high in quartiles),
    )


def transformed(pictures: np.ndarray, kind: str, amount: float) -> np.ndarray:
    """Pictures uint8 (n, c, h, w) shifted, scaled or turned about their middle, by cubic interpolation; mirrored beyond."""
    angle, scale, right, down = 0.0, 1.0, 0.0, 0.0
    if kind == "turn":
        angle = float(np.deg2rad(amount))
    elif kind == "scale":
        scale = amount
    elif kind == "shift right":
        right = 2 * amount
    else:
        down = 2 * amount
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    # From places of the result, in [-1, 1], to places of the picture.
    back = torch.tensor([[cosine, sine, -right], [-sine, cosine, -down]])
    levels = torch.from_numpy(np.ascontiguousarray(pictures)).float()
    grid = F.affine_grid(back.float().expand(len(levels), 2, 3), list(levels.shape), align_corners=False)
    moved = F.grid_sample(levels, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return moved.round().clamp(0, 255).byte().numpy()


def invariance(respond: Respond, pictures: np.ndarray, baseline: float = 0.0) -> dict[str, Curve]:
    """A unit's curves over some pictures that it likes.

    Args:
        respond: the unit.
        pictures: uint8 (n, c, h, w).
        baseline: the answer that counts as none, for example the mean over other pictures.

    Returns:
        By transformation.
    """
    plain = float(respond(pictures).mean()) - baseline
    whole = plain if abs(plain) > 1e-12 else 1.0
    curves = {}
    for kind, amounts in STEPS.items():
        answers = torch.stack([respond(transformed(pictures, kind, amount)) for amount in amounts]).double()
        shares = (answers - baseline) / whole
        low, high = shares.quantile(torch.tensor([0.25, 0.75], dtype=torch.float64), dim=1)
        curves[kind] = Curve(amounts, *(tuple(map(float, values)) for values in (shares.mean(dim=1), low, high)))
    return curves
