"""What every trained model offers, and all that measuring, searching and exporting know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
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


# Rows taken at once: activities of 2,048 pictures by 10,000 units are 80 MB.
_ROWS = 2048


class RowsEncoder:
    """A model of whole pictures, preprocessed to rows, as an encoder. Its first layer is `pixels`, the rows themselves.

    Args:
        rows: preprocessing.
        dims: number of features of each layer above the pixels, lowest first.
        activities: rows and the layers asked for to these layers' features, pixels left out.
    """

    def __init__(
        self,
        rows: RowMaker,
        dims: Mapping[str, int],
        activities: Callable[[Tensor, tuple[str, ...]], Mapping[str, Tensor]],
    ) -> None:
        self._rows, self.activities = rows, activities
        self.image_shape = rows.shape
        self.layers: tuple[str, ...] = ("pixels", *dims)
        self.dims: Mapping[str, int] = {"pixels": rows.dim, **dims}

    def encode(self, images: Images, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Features of uint8 pictures (n, c, h, w); by default of the last layer."""
        wanted = check_layers(layers, self.layers)
        check_shape(images, self.image_shape)
        parts: dict[str, list[Tensor]] = {name: [] for name in wanted}
        for start in range(0, len(images), _ROWS):
            rows = self._rows.apply(images[start : start + _ROWS])
            found = {"pixels": rows, **self.activities(rows, wanted)}
            for name in wanted:
                parts[name].append(found[name].cpu())
        return {name: torch.cat(part) for name, part in parts.items()}
