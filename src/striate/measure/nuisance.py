"""What tells two collections of pictures apart without showing anything: colour, sharpness, contrast and brightness.

A unit that finds faces only as well as one of these has found a habit of the files.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from striate.measure.concept import score_units


def nuisances(pictures: np.ndarray) -> dict[str, Tensor]:
    """One number a picture, by name.

    Args:
        pictures: uint8 (n, c, h, w).

    Returns:
        `colour`: mean distance of channels from their mean; `sharpness`: mean absolute difference of neighbours beside the
        standard deviation; `contrast`: standard deviation; `brightness`: mean; each (n,), in levels.
    """
    found: dict[str, list[Tensor]] = {"colour": [], "sharpness": [], "contrast": [], "brightness": []}
    for start in range(0, len(pictures), 500):
        levels = torch.from_numpy(pictures[start : start + 500]).float()
        grey = levels.mean(dim=1)
        contrast = grey.flatten(1).std(dim=1)
        steps = grey.diff(dim=1).abs().flatten(1).mean(dim=1) + grey.diff(dim=2).abs().flatten(1).mean(dim=1)
        found["colour"].append((levels - grey[:, None]).abs().flatten(1).mean(dim=1))
        found["sharpness"].append(steps / contrast.clamp_min(1e-3))
        found["contrast"].append(contrast)
        found["brightness"].append(grey.flatten(1).mean(dim=1))
    return {name: torch.cat(parts) for name, parts in found.items()}


def nuisance_accuracies(pictures: np.ndarray, positive: Tensor) -> dict[str, float]:
    """How well each tells concept pictures from others by the paper's protocol, whichever side of a threshold they are on."""
    return {
        name: float(score_units(torch.stack([values, -values], dim=1), positive).accuracy.max())
        for name, values in nuisances(pictures).items()
    }
