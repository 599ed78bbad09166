"""IDX files, gzipped or not: the format of MNIST. Magic 0, 0, type, dimensions; then big-endian sizes; then the data."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from striate.errors import BadInput
from striate.images.items import ArraySource, Item

_UNSIGNED_BYTES = 8


class IdxSource:
    """Image files (three dimensions) with the label files that go with them by name.

    Raises:
        BadInput: a header that does not fit its file, or labels that do not fit the images.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._paths = [path for path in paths if "label" not in path.name]
        if not self._paths:
            raise BadInput(f"{paths[0]} holds labels: name the file of images, its labels are found beside it")
        self.class_names: list[str] = []
        _, height, width = _shape(self._paths[0])[:3]
        self.natural_shape: tuple[int, int, int] | None = (1, height, width)

    def __iter__(self) -> Iterator[Item]:
        for path in self._paths:
            images = read_idx(path)
            if images.ndim != 3:
                raise BadInput(f"{path} has {images.ndim} dimensions: expected images (count, height, width)")
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


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None


def _shape(path: Path) -> tuple[int, ...]:
    opener = gzip.open if path.read_bytes()[:2] == b"\x1f\x8b" else open
    try:
        with opener(path, "rb") as file:
            return _parse_header(file.read(4 + 4 * 255), path)[0] + (1,) * 3
    except (OSError, EOFError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None


def _parse_header(data: bytes, path: Path) -> tuple[tuple[int, ...], int]:
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTES or not 1 <= data[3] <= 4:
        raise BadInput(f"{path} is no IDX file of unsigned bytes")
    end = 4 + 4 * data[3]
    if len(data) < end:
        raise BadInput(f"{path} ends within its header")
    return struct.unpack(f">{data[3]}I", data[4:end]), end


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file of unsigned bytes.

    Raises:
        BadInput: not such a file, or cut short.
    """
    data = _bytes(path)
    shape, start = _parse_header(data, path)
    wanted = int(np.prod(shape, dtype=np.int64))
    if len(data) - start != wanted:
        raise BadInput(f"{path} promises {wanted} values of shape {shape} and holds {len(data) - start}")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)
