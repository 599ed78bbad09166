"""Crops, reflections and colour noise: what makes many training pictures of one. Source: Krizhevsky et al. 2012, section 4.1.

Every draw is keyed by (seed, epoch, index of the picture), so a batch is the same whoever makes it and whenever.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch

from striate.draws import generator
from striate.errors import BadInput
from striate.images.sums import ColourComponents

Reading = Literal["deviation", "eigenvalue", "eigenvalue-unit"]


@dataclass(frozen=True)
class CropSettings:
    """How training crops are drawn.

    Attributes:
        crop: edge of a crop; None for whole pictures.
        offsets: `all` positions there are (33 each way of 224 in 256, as both providers of the authors' code draw); `paper` one
            fewer, the text's factor of 2,048, which never shows the lower and right corners of test time.
        reflect: mirror half of them.
        chunk: so many pictures in a row share a crop and its reflection (32 in the authors' code).
        colour_noise: standard deviation of the factors on colour components; 0 for none.
        colour: what the factors multiply: `deviation` the components' standard deviations in levels (the code: 12 levels along
            the first), `eigenvalue` their variances in squared levels (the text, word by word: 1,483 levels, which drowns any
            picture), `eigenvalue-unit` their variances of levels scaled to 0..1 (common later: 6 levels).
        colour_until: the epoch from which there is no colour noise, or None.
    """

    crop: int | None = None
    offsets: Literal["all", "paper"] = "all"
    reflect: bool = False
    chunk: int = 1
    colour_noise: float = 0.0
    colour: Reading = "deviation"
    colour_until: int | None = None

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise BadInput(f"augment.chunk is at least 1, found {self.chunk}")
        if self.colour not in ("deviation", "eigenvalue", "eigenvalue-unit"):
            raise BadInput(f"augment.colour {self.colour!r} is unknown: use deviation, eigenvalue or eigenvalue-unit")


class Drawn(NamedTuple):
    """One epoch's draws, a row a picture.

    Attributes:
        top, left: of the crop, int (n,).
        mirrored: bool (n,).
        shift: levels added to each channel, float32 (n, channels).
    """

    top: np.ndarray
    left: np.ndarray
    mirrored: np.ndarray
    shift: np.ndarray


class Cropper:
    """Draws and cuts crops.

    Args:
        settings: how.
        count: number of pictures.
        shape: of each.
        seed: of all draws.
        colour: components of the pictures' colours; needed for colour noise only.

    Raises:
        BadInput: crops larger than the pictures.
    """

    def __init__(
        self,
        settings: CropSettings,
        count: int,
        shape: tuple[int, int, int],
        seed: int,
        colour: ColourComponents | None = None,
    ) -> None:
        channels, height, width = shape
        edge = settings.crop
        if edge is not None and edge > min(height, width):
            raise BadInput(f"augment.crop is {edge} pixels, the pictures have {height}x{width}")
        self.settings, self._count, self._shape, self._seed, self._colour = settings, count, shape, seed, colour
        self.shape = (channels, edge or height, edge or width)
        self.drawn = lru_cache(maxsize=2)(self._draw)

    def _draw(self, epoch: int) -> Drawn:
        """Every picture's draws in an epoch."""
        channels, height, width = self._shape
        borders = [height - self.shape[1], width - self.shape[2]]
        if self.settings.offsets == "paper":
            borders = [max(border - 1, 0) for border in borders]
        chunks = -(-self._count // self.settings.chunk)
        random = generator(self._seed, "crop", epoch)
        top, left = (random.integers(0, border + 1, chunks) for border in borders)
        mirrored = random.integers(0, 2, chunks).astype(bool) & self.settings.reflect
        of = np.arange(self._count) // self.settings.chunk
        return Drawn(top[of], left[of], mirrored[of], self._shifts(epoch, channels))

    def _shifts(self, epoch: int, channels: int) -> np.ndarray:
        settings = self.settings
        over = settings.colour_until is not None and epoch >= settings.colour_until
        if not settings.colour_noise or over or self._colour is None:
            return np.zeros((self._count, channels), dtype=np.float32)
        factors = generator(self._seed, "colour", epoch).normal(0, settings.colour_noise, (self._count, channels))
        return (factors @ (colour_amplitudes(self._colour, settings.colour)[:, None] * self._colour.vectors)).astype(np.float32)

    def cut(self, pictures: np.ndarray, positions: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Crops and shifts of pictures (n, c, h, w) at these positions of the data: (n, c, crop, crop) and (n, channels)."""
        drawn = self.drawn(epoch)
        channels, height, width = self.shape
        if pictures.strides[1] == pictures.itemsize:
            # Decoders give colours side by side: rows are then copied whole, and torch takes that for channels-last memory.
            out = np.empty((len(pictures), height, width, channels), dtype=pictures.dtype).transpose(0, 3, 1, 2)
        else:
            out = np.empty((len(pictures), *self.shape), dtype=pictures.dtype)
        for row, position in enumerate(positions):
            top, left = drawn.top[position], drawn.left[position]
            out[row] = pictures[row, :, top : top + height, left : left + width]
        turned = np.flatnonzero(drawn.mirrored[positions])
        if len(turned):
            # torch mirrors pixels of three bytes eight at a time; numpy takes them one by one.
            out[turned] = torch.from_numpy(out)[torch.from_numpy(turned)].flip(3).numpy()
        return out, drawn.shift[positions]


def colour_amplitudes(colour: ColourComponents, reading: Reading) -> np.ndarray:
    """What the noise's factors multiply along each component, in levels."""
    deviations = colour.deviations
    if reading == "deviation":
        return deviations
    return deviations**2 if reading == "eigenvalue" else deviations**2 / 255


def centre(pictures: np.ndarray, crop: int | None) -> np.ndarray:
    """The centre crop of pictures (..., h, w), a view."""
    if crop is None:
        return pictures
    top, left = ((edge - crop) // 2 for edge in pictures.shape[-2:])
    return pictures[..., top : top + crop, left : left + crop]
