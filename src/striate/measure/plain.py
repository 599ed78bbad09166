"""Scores of pictures that show nothing worth a label: mostly white, of a single colour, or drawn rather than photographed.

Krizhevsky 2009, section 3.1, removes mostly white pictures before anybody labels; its instructions leave line drawings out.
"""

from __future__ import annotations

import numpy as np

_WHITE_LEVEL = 240
# Levels a colour may vary by and count as one: beyond JPEG's noise in an even area, below a photograph's grain and shading.
_ONE_COLOUR = 12


def white_share(pictures: np.ndarray) -> np.ndarray:
    """Share (n,) of pixels of uint8 pictures (n, c, h, w) that are white or nearly so."""
    return (pictures.min(axis=1) >= _WHITE_LEVEL).mean(axis=(1, 2))


def deviation(pictures: np.ndarray) -> np.ndarray:
    """Largest, over colours, of the standard deviations (n,) of their levels: about 0 for a picture of a single colour."""
    return pictures.astype(np.float32).std(axis=(2, 3)).max(axis=1)


def drawing_score(pictures: np.ndarray) -> np.ndarray:
    """How much pictures look drawn, (n,) from 0 to 1: few even colours, and edges between them that are abrupt.

    The share of pixels whose neighbours (right and below) are of the same colour, times the share of the other steps that are
    abrupt. Photographs shade and have grain: both are small.
    """
    levels = pictures.astype(np.int16)
    steps = np.concatenate(
        [
            np.abs(np.diff(levels, axis=3)).max(axis=1).reshape(len(levels), -1),
            np.abs(np.diff(levels, axis=2)).max(axis=1).reshape(len(levels), -1),
        ],
        axis=1,
    )
    even = (steps <= _ONE_COLOUR // 3).mean(axis=1)
    uneven = steps > _ONE_COLOUR // 3
    abrupt = ((steps >= 4 * _ONE_COLOUR).sum(axis=1) + 1e-9) / np.maximum(uneven.sum(axis=1), 1)
    return even * np.minimum(abrupt, 1)
