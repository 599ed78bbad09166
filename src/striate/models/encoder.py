"""What every trained model offers, and all that measuring, searching and exporting know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from striate.errors import BadInput

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


class RowMaker(Protocol):
    """Pictures to the rows a model sees (a `Preprocessor`)."""

    shape: tuple[int, int, int]

    @property
    def dim(self) -> int:
        """Width of a row."""
        ...

    def apply(self, pictures: np.ndarray | Tensor) -> Tensor:
        """(n, c, h, w) to (n, dim)."""
        ...

    def fold(self, weights: Tensor) -> tuple[Tensor, Tensor] | None:
        """W' and offset with W apply(x) = W' x - offset, where that is possible."""
        ...


def check_layers(asked: Sequence[str] | None, there: tuple[str, ...]) -> tuple[str, ...]:
    """The layers asked for, by default the last.

    Raises:
        BadInput: there is no such layer.
    """
    wanted = (there[-1],) if asked is None else tuple(asked)
    for name in wanted:
        if name not in there:
            raise BadInput(f"no layer {name!r}: this model has {', '.join(there)}")
    return wanted


def check_shape(images: Images, shape: tuple[int, int, int]) -> None:
    """Raise `BadInput` unless pictures (n, c, h, w) are of a shape."""
    if tuple(images.shape[1:]) != shape:
        raise BadInput(f"pictures of shape {tuple(images.shape[1:])} do not fit this model, which takes {shape}")
