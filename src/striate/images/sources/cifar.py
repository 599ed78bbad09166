"""CIFAR-10 and CIFAR-100, binary and python versions, in a folder or still in their tar archive.

Binary: a label byte (CIFAR-100: coarse, then fine) and 3,072 levels, red, green, blue planes, row-major. Python: pickled
dictionaries, read by an unpickler that admits numpy arrays and built-in containers and nothing else.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from striate.errors import BadInput
from striate.images.items import ArraySource, Item

_PIXELS = 3072
_BINARY_SUFFIX = ".bin"
# Beyond any batch of either set.
_LARGEST_FILE = 1 << 30
# Exports of other sets in CIFAR's layout have any number of batches.
_BATCH = re.compile(r"(data_batch_\d+|test_batch(_\d+)?|train|test)(\.bin)?")
_BATCH_10 = re.compile(r"(data_batch_\d+|test_batch(_\d+)?)(\.bin)?")
_NAME_FILES = ("batches.meta.txt", "fine_label_names.txt")
_PICKLED_NAMES = ("batches.meta", "meta")

_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _CarefulUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        return super().find_class(module, name)


def unpickle(data: bytes, what: str) -> dict[str, Any]:
    """A pickled dictionary of arrays and lists, with text keys; nothing in it can run code.

    Raises:
        BadInput: it asks for anything else, or is damaged.
    """
    try:
        loaded = _CarefulUnpickler(io.BytesIO(data), encoding="bytes").load()
    # A damaged pickle raises nearly anything.
    except Exception as error:
        raise BadInput(f"{what} is no CIFAR batch: {error}") from None
    if not isinstance(loaded, dict):
        raise BadInput(f"{what} is no CIFAR batch: it holds a {type(loaded).__name__}")
    return {_text(key): value for key, value in loaded.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class CifarSource:
    """All batches of a CIFAR folder, archive or single batch file. Labels are the fine ones.

    Raises:
        BadInput: nothing of the kind is there, or a batch is damaged.
    """

    natural_shape: tuple[int, int, int] | None = (3, 32, 32)

    def __init__(self, path: Path) -> None:
        self._files = _archived(path) if path.is_file() and ".t" in path.name else _plain(path)
        if not self._batches():
            raise BadInput(f"{path} holds no CIFAR batches")
        self.class_names: list[str] = self._names()

    def _batches(self) -> list[str]:
        return sorted((name for name in self._files if is_batch(name)), key=_in_turn)

    def _names(self) -> list[str]:
        for name in _NAME_FILES:
            if name in self._files:
                text = self._files[name]().decode("utf-8", "replace")
                return [line.strip() for line in text.splitlines() if line.strip()]
        for name in _PICKLED_NAMES:
            if name in self._files:
                loaded = unpickle(self._files[name](), name)
                names = loaded.get("label_names", loaded.get("fine_label_names", []))
                return [_text(entry) for entry in names] if isinstance(names, list) else []
        return []

    def __iter__(self) -> Iterator[Item]:
        for name in self._batches():
            data = self._files[name]()
            images, labels = _binary(data, name) if name.endswith(_BINARY_SUFFIX) else _python(data, name)
            keys = [f"{name}/{i:05d}" for i in range(len(images))]
            yield from ArraySource(images, labels, keys=keys)


def _in_turn(name: str) -> tuple[str, int]:
    """The tenth batch after the ninth."""
    stem, number = re.fullmatch(r"(.*?)_?(\d*)(?:\.bin)?", name).groups()  # type: ignore[union-attr]
    return stem, int(number or 0)


def is_batch(name: str) -> bool:
    """Whether a file of this name holds pictures of CIFAR."""
    return _BATCH.fullmatch(name) is not None


def is_cifar(path: Path) -> bool:
    """Whether a folder, archive or file is named and made up as CIFAR is."""
    if path.is_dir():
        lists = (*_PICKLED_NAMES, *_NAME_FILES)
        # Names before kinds: asking the kind of each of a million files takes seconds.
        candidates = [name for name in os.listdir(path) if is_batch(name) or name in lists]  # noqa: PTH208
        names = {name for name in candidates if (path / name).is_file()}
        named = any(name in names for name in lists)
        return any(is_batch(name) and (named or "_batch" in name or name.endswith(".bin")) for name in names)
    if ".tar" in path.name or path.suffix == ".tgz":
        return any(_BATCH_10.fullmatch(name) or name in _PICKLED_NAMES or name in _NAME_FILES for name in _first_names(path))
    return path.is_file() and is_batch(path.name)


def _first_names(path: Path, count: int = 12) -> list[str]:
    """Names of an archive's first members; none where it cannot be read."""
    names: list[str] = []
    try:
        with tarfile.open(path, "r|*") as archive:
            for member, _ in zip(archive, range(count)):
                names.append(PurePosixPath(member.name).name)
    # Compressed archives raise their own kinds (zlib.error, lzma.LZMAError); the reader of archives will say what is wrong.
    except Exception:
        pass
    return names


def _plain(path: Path) -> dict[str, Any]:
    entries = [path] if path.is_file() else [entry for entry in path.iterdir() if entry.is_file()]
    return {entry.name: entry.read_bytes for entry in entries if entry.stat().st_size <= _LARGEST_FILE}


def _archived(path: Path) -> dict[str, Any]:
    files: dict[str, Any] = {}
    wanted = (*_NAME_FILES, *_PICKLED_NAMES)
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if member.isfile() and member.size <= _LARGEST_FILE and (is_batch(name) or name in wanted):
                    file = archive.extractfile(member)
                    data = file.read() if file is not None else b""
                    files[name] = lambda data=data: data
    except Exception as error:
        raise BadInput(f"{path} is a damaged archive: {error}") from None
    return files


def _binary(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    # train.bin and test.bin are CIFAR-100's names; its rows carry two labels.
    labels = 2 if name in ("train.bin", "test.bin") else 1
    if not data or len(data) % (labels + _PIXELS):
        raise BadInput(f"{name} has {len(data)} bytes: expected a multiple of {labels + _PIXELS}")
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, labels + _PIXELS)
    return rows[:, labels:].reshape(-1, 3, 32, 32), rows[:, labels - 1].astype(np.int64)


def _python(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    loaded = unpickle(data, name)
    pixels = loaded.get("data")
    labels = loaded.get("fine_labels", loaded.get("labels"))
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise BadInput(f"{name} holds no uint8 data of shape (count, {_PIXELS})")
    if not isinstance(labels, list | np.ndarray) or len(labels) != len(pixels):
        found = len(labels) if isinstance(labels, list | np.ndarray) else "no"
        raise BadInput(f"{name} holds {found} labels for {len(pixels)} pictures")
    try:
        return pixels.reshape(-1, 3, 32, 32), np.asarray(labels, dtype=np.int64).reshape(len(pixels))
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} holds labels that are no numbers: {error}") from None
