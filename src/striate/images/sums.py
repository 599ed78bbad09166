"""The mean picture and the principal components of colour, in one exact pass over pictures of any size.

What the convolutional net needs of its data: no covariance of all pixels, which would not fit in memory. Levels and their
products are integers, so sums are exact whatever the order. Source: Krizhevsky, Sutskever, Hinton 2012, sections 2 and 4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Pixels taken at once.
_PIXELS = 1 << 20


@dataclass(frozen=True)
class ColourComponents:
    """Principal components of pixels' colours.

    Attributes:
        deviations: standard deviations along them in levels 0..255, largest first, (channels,) float64.
        vectors: (components, channels) float64, each of length 1, its largest entry positive.
    """

    deviations: np.ndarray
    vectors: np.ndarray


class PictureSums:
    """Running sums over uint8 pictures of one shape: of every pixel, and of colours and their products.

    Args:
        shape: (channels, height, width).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.count = 0
        self._sum = np.zeros(shape, dtype=np.int64)
        self._products = np.zeros((shape[0], shape[0]), dtype=np.int64)

    def update(self, pictures: np.ndarray) -> None:
        """Take in pictures uint8 (n, *shape)."""
        self.count += len(pictures)
        self._sum += pictures.sum(axis=0, dtype=np.int64)
        pixels = pictures.transpose(1, 0, 2, 3).reshape(self.shape[0], -1)
        for start in range(0, pixels.shape[1], _PIXELS):
            # Sums of so many products of 8-bit levels are whole numbers far below 2^53: exact in float64.
            levels = pixels[:, start : start + _PIXELS].astype(np.float64)
            self._products += np.rint(levels @ levels.T).astype(np.int64)

    def merge(self, other: PictureSums) -> None:
        """Take in another's pictures."""
        self.count += other.count
        self._sum += other._sum
        self._products += other._products

    @property
    def mean(self) -> np.ndarray:
        """The mean picture in levels, float64 (channels, height, width)."""
        return self._sum / max(self.count, 1)

    @property
    def colour(self) -> ColourComponents:
        """Of all pixels of all pictures."""
        pixels = max(self.count, 1) * self.shape[1] * self.shape[2]
        mean = self._sum.sum(axis=(1, 2)) / pixels
        covariance = self._products / pixels - np.outer(mean, mean)
        values, vectors = np.linalg.eigh(covariance)
        order = np.argsort(values)[::-1]
        rows = vectors[:, order].T.copy()
        signs = np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)])
        return ColourComponents(np.sqrt(values[order].clip(0)), rows * signs[:, None])

    def state(self) -> dict[str, np.ndarray]:
        """Everything as arrays; enough for `restore`."""
        return {"count": np.array(self.count), "sum": self._sum, "products": self._products}

    @staticmethod
    def restore(state: Mapping[str, np.ndarray]) -> PictureSums:
        """The sums that `state` was taken from."""
        channels, height, width = state["sum"].shape
        sums = PictureSums((channels, height, width))
        sums.count = int(state["count"])
        sums._sum, sums._products = state["sum"].astype(np.int64), state["products"].astype(np.int64)
        return sums
