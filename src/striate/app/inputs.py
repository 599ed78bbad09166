"""What classifiers learn from: a model's features of a store's pictures, or their raw pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from striate.app.features import Features
from striate.images import ImageStore
from striate.measure.fewshot import Scale, scale_of
from striate.measure.logistic import is_large

_AT_ONCE = 2048


@dataclass(frozen=True)
class Inputs:
    """Rows by position.

    Attributes:
        name: for people.
        count: how many.
        dim: their width.
        take: positions -> float32 (n, dim).
    """

    name: str
    count: int
    dim: int
    take: Callable[[np.ndarray], np.ndarray]

    def blocks(self, positions: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Rows of some positions, or of all, some at a time."""
        chosen = np.arange(self.count) if positions is None else positions
        for start in range(0, len(chosen), _AT_ONCE):
            yield self.take(chosen[start : start + _AT_ONCE])

    def scale(self) -> Scale:
        """Of all rows, labelled or not."""
        return scale_of(self.blocks())

    def ready(self, scale: Scale, positions: np.ndarray) -> Tensor:
        """Rows made ready, (n, dim); in half the bytes where there are many."""
        shape = (len(positions), self.dim)
        large = is_large(torch.empty(shape, device="meta"))
        out = torch.empty(shape, dtype=torch.bfloat16 if large else torch.float32)
        start = 0
        for block in self.blocks(positions):
            out[start : start + len(block)] = scale.ready(torch.from_numpy(block))
            start += len(block)
        return out


def features_as_inputs(features: Features) -> Inputs:
    """A layer's features."""
    return Inputs(f"features ({features.about['layer']})", len(features), features.dim, features.take)


def pixels_as_inputs(store: ImageStore) -> Inputs:
    """Raw pixels, from 0 to 1."""

    def take(positions: np.ndarray) -> np.ndarray:
        return store[positions].reshape(len(positions), -1).astype(np.float32) / 255

    return Inputs("raw pixels", len(store), int(np.prod(store.shape)), take)
