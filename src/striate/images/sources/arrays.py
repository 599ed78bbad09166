"""numpy files: `.npy` mapped into memory, `.npz` with pictures and labels under the names in use.

An `.npz` may hold several sets (`x_train`, `y_train`, `x_test`, `y_test`): all are read, one after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from striate.errors import BadInput
from striate.images.items import ArraySource, Item, names_beside

# Names of pictures and of their labels, in lower case.
_PAIRS = {
    "x": "y",
    "images": "labels",
    "image": "label",
    "data": "labels",
    "x_train": "y_train",
    "x_test": "y_test",
    "train_images": "train_labels",
    "val_images": "val_labels",
    "test_images": "test_labels",
    "arr_0": "arr_1",
}


class NumpySource:
    """The pictures of a numpy file: uint8 (n, h, w), (n, h, w, 1 or 3) or (n, 1 or 3, h, w).

    Raises:
        BadInput: not such arrays, or arrays of Python objects.
    """

    def __init__(self, path: Path) -> None:
        sets = _sets(path)
        self._sets = {
            name: ArraySource(planar := to_planar(images, f"{path} {name}".strip()), _labels(labels, len(planar), path))
            for name, (images, labels) in sets.items()
        }
        self.class_names: list[str] = names_beside(path.parent)
        shapes = {one.natural_shape for one in self._sets.values()}
        self.natural_shape: tuple[int, int, int] | None = shapes.pop() if len(shapes) == 1 else None

    def __iter__(self) -> Iterator[Item]:
        for name, pictures in self._sets.items():
            for item in pictures:
                key = f"{name}/{item.key}" if len(self._sets) > 1 else item.key
                yield Item(key, item.data, item.label)


def _sets(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Name -> (pictures, labels)."""
    try:
        # allow_pickle stays off: an array of objects could run code.
        if path.suffix == ".npy":
            return {"": (np.load(path, mmap_mode="r", allow_pickle=False), None)}
        with path.open("rb") as file, np.load(file, allow_pickle=False) as loaded:
            names = {name.lower(): name for name in loaded.files}
            sets = {x: (loaded[names[x]], loaded[names[y]] if y in names else None) for x, y in _PAIRS.items() if x in names}
    # Damaged zip members raise zlib and zipfile errors of many kinds.
    except Exception as error:
        raise BadInput(f"{path} is no readable numpy file: {error}") from None
    if not sets:
        raise BadInput(f"{path} has no array of pictures (found: {', '.join(names)}; expected one of {', '.join(_PAIRS)})")
    return sets


def _labels(labels: np.ndarray | None, count: int, path: Path) -> np.ndarray | None:
    if labels is None:
        return None
    if labels.size != count or labels.shape[0] != count or not np.issubdtype(labels.dtype, np.integer):
        raise BadInput(f"{path} holds {labels.dtype} labels of shape {labels.shape} for {count} pictures: expected integers")
    return np.maximum(labels.reshape(count).astype(np.int64), -1)


def to_planar(images: np.ndarray, what: str) -> np.ndarray:
    """A view of pictures as (n, c, h, w).

    Raises:
        BadInput: not uint8, or of no shape pictures have.
    """
    if images.dtype != np.uint8:
        raise BadInput(f"{what} holds {images.dtype} values: expected uint8 levels 0..255")
    if images.size and images.ndim == 3:
        return images[:, None]
    if images.size and images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.size and images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    raise BadInput(f"{what} has shape {images.shape}: expected (n, h, w), (n, h, w, c) or (n, c, h, w), c = 1 or 3")
