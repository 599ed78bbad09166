"""Features of whole stores, encoded once and kept beside the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from striate.app.load import load
from striate.app.probing import encode_all
from striate.app.screen import Screen
from striate.errors import BadInput
from striate.images import ImageStore


def features_of(run: Path, stores: Sequence[ImageStore], layer: str | None, screen: Screen) -> np.ndarray:
    """Features (n, dim), float32, of one store after another, by a run's last layer or another.

    Raises:
        BadInput: the run does not fit the pictures, or has no such layer.
    """
    parts = []
    for store in stores:
        encoder = load(run, store.shape)
        if encoder.image_shape != store.shape:
            raise BadInput(f"{run} was trained on pictures {encoder.image_shape}, {store.path} holds {store.shape}")
        # The store itself, not its pictures: they are read as they are encoded.
        parts.append(encode_all(encoder, store, layer or encoder.layers[-1], screen).float().numpy())
    return np.concatenate(parts)
