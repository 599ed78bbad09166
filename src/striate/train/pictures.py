"""Labelled pictures as training data: crops cut anew each epoch, by threads that work while the step before is computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from striate.preprocess.crops import Cropper


class Crops(NamedTuple):
    """A batch for a convolutional net.

    Attributes:
        pixels: levels, uint8 (n, channels, crop, crop).
        shift: levels added to each channel, float32 (n, channels).
        labels: int64 (n,).
    """

    pixels: Tensor
    shift: Tensor
    labels: Tensor

    def to(self, device: torch.device | str, /) -> Crops:
        """All elsewhere; on a GPU the copy overlaps with what it computes."""
        return Crops(*(tensor.to(device, non_blocking=True) for tensor in self))


class CroppedPictures:
    """Crops of labelled pictures.

    Args:
        pictures: positions to uint8 (n, c, h, w); may decode.
        labels: int64, of all pictures.
        positions: those to use.
        cropper: draws and cuts.
        workers: threads that gather and decode; 0 does it where it is asked for.
        pinned: put batches where a GPU can fetch them by itself.
    """

    def __init__(
        self,
        pictures: Callable[[np.ndarray], np.ndarray],
        labels: Tensor,
        positions: np.ndarray,
        cropper: Cropper,
        workers: int = 1,
        pinned: bool = False,
    ) -> None:
        self._pictures, self._labels, self._positions, self._cropper = pictures, labels, positions, cropper
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="crops") if workers > 1 else None
        self._workers, self._pinned = workers, pinned
        # With workers, the batch after this one is made while this one is used.
        self.in_memory = workers == 0

    def __len__(self) -> int:
        return len(self._positions)

    def take(self, positions: np.ndarray, epoch: int = 0) -> Crops:
        """One batch; the same whatever the number of workers."""
        chosen = self._positions[positions]
        if self._pool is None:
            pixels, shift = self._cut(chosen, epoch)
        else:
            pieces = list(self._pool.map(lambda piece: self._cut(piece, epoch), np.array_split(chosen, self._workers)))
            pixels, shift = (np.concatenate(parts) for parts in zip(*pieces))
        batch = Crops(torch.from_numpy(pixels), torch.from_numpy(shift), self._labels[torch.from_numpy(chosen)])
        return Crops(*(tensor.pin_memory() for tensor in batch)) if self._pinned else batch

    def _cut(self, chosen: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        return self._cropper.cut(self._pictures(chosen), chosen, epoch)
