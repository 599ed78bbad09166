"""Preprocessing fitted on a whole store, stretch by stretch: sums of each, wherever they are made, added up in order.

Stretches are cut by their number of pictures and nothing else, so the sums are the same to the last bit whoever made them. Of
levels they are exact anyway; of contrast-normalised rows, which are fractions, the order of adding fixes the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from striate.errors import BadInput
from striate.images.sums import PictureSums
from striate.images.work import Each, one_by_one
from striate.preprocess.contrast import normalise_contrast
from striate.preprocess.moments import Moments
from striate.preprocess.patches import Pictures, batch_size
from striate.preprocess.preprocessor import Preprocessor, PreprocessSettings

# Pictures of a stretch: at 3,072 dimensions its products take 40 times what sending its sums (75 MB) does.
STRETCH = 8192


def fitted(pictures: Pictures, settings: PreprocessSettings, each: Each = one_by_one, stretch: int = STRETCH) -> Preprocessor:
    """What `Preprocessor.fit` gives, of pictures that can be asked for by position.

    Args:
        pictures: uint8; pickled, where `each` works elsewhere.
        settings: how.
        each: has the sums of stretches made.
        stretch: pictures in one; where there is contrast normalisation, the last digits depend on it.

    Raises:
        BadInput: too few pictures, or more deletion than dimensions.
    """
    if len(pictures) < 2:
        raise BadInput(f"preprocessing needs at least 2 pictures, found {len(pictures)}")
    channels, height, width = pictures.shape[-3:]
    shape = (channels, height, width)
    starts = range(0, len(pictures), stretch)
    if settings.kind == "mean":
        sums = PictureSums(shape)
        for _, part in each(_SumsOf(pictures, stretch), starts):
            sums.merge(part)
        return Preprocessor.from_sums(sums, settings)
    moments = Moments(math.prod(shape))
    for _, found in each(_MomentsOf(pictures, stretch, _shift(pictures, settings)), starts):
        moments.absorb(found)
    return Preprocessor.from_moments(moments, settings, shape)


def _shift(pictures: Pictures, settings: PreprocessSettings) -> np.ndarray | None:
    """What is taken off fractions, near their mean, so that sums of squares keep their digits."""
    if not settings.contrast:
        return None
    first = pictures[: batch_size(pictures)]
    return normalise_contrast(torch.from_numpy(first).flatten(1).float()).double().mean(dim=0).numpy()


def _batches(pictures: Pictures, start: int, stretch: int) -> Iterator[np.ndarray]:
    """A stretch, as much at a time as fits in memory."""
    stop = min(start + stretch, len(pictures))
    for at in range(start, stop, batch_size(pictures)):
        yield pictures[at : min(at + batch_size(pictures), stop)]


@dataclass(frozen=True)
class _SumsOf:
    """From a stretch's start to the sums of its pixels and colours."""

    pictures: Pictures
    stretch: int

    def __call__(self, start: int) -> PictureSums:
        channels, height, width = self.pictures.shape[-3:]
        sums = PictureSums((channels, height, width))
        for batch in _batches(self.pictures, start, self.stretch):
            sums.update(batch)
        return sums


@dataclass(frozen=True)
class _MomentsOf:
    """From a stretch's start to the moments of its rows; with a shift, of contrast-normalised ones."""

    pictures: Pictures
    stretch: int
    shift: np.ndarray | None

    def __call__(self, start: int) -> Moments:
        shift = None if self.shift is None else torch.from_numpy(self.shift.copy())
        moments = Moments(math.prod(self.pictures.shape[-3:]), shift)
        for batch in _batches(self.pictures, start, self.stretch):
            moments.update(self._rows(torch.from_numpy(batch).flatten(1)))
        return moments

    def _rows(self, rows: Tensor) -> Tensor:
        return rows if self.shift is None else normalise_contrast(rows.float())
