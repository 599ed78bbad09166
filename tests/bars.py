"""Pictures of a concept, and others, that a small network can tell apart: 16x16, grey."""

from __future__ import annotations

import numpy as np

from striate.draws import generator


def crosses(count: int, name: str) -> np.ndarray:
    """Noise with a bright cross in the middle."""
    noise = generator(0, name).integers(0, 120, (count, 1, 16, 16), dtype=np.uint8)
    noise[..., 7:9, 3:13] = 255
    noise[..., 3:13, 7:9] = 255
    return noise


def others(count: int, name: str) -> np.ndarray:
    """Noise with a bright corner somewhere."""
    noise = generator(0, name).integers(0, 120, (count, 1, 16, 16), dtype=np.uint8)
    for picture, (row, column) in zip(noise, generator(1, name).integers(0, 10, (count, 2))):
        picture[0, row : row + 6, column : column + 2] = 255
        picture[0, row : row + 2, column : column + 6] = 255
    return noise
