"""What every trained model offers, and all that measuring, searching and exporting know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

Images = np.ndarray | Tensor


@runtime_checkable
class Encoder(Protocol):
    """A trained model as a function from pictures to features, layer by layer."""

    layers: tuple[str, ...]
    """Names, nearest the pixels first; the last is what ``encode`` users usually want."""

    image_shape: tuple[int, int, int]
    """(channels, height, width) of the pictures it takes."""

    dims: Mapping[str, int]
    """Number of features of each layer."""

    def encode(self, images: Images, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Features of uint8 pictures (n, c, h, w): layer name -> float32 (n, dims[layer]) on the CPU."""
        ...
