"""Two sides to tell apart: pictures of a concept, and others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.treatment import Treatment, treat_all


@dataclass(frozen=True)
class Sides:
    """Pictures of a concept and others, treated or as they are.

    Attributes:
        pictures: uint8 (n, c, h, w), those of the concept first.
        positive: bool (n,).
        treated: whether both were treated alike.
        digest: of the stores they are from.
    """

    pictures: np.ndarray
    positive: Tensor
    treated: bool
    digest: str


def two_sides(
    positives: ImageStore, negatives: ImageStore, shape: tuple[int, int, int], treat: bool, limit: int | None, seed: int = 0
) -> Sides:
    """Read both stores, as a model of pictures of a shape wants them.

    Raises:
        BadInput: pictures of another shape.
    """
    if limit is not None and limit < 1:
        raise BadInput(f"--limit must be at least 1, found {limit}")
    parts = [store[: min(len(store), limit or len(store))] for store in (positives, negatives)]
    if treat:
        if shape[1] != shape[2]:
            raise BadInput(f"--treat makes square pictures, this model takes {shape[1]}x{shape[2]}")
        treatment, numbered = Treatment(size=shape[1], seed=seed), 0
        for side, part in enumerate(parts):
            parts[side] = np.repeat(treat_all(part, treatment, numbered), shape[0], axis=1)
            numbered += len(part)
    for store, part in zip((positives, negatives), parts):
        if part.shape[1:] != shape:
            raise BadInput(
                f"{store.path} holds pictures {part.shape[1:]}, this model takes {shape}: import them at that size "
                "(--size, --mode), or let --treat make them alike"
            )
    positive = torch.arange(sum(map(len, parts))) < len(parts[0])
    return Sides(np.concatenate(parts), positive, treat, sides_digest(positives, negatives))


def sides_digest(positives: ImageStore, negatives: ImageStore) -> str:
    """Names the pictures of both sides."""
    return f"{positives.digest[:16]}-{negatives.digest[:16]}"
