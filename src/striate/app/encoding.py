"""Many pictures through an encoder, a block at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from striate.app.overlap import ahead
from striate.images import ImageStore
from striate.models.encoder import Encoder

# Pictures and features of a block, as float32: enough for any model's products, little enough to hold some of them.
_BLOCK_BYTES, _BLOCK_MOST = 64 << 20, 1024


def blocks(encoder: Encoder, pictures: ImageStore | np.ndarray, layer: str, size: int, start: int = 0) -> Iterator[np.ndarray]:
    """A layer's features, float32 (size, dim) at a time; pictures are read while those before them are encoded."""
    starts = range(start, len(pictures), size)
    for block in ahead(lambda at: pictures[at : at + size], starts):
        yield encoder.encode(block, [layer])[layer].numpy()


def block_size(encoder: Encoder, layer: str) -> int:
    """How many pictures go through a model at once: a power of two whose pictures and features are some megabytes."""
    bytes_each = 4 * max(math.prod(encoder.image_shape), encoder.dims["pixels"], encoder.dims[layer])
    fitting = max(8, _BLOCK_BYTES // bytes_each)
    return min(_BLOCK_MOST, 1 << fitting.bit_length() - 1)
