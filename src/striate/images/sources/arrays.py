"""numpy files: `.npy` mapped into memory, `.npz` with images under x, images, data or arr_0 and labels under y or labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from striate.errors import BadInput
from striate.images.items import ArraySource

_IMAGES = ("x", "images", "data", "x_train", "arr_0")
_LABELS = ("y", "labels", "label", "y_train", "arr_1")


def array_file(path: Path) -> ArraySource:
    """Pictures of a numpy file: uint8 (n, h, w), (n, h, w, 1 or 3) or (n, 1 or 3, h, w).

    Raises:
        BadInput: not such an array, or one that holds Python objects.
    """
    try:
        # allow_pickle stays off: an array of objects could run code.
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            images, labels = _pick(loaded, _IMAGES), _pick(loaded, _LABELS)
            if images is None:
                raise BadInput(f"{path} has no array of images (found: {', '.join(loaded.files)})")
        else:
            images, labels = loaded, None
    except BadInput:
        raise
    # Damaged zip members raise zlib and zipfile errors of many kinds.
    except Exception as error:
        raise BadInput(f"{path} is no readable numpy file: {error}") from None
    if labels is not None and labels.shape != (len(images),):
        raise BadInput(f"{path} holds labels {labels.shape} for {len(images)} pictures")
    return ArraySource(to_planar(images, str(path)), labels)


def _pick(loaded: np.lib.npyio.NpzFile, names: tuple[str, ...]) -> np.ndarray | None:
    by_lower_name = {name.lower(): name for name in loaded.files}
    return next((loaded[by_lower_name[name]] for name in names if name in by_lower_name), None)


def to_planar(images: np.ndarray, what: str) -> np.ndarray:
    """A view of pictures as (n, c, h, w).

    Raises:
        BadInput: not uint8, or of no shape pictures have.
    """
    if images.dtype != np.uint8:
        raise BadInput(f"{what} holds {images.dtype} values: expected uint8 levels 0..255")
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    raise BadInput(f"{what} has shape {images.shape}: expected (n, h, w), (n, h, w, c) or (n, c, h, w), c = 1 or 3")
