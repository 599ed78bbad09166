"""What the covariance of pictures shows: neighbours alike, colours alike, mirror symmetry. Krizhevsky 2009, section 1.2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PixelCorrelations:
    """Mean correlations between pixels.

    Attributes:
        by_distance: (max distance,) of pixels so many columns or rows apart, same colour; index 0 is distance 1.
        diagonal: of diagonal neighbours.
        colours: between colours at one pixel.
        mirrored: of a pixel's correlation map with the map of its mirror image, mirrored: 1 is perfect symmetry.
    """

    by_distance: np.ndarray
    diagonal: float
    colours: float
    mirrored: float


def correlation(covariance: np.ndarray) -> np.ndarray:
    """A covariance matrix (d, d) as correlations; pixels that never vary have none (0)."""
    deviation = np.sqrt(np.maximum(covariance.diagonal(), 0))
    return covariance / np.maximum(np.outer(deviation, deviation), 1e-12)


def pixel_correlations(covariance: np.ndarray, shape: tuple[int, int, int]) -> PixelCorrelations:
    """Summaries of a covariance (d, d) of pictures of a shape (channels, height, width)."""
    channels, height, width = shape
    full = correlation(covariance).reshape(channels, height, width, channels, height, width)
    by_distance = [_shifted(full, shape, apart, 0) for apart in range(1, width // 2 + 1)]
    mirrored = full[:, :, ::-1, :, :, ::-1]
    colours = [np.einsum("yxyx->yx", full[a, :, :, b]).mean() for a in range(channels) for b in range(a)]
    return PixelCorrelations(
        np.array(by_distance),
        _shifted(full, shape, 1, 1),
        float(np.mean(colours)) if colours else 1.0,
        float(np.corrcoef(full.ravel(), mirrored.ravel())[0, 1]),
    )


def _shifted(full: np.ndarray, shape: tuple[int, int, int], across: int, down: int) -> float:
    """Mean correlation of pixels so far apart, both ways round where only one shift is given."""
    channels, height, width = shape
    values = []
    for dx, dy in {(across, down), (down, across)}:
        for channel in range(channels):
            same = full[channel, :, :, channel]
            y, x = np.mgrid[0 : height - dy, 0 : width - dx]
            values.append(same[y, x, y + dy, x + dx].mean())
    return float(np.mean(values))
