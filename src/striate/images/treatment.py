"""The same random treatment of every picture, so that what tells two collections apart is what they show.

Photographs of faces and photographs of everything differ in colour, sharpness and file format before they differ in content: on
raw files a measure of colourfulness alone tells our faces from distractors nine times in ten. Here every picture becomes grey,
is shifted, scaled, blurred and encoded alike, and given the same brightness and contrast; draws are keyed by (seed, picture).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from striate.draws import generator
from striate.errors import BadInput

# Levels that every picture's mean and standard deviation become.
_MEAN, _DEVIATION = 128.0, 50.0


@dataclass(frozen=True)
class Treatment:
    """What is done to each picture.

    Attributes:
        size: edge of the square that comes out, in pixels.
        shift: most of a random shift each way, as a share of the edge.
        scales: least and most of a random magnification, drawn evenly on a logarithmic scale; beyond the picture is its mirror.
        blurs: least and most standard deviation, in pixels of the result, of a random Gaussian blur, drawn the same way.
        quality: of the JPEG that it goes through; 0 for none.
        seed: of the draws.
    """

    size: int = 64
    shift: float = 0.18
    scales: tuple[float, float] = (0.8, 1.6)
    blurs: tuple[float, float] = (0.7, 2.0)
    quality: int = 75
    seed: int = 0

    def __post_init__(self) -> None:
        for low, high in (self.scales, self.blurs):
            if not 0 < low <= high or not 0 <= self.shift < 0.5 or self.size < 8:
                raise BadInput(f"a treatment needs 0 < least <= most, a shift below 0.5 and a size from 8: found {self}")

    def apply(self, picture: np.ndarray, number: int) -> np.ndarray:
        """Treat one picture.

        Args:
            picture: uint8 (1 or 3, height, width).
            number: names its draws.

        Returns:
            uint8 (1, size, size).
        """
        channels_last = picture.transpose(1, 2, 0)
        grey = Image.fromarray(channels_last if len(picture) == 3 else channels_last[..., 0]).convert("L")
        edge = min(grey.size)
        left, top = ((side - edge) // 2 for side in grey.size)
        square = grey.resize((self.size, self.size), Image.Resampling.BOX, box=(left, top, left + edge, top + edge))
        draws = generator(self.seed, "treatment", number).random(4)
        moved = self._moved(np.asarray(square), draws[:2], _between(self.scales, draws[2]))
        moved = moved.filter(ImageFilter.GaussianBlur(_between(self.blurs, draws[3])))
        if self.quality:
            buffer = io.BytesIO()
            moved.save(buffer, "JPEG", quality=self.quality)
            moved = Image.open(buffer)
        levels = np.asarray(moved, dtype=np.float32)
        spread = max(float(levels.std()), 1.0)
        return np.clip(np.rint((levels - levels.mean()) / spread * _DEVIATION + _MEAN), 0, 255).astype(np.uint8)[None]

    def _moved(self, square: np.ndarray, at: np.ndarray, scale: float) -> Image.Image:
        seen, reach = self.size / scale, self.size - 1
        # A window of the mirrored picture: where its middle is, and how much it sees.
        mirrored = np.pad(square, reach, mode="reflect")
        x, y = (float(one) for one in reach + self.size * (0.5 + self.shift * (2 * at - 1)))
        box = (x - seen / 2, y - seen / 2, x + seen / 2, y + seen / 2)
        return Image.fromarray(mirrored).resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)


def _between(limits: tuple[float, float], draw: float) -> float:
    """Evenly between two limits on a logarithmic scale."""
    low, high = limits
    return float(low * (high / low) ** draw)


def treat_all(pictures: np.ndarray, treatment: Treatment, first: int = 0) -> np.ndarray:
    """Pictures uint8 (n, c, h, w), numbered from `first` on, treated: uint8 (n, 1, size, size)."""
    out = np.empty((len(pictures), 1, treatment.size, treatment.size), dtype=np.uint8)
    for row, picture in enumerate(pictures):
        out[row] = treatment.apply(picture, first + row)
    return out
