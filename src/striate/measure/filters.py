"""A number for what the eye sees in a filter sheet: which filters are oriented edges, which are points, which are noise.

Krizhevsky 2009 shows the three cases: noise (figure 2.1), points (figure 2.12), edges (figure 2.13). Here each filter is
projected on its own main colour direction, fitted by a Gabor and by a round spot (`gabor.py`), and called

    noise   if neither explains half of its energy, or the Gabor that does spreads over the whole picture;
    point   if a round spot explains it nearly as well as the Gabor does (colour blobs, centre-surround, single pixels);
    edge    otherwise: localised and oriented.

Give it the weights in the space they were learned in (whitened, where the data was whitened). There an untrained filter is
white noise, which neither template explains. Dewhitened, the same noise becomes 1/f noise, and a patch of 8x8 pixels of that is
mostly a slope, which a Gabor of low frequency fits: half of such patches would be called edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from striate.measure.gabor import GaborFit, fit_gabors, fit_spots

KINDS = ("edge", "point", "noise")

# Half of the energy: the fit of eight parameters to 64 pixels of white noise stays below 0.45 (tests/measure).
LEAST_EXPLAINED = 0.5
# A Gabor has four parameters more than a spot and always wins a little; an oriented filter makes it win by more than this.
ORIENTATION_GAIN = 0.12
# The envelope (two standard deviations each way) may cover at most this share of a picture of 16 pixels or more. Patches
# are cut out around what they see, so in them an edge may fill the frame.
MOST_COVERED = 0.6
_LEAST_SIDE_FOR_COVER = 16
_ALIVE = 1e-12
_AT_ONCE = 2048


@dataclass(frozen=True)
class FilterFits:
    """One entry a filter, numpy arrays (k,).

    Attributes:
        kind: index into `KINDS`.
        gabor_r2, spot_r2: share of energy explained.
        x, y, across, along: place and envelope of the Gabor, pixels.
        orientation: of the stripes, radians from the horizontal, 0 to pi.
        frequency: cycles a pixel.
        localisation: share of the energy within a quarter of the picture's area around the filter's centre.
        saturation: share of the energy in colour rather than brightness; 0 for grey pictures.
    """

    kind: np.ndarray
    gabor_r2: np.ndarray
    spot_r2: np.ndarray
    x: np.ndarray
    y: np.ndarray
    across: np.ndarray
    along: np.ndarray
    orientation: np.ndarray
    frequency: np.ndarray
    phase: np.ndarray
    localisation: np.ndarray
    saturation: np.ndarray

    def shares(self) -> dict[str, float]:
        """Share of each kind; they add up to 1."""
        return {name: float((self.kind == number).mean()) for number, name in enumerate(KINDS)}


def fit_filters(pictures: np.ndarray | Tensor) -> FilterFits:
    """Fit filters (k, c, h, w), float, as the model learned them."""
    tensor = torch.as_tensor(np.asarray(pictures), dtype=torch.float32)
    parts = [_fit(tensor[start : start + _AT_ONCE]) for start in range(0, len(tensor), _AT_ONCE)]
    return FilterFits(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _fit(pictures: Tensor) -> dict[str, np.ndarray]:
    grey, saturation = main_colour(pictures)
    alive = grey.square().sum((1, 2)) > _ALIVE
    gabor = fit_gabors(grey)
    spot_r2, _ = fit_spots(grey)
    measured = {
        "kind": _kinds(gabor, spot_r2, alive, grey.shape[1:]),
        "gabor_r2": gabor.r2,
        "spot_r2": spot_r2,
        "x": gabor.x,
        "y": gabor.y,
        "across": gabor.across,
        "along": gabor.along,
        # Stripes run at right angles to the direction across them.
        "orientation": (gabor.theta + math.pi / 2) % math.pi,
        "frequency": gabor.frequency,
        "phase": gabor.phase,
        "localisation": _localisation(grey),
        "saturation": saturation,
    }
    return {name: value.detach().cpu().numpy() for name, value in measured.items()}


def _kinds(gabor: GaborFit, spot_r2: Tensor, alive: Tensor, size: torch.Size) -> Tensor:
    edge, point, noise = range(len(KINDS))
    height, width = size
    spread = min(height, width) >= _LEAST_SIDE_FOR_COVER
    # An ellipse of two standard deviations each way, no larger than the picture along either axis.
    covered = math.pi * (2 * gabor.across).clamp_max(width / 2) * (2 * gabor.along).clamp_max(height / 2) / (height * width)
    oriented = (gabor.r2 >= LEAST_EXPLAINED) & (gabor.r2 - spot_r2 > ORIENTATION_GAIN)
    if spread:
        oriented &= covered <= MOST_COVERED
    round_ = (spot_r2 >= LEAST_EXPLAINED) & ~oriented
    kind = torch.full_like(gabor.r2, noise, dtype=torch.long)
    kind[round_] = point
    kind[oriented] = edge
    kind[~alive] = noise
    return kind


def main_colour(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Each filter along its strongest colour direction, (k, h, w), and the share of its energy off the grey axis, (k,).

    The direction is the first eigenvector of the colours' second moments, so that a red-green edge counts as an edge.
    """
    count, channels, height, width = pictures.shape
    if channels == 1:
        return pictures[:, 0], torch.zeros(count)
    flat = pictures.flatten(2)
    _, vectors = torch.linalg.eigh(flat @ flat.transpose(1, 2))
    grey = torch.einsum("kc,kcp->kp", vectors[:, :, -1], flat).view(count, height, width)
    energy = flat.square().sum((1, 2)).clamp_min(1e-30)
    brightness = flat.sum(dim=1).square().sum(dim=1) / channels
    return grey, (1 - brightness / energy).clamp(0, 1)


def _localisation(pictures: Tensor) -> Tensor:
    height, width = pictures.shape[1:]
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    energy = pictures.square()
    total = energy.sum((1, 2)).clamp_min(1e-30)
    cx, cy = (energy * x).sum((1, 2)) / total, (energy * y).sum((1, 2)) / total
    inside = ((x - cx[:, None, None]).abs() <= width / 4) & ((y - cy[:, None, None]).abs() <= height / 4)
    return (energy * inside).sum((1, 2)) / total
