"""IDX files, gzipped or not: the format of MNIST. Magic 0, 0, type, dimensions; then big-endian sizes; then the data."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from striate.errors import BadInput
from striate.images.items import ArraySource, Item, names_beside

_UNSIGNED_BYTES = 8
# No deflate stream grows by more than this: a header that promises more lies.
_GROWTH = 1033


class IdxSource:
    """Image files (three dimensions) with the label files that go with them by name.

    Raises:
        BadInput: a header that does not fit its file, or labels that do not fit the images.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._paths = [path for path in paths if "label" not in path.name]
        if not self._paths:
            raise BadInput(f"{paths[0]} holds labels: name the file of images, its labels are found beside it")
        self.class_names: list[str] = names_beside(paths[0].parent)
        shapes = {read_shape(path) for path in self._paths}
        if any(len(shape) != 3 for shape in shapes):
            raise BadInput(f"{self._paths[0]} is of shape {min(shapes, key=len)}: expected (count, height, width)")
        sizes = {shape[1:] for shape in shapes}
        height, width = sizes.pop()
        self.natural_shape: tuple[int, int, int] | None = None if sizes else (1, height, width)

    def __iter__(self) -> Iterator[Item]:
        for path in self._paths:
            images = read_idx(path)
            keys = [f"{path.name.split('.')[0]}/{i:08d}" for i in range(len(images))]
            yield from ArraySource(images[:, None], _labels_beside(path, len(images)), keys=keys)


def _labels_beside(path: Path, count: int) -> np.ndarray | None:
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    candidates = [path.with_name(name), path.with_name(name.removesuffix(".gz")), path.with_name(name + ".gz")]
    for candidate in candidates:
        if name != path.name and candidate.exists():
            labels = read_idx(candidate)
            if labels.shape != (count,):
                raise BadInput(f"{candidate} holds {labels.shape} labels for {count} images")
            return labels
    return None


def read_shape(path: Path) -> tuple[int, ...]:
    """The sizes that an IDX file's header states.

    Raises:
        BadInput: not an IDX file of unsigned bytes, or one that states more than it can hold.
    """
    return _read(path, header_only=True)[0]


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file of unsigned bytes.

    Raises:
        BadInput: not such a file, or not of the size that its header states.
    """
    shape, data = _read(path, header_only=False)
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _read(path: Path, *, header_only: bool) -> tuple[tuple[int, ...], bytes]:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            shape = _parse_header(file.read(4), file.read, path)
            wanted, size = math.prod(shape), path.stat().st_size
            if wanted > size * (_GROWTH if zipped else 1):
                raise BadInput(f"{path} promises {wanted} values of shape {shape} and is too small for them: {size} bytes")
            # One byte more than promised would show a header that promises too little.
            data = b"" if header_only else file.read(wanted + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    if not header_only and len(data) != wanted:
        found = len(data) if len(data) < wanted else "more"
        raise BadInput(f"{path} promises {wanted} values of shape {shape} and holds {found}")
    return shape, data


def _parse_header(magic: bytes, read: Callable[[int], bytes], path: Path) -> tuple[int, ...]:
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTES or not 1 <= magic[3] <= 4:
        raise BadInput(f"{path} is no IDX file of unsigned bytes")
    sizes = read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise BadInput(f"{path} ends within its header")
    return struct.unpack(f">{magic[3]}I", sizes)
