"""Patches: small windows cut from pictures at random places, the same for the same seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from striate.draws import generator
from striate.errors import BadInput

_PICTURES_AT_ONCE = 4096
_BATCH_BYTES = 64 << 20


class Pictures(Protocol):
    """What this room asks of a store: a length, a shape, and uint8 (n, c, h, w) for a range or list of positions."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, h, w) of a store, or (n, c, h, w) of an array."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray: ...


def draw_patches(pictures: Pictures, size: int, count: int, seed: int) -> np.ndarray:
    """``count`` patches, uint8 (count, c, size, size), spread evenly over the pictures, places uniform, order shuffled.

    Raises:
        BadInput: the patch is larger than the pictures.
    """
    channels, height, width = pictures.shape[-3:]
    if not 1 <= size <= min(height, width):
        raise BadInput(f"preprocess.patch: patches of {size} pixels do not fit pictures of {height}x{width}")
    random = generator(seed, "patches")
    which = np.sort(np.arange(count) % len(pictures)) if count >= len(pictures) else _some(random, len(pictures), count)
    tops = random.integers(0, height - size + 1, count)
    lefts = random.integers(0, width - size + 1, count)
    out = np.empty((count, channels, size, size), dtype=np.uint8)
    for start in range(0, count, _PICTURES_AT_ONCE):
        rows = slice(start, start + _PICTURES_AT_ONCE)
        out[rows] = _cut(pictures[which[rows]], tops[rows], lefts[rows], size)
    return out[random.permutation(count)]


def _some(random: np.random.Generator, total: int, count: int) -> np.ndarray:
    return np.sort(random.choice(total, count, replace=False))


def _cut(pictures: np.ndarray, tops: np.ndarray, lefts: np.ndarray, size: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(pictures, (size, size), axis=(2, 3))
    return windows[np.arange(len(pictures)), :, tops, lefts]


def batches_of(pictures: Pictures, size: int = 4096, limit: int | None = None) -> Iterator[np.ndarray]:
    """The pictures in order, uint8 (at most size, c, h, w) at a time; fewer where they are large."""
    total = len(pictures) if limit is None else min(limit, len(pictures))
    size = batch_size(pictures, size)
    for start in range(0, total, size):
        yield pictures[start : min(start + size, total)]


def batch_size(pictures: Pictures, most: int = 4096) -> int:
    """So many pictures are taken at once: fewer where they are large."""
    return max(1, min(most, _BATCH_BYTES // math.prod(pictures.shape[-3:])))
