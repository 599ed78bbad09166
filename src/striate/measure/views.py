"""Several views of each test picture, their probabilities averaged. Source: Krizhevsky et al. 2012, section 4.1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from striate.errors import BadInput

Kind = Literal["centre", "ten", "nine"]


class View(NamedTuple):
    """One crop of every picture: its upper left corner, and whether it is mirrored."""

    top: int
    left: int
    mirrored: bool


def views_of(kind: Kind, shape: tuple[int, int], crop: int) -> list[View]:
    """The views of a kind.

    Args:
        kind: `centre` alone; `ten`: four corners and the centre, each also mirrored (the paper); `nine`: a grid of three by
            three, none mirrored (cuda-convnet's later test on CIFAR).
        shape: (height, width) of the pictures.
        crop: edge of the crops.

    Raises:
        BadInput: crops larger than the pictures.
    """
    height, width = shape
    if crop > min(shape):
        raise BadInput(f"crops of {crop} pixels do not fit pictures of {height}x{width}")
    bottom, right = height - crop, width - crop
    middle = (bottom // 2, right // 2)
    if kind == "centre":
        return [View(*middle, False)]
    if kind == "nine":
        return [View(top, left, False) for top in (0, middle[0], bottom) for left in (0, middle[1], right)]
    if kind != "ten":
        raise BadInput(f"no views {kind!r}: there are centre, ten and nine")
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), middle]
    return [View(*place, mirrored) for mirrored in (False, True) for place in places]


def cut(pictures: np.ndarray, view: View, crop: int) -> np.ndarray:
    """One view of pictures (n, c, h, w)."""
    part = pictures[:, :, view.top : view.top + crop, view.left : view.left + crop]
    return part[..., ::-1] if view.mirrored else part


def average_views(logits: Callable[[np.ndarray], Tensor], pictures: np.ndarray, views: list[View], crop: int) -> Tensor:
    """Probabilities (n, classes), averaged over views; logits would weigh sure views more.

    Args:
        logits: crops uint8 (n, c, crop, crop) to (n, classes).
        pictures: uint8 (n, c, h, w).
        views: which.
        crop: edge of the crops.
    """
    total: Tensor | None = None
    for view in views:
        found = torch.softmax(logits(cut(pictures, view, crop)).float(), dim=1)
        total = found if total is None else total + found
    assert total is not None
    return total / len(views)
