"""The tiny-images layout (`tiny_images.bin`): 3,072 bytes a picture, nothing else.

The 80-million file was written by MATLAB: red, green and blue planes, each column by column. `order="rows"` reads files that
store rows, as CIFAR does (Krizhevsky 2009, section 1.1, describes the data row-major).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from striate.errors import BadInput
from striate.images.items import ArraySource


def tiny_images(path: Path, order: Literal["columns", "rows"] = "columns") -> ArraySource:
    """The pictures of a tiny-images file, mapped into memory.

    Raises:
        BadInput: the size is no multiple of 3,072 bytes.
    """
    size = path.stat().st_size
    if size == 0 or size % 3072:
        raise BadInput(f"{path} has {size} bytes: expected a multiple of 3072 (32x32 pixels, 3 colours)")
    images = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, 3, 32, 32)
    return ArraySource(images.transpose(0, 1, 3, 2) if order == "columns" else images)
