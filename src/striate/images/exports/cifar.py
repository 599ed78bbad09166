"""CIFAR's own two formats, so that whatever reads CIFAR-10 or CIFAR-100 reads another set.

Without superclasses the layout is CIFAR-10's (`data_batch_1` .. `test_batch`, 10,000 pictures a file), with them CIFAR-100's
(`train`, `test`, coarse and fine labels). The python version was pickled by Python 2: its strings are bytes. Loaders read it
with `encoding="bytes"` and byte keys, or with `encoding="latin1"` and text keys; both work only if strings are stored as
Python 2 stored them, which `_Python2Pickler` does.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from striate.errors import BadInput
from striate.images.exports.published import Picture, Published

_BATCH = 10_000
_SHAPE = (3, 32, 32)


def _check(published: Published) -> None:
    if published.store.shape != _SHAPE:
        raise BadInput(
            f"CIFAR's formats hold pictures of shape {_SHAPE}, these are {published.store.shape}: use another format"
        )
    most = max(len(published.class_names), len(published.coarse_names))
    if most > 256:
        raise BadInput(f"CIFAR's formats have a byte for the class: {most} classes are too many, use another format")


def _batches(published: Published, name: str) -> Iterator[tuple[str, list[Picture]]]:
    """File names of a set and their pictures."""
    pictures = published.pictures(name)
    if published.superclasses:
        yield name, list(pictures)
        return
    count = -(-len(published.sets[name]) // _BATCH)
    for number in range(1, max(count, 1) + 1):
        file = f"data_batch_{number}" if name != "test" else ("test_batch" if count <= 1 else f"test_batch_{number}")
        yield file, list(islice(pictures, _BATCH))


def write_binary(published: Published, folder: Path) -> None:
    """A row a picture: label (or coarse label, label), then red, green and blue planes."""
    _check(published)
    for name in published.sets:
        for file, pictures in _batches(published, name):
            width = 2 if published.superclasses else 1
            rows = np.empty((len(pictures), width + 3072), np.uint8)
            for row, one in zip(rows, pictures, strict=True):
                row[:width] = (published.coarse(one.label), one.label) if width == 2 else one.label
                row[width:] = one.pixels.reshape(-1)
            (folder / f"{file}.bin").write_bytes(rows.tobytes())
    lists = {"batches.meta.txt": published.class_names}
    if published.superclasses:
        lists = {"fine_label_names.txt": published.class_names, "coarse_label_names.txt": published.coarse_names}
    for file, names in lists.items():
        (folder / file).write_text("".join(f"{_line(name)}\n" for name in names), encoding="utf-8")


def _line(name: str) -> str:
    return " ".join(name.split())


def write_python(published: Published, folder: Path) -> None:
    """Dictionaries of `data` (n, 3072), `labels` (or `fine_labels` and `coarse_labels`), `filenames` and `batch_label`."""
    _check(published)
    for name in published.sets:
        for file, pictures in _batches(published, name):
            data = np.stack([one.pixels.reshape(-1) for one in pictures]) if pictures else np.empty((0, 3072), np.uint8)
            batch: dict[str, Any] = {"batch_label": f"{name} batch", "data": data}
            batch["filenames"] = [one.key for one in pictures]
            labels = [one.label for one in pictures]
            if published.superclasses:
                batch |= {"fine_labels": labels, "coarse_labels": [published.coarse(label) for label in labels]}
            else:
                batch["labels"] = labels
            (folder / file).write_bytes(python2_pickle(batch))
    names: dict[str, Any] = {"label_names": list(published.class_names), "num_vis": 3072, "num_cases_per_batch": _BATCH}
    if published.superclasses:
        names = {"fine_label_names": list(published.class_names), "coarse_label_names": published.coarse_names}
    (folder / ("meta" if published.superclasses else "batches.meta")).write_bytes(python2_pickle(names))


def python2_pickle(value: Any) -> bytes:
    """A pickle of dictionaries, lists, numbers, text and uint8 arrays as Python 2 with numpy 1 would write it."""
    buffer = io.BytesIO()
    _Python2Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


# The one written in Python: the other cannot be told how to write text.
_Pickler: Any = pickle._Pickler


class _Python2Pickler(_Pickler):
    """Writes text and bytes as Python 2's `str`, and numpy's functions under the names they had."""

    dispatch: ClassVar[dict[Any, Any]] = dict(_Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        """One `str` of Python 2: bytes without an encoding."""
        data = value.encode("utf-8") if isinstance(value, str) else value
        self.write(
            pickle.SHORT_BINSTRING + bytes([len(data)]) if len(data) < 256 else pickle.BINSTRING + struct.pack("<i", len(data))
        )
        self.write(data)
        self.memoize(value)

    dispatch[str] = save_string
    dispatch[bytes] = save_string

    def save_global(self, value: Any, name: str | None = None) -> None:
        """A function or class by module and name."""
        module = getattr(value, "__module__", "").replace("numpy._core", "numpy.core")
        called = name or value.__qualname__
        self.write(pickle.GLOBAL + f"{module}\n{called}\n".encode("ascii"))
        self.memoize(value)

    # Arrays and their types come as functions and classes of numpy.
    dispatch[type] = save_global
    dispatch[type(save_global)] = save_global
    dispatch[type(len)] = save_global
