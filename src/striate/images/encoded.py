"""Pictures kept as JPEG in Parquet: their bytes by position, and their pixels.

Each file under pixels/ is named after the number of its first picture; its row groups are small, so that one picture costs the
reading of few others, and those used last stay in memory up to a limit: small stores altogether.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from striate.errors import BadInput
from striate.images.jpeg import decode_jpeg

ROW_GROUP = 64
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
    ]
)
# Kept in memory of what was read.
_KEPT_BYTES = 2 << 30


class EncodedPictures:
    """The encoded pictures of a store, for any number of threads.

    Args:
        folder: pixels/ of the store.
        shape: (channels, height, width) of every picture.
        count: how many the store speaks of.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], count: int) -> None:
        self._shape = shape
        files = [file for file in sorted(folder.glob("[0-9]*.parquet")) if int(file.stem) < count]
        self._files = [_opened(file) for file in files]
        self._starts = [int(file.stem) for file in files]
        ends = [start + opened.metadata.num_rows for start, opened in zip(self._starts, self._files)]
        if count and (not ends or self._starts != [0, *ends[:-1]] or ends[-1] < count):
            raise BadInput(
                f"{folder} holds {ends[-1] if ends else 0} of {count} pictures: the store is damaged, import it again"
            )
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], pa.Array] = OrderedDict()
        self._bytes = 0

    def encoded(self, position: int) -> np.ndarray:
        """The JPEG file of one picture, uint8 (bytes,), not copied."""
        number = bisect_right(self._starts, position) - 1
        group, row = divmod(position - self._starts[number], ROW_GROUP)
        return np.frombuffer(self._group(number, group)[row].as_buffer(), dtype=np.uint8)

    def _group(self, number: int, group: int) -> pa.Array:
        with self._lock:
            found = self._kept.get((number, group))
            if found is not None:
                self._kept.move_to_end((number, group))
                return found
            column = self._files[number].read_row_group(group, columns=["image.bytes"]).column("image").combine_chunks()
            read = column.field("bytes")
            self._kept[number, group] = read
            self._bytes += read.nbytes
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
            return read

    def pixels(self, positions: np.ndarray) -> np.ndarray:
        """Pictures uint8 (n, c, h, w) by position; colours lie side by side in memory, as the decoder gives them."""
        channels, height, width = self._shape
        out = np.empty((len(positions), height, width, channels), dtype=np.uint8)
        for row, position in enumerate(positions):
            try:
                decode_jpeg(self.encoded(int(position)), channels, out[row])
            except ValueError as error:
                raise BadInput(f"picture {position} of the store is damaged, import it again: {error}") from None
        return out.transpose(0, 3, 1, 2)


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file, memory_map=True)
    except pa.ArrowInvalid as error:
        raise BadInput(f"{file} is damaged, import the store again: {error}") from None
