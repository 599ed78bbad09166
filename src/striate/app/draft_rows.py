"""The growing file of a features draft: plain rows after a head, or row groups of Parquet.

Both go on after a kill. A Parquet file cannot be added to once its writer is gone, since what it says of its row groups stands
at its end; but where nothing is compressed, that depends on counts and keys alone. So a new writer is given the groups that are
there once more, with zeros for values, and what it writes of them is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from striate.app.direct_file import DirectFile
from striate.app.feature_files import parquet_schema
from striate.files import write_whole

# A row group of Parquet: the least that readers take at once.
_GROUP_BYTES, _GROUP_ROWS = 16 << 20, 1 << 16


class DraftRows(Protocol):
    """Rows on their way into a file."""

    def begin(self, rows: int) -> int:
        """Go on after so many rows that were safe; returns how many are (0: begun anew)."""
        ...

    def append(self, block: np.ndarray) -> None:
        """Add rows (n, dim)."""
        ...

    def sync(self) -> None:
        """Have them safe on the disk."""
        ...

    def tidy(self) -> None:
        """Throw away what only an earlier sync needed."""
        ...

    def finish(self) -> None:
        """Complete the file."""
        ...

    def close(self) -> None:
        """Leave off; the file itself is its owner's to close."""
        ...


class PlainRows:
    """Rows as they lie in memory, between a head and a tail.

    Args:
        file: the draft's.
        head: what stands before the rows.
        tail: gives what stands after them.
        dtype: theirs.
        dim: their width.
    """

    def __init__(
        self, file: DirectFile, head: bytes, tail: Callable[[], Iterable[bytes]], dtype: np.dtype[Any], dim: int
    ) -> None:
        self._file, self._head, self._tail, self._dtype, self._row_bytes = file, head, tail, dtype, dim * dtype.itemsize

    def begin(self, rows: int) -> int:
        """See `DraftRows`."""
        kept = len(self._head) + rows * self._row_bytes
        if rows and self._file.size >= kept:
            self._file.begin(kept)
            return rows
        self._file.begin(0)
        self._file.write(self._head)
        return 0

    def append(self, block: np.ndarray) -> None:
        """See `DraftRows`."""
        self._file.write(np.ascontiguousarray(block, dtype=self._dtype).data)

    def sync(self) -> None:
        """See `DraftRows`."""
        self._file.sync()

    def tidy(self) -> None:
        """See `DraftRows`."""

    def finish(self) -> None:
        """See `DraftRows`."""
        for piece in self._tail():
            self._file.write(piece)
        self._file.finish()

    def close(self) -> None:
        """See `DraftRows`."""


class RowGroups:
    """Row groups of Parquet, uncompressed. Rows that do not fill one yet wait in memory, and once synced in a file, too.

    Args:
        file: the draft's.
        folder: for rows that wait.
        about: what the file says of itself.
        keys: gives one a row, in order.
    """

    def __init__(self, file: DirectFile, folder: Path, about: dict[str, Any], keys: Callable[[], Iterable[str]]) -> None:
        self._file, self._folder, self._make_keys, self._dim = file, folder, keys, int(about["dim"])
        self._schema = parquet_schema(self._dim, about)
        # A power of two, as blocks of pictures are: one divides the other, and rows that wait are few.
        fitting = max(1, min(_GROUP_ROWS, _GROUP_BYTES // (4 * self._dim)))
        self._size = 1 << fitting.bit_length() - 1
        self._no_rows = np.zeros((0, self._dim), np.float32)
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[np.ndarray] = []
        self._done = 0

    def begin(self, rows: int) -> int:
        """See `DraftRows`."""
        if rows and self._again(rows):
            return rows
        self._file.begin(0)
        self._open(_Sink(self._file, dropping=False))
        return 0

    def _open(self, sink: _Sink) -> None:
        self._keys, self._sink, self._done, self._waiting = iter(self._make_keys()), sink, 0, []
        # Neither compression nor a dictionary would make activities smaller by a tenth.
        self._writer = pq.ParquetWriter(sink, self._schema, compression="none", use_dictionary=False, write_statistics=False)

    def _again(self, rows: int) -> bool:
        """Come to where the file is; False if it is not all there."""
        waiting = rows % self._size
        try:
            rest = np.fromfile(self._rest(rows), np.float32).reshape(waiting, self._dim) if waiting else self._no_rows
        except (OSError, ValueError):
            return False
        self._open(_Sink(self._file, dropping=True))
        zeros = np.zeros((self._size, self._dim), np.float32)
        while self._done < rows - waiting:
            self._write(zeros)
        if self._file.size < self._sink.position:
            return False
        self._file.begin(self._sink.position)
        self._sink.dropping = False
        self._waiting = [rest]
        return True

    def append(self, block: np.ndarray) -> None:
        """See `DraftRows`."""
        self._waiting.append(np.ascontiguousarray(block, dtype=np.float32))
        while sum(map(len, self._waiting)) >= self._size:
            rows = self._joined()
            self._write(rows[: self._size])
            self._waiting = [rows[self._size :]]

    def _joined(self) -> np.ndarray:
        parts = [part for part in self._waiting if len(part)]
        return parts[0] if len(parts) == 1 else np.concatenate([*parts, self._no_rows])

    def _write(self, rows: np.ndarray) -> None:
        assert self._writer is not None
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=self._schema.field("embedding").type)
        keys = pa.array(islice(self._keys, len(rows)), pa.string())
        self._writer.write_table(pa.table([keys, embedding], schema=self._schema))
        self._done += len(rows)

    def _rest(self, rows: int) -> Path:
        return self._folder / f"rest-{rows}"

    def sync(self) -> None:
        """See `DraftRows`."""
        rest = self._joined()
        if len(rest):
            write_whole(self._rest(self._done + len(rest)), lambda temporary: temporary.write_bytes(rest.data))
        self._file.sync()

    def tidy(self) -> None:
        """See `DraftRows`."""
        needed = self._rest(self._done + sum(map(len, self._waiting)))
        for file in self._folder.glob("rest-*"):
            if file != needed:
                file.unlink()

    def finish(self) -> None:
        """See `DraftRows`."""
        assert self._writer is not None
        rest = self._joined()
        if len(rest):
            self._write(rest)
        self._writer.close()
        self._file.finish()

    def close(self) -> None:
        """See `DraftRows`."""
        if self._writer is not None:
            # It would write its end when it is collected.
            self._sink.dropping = True
            with suppress(OSError):
                self._writer.close()


class _Sink:
    """Where a Parquet writer writes.

    Args:
        file: to be written.
        dropping: leave it as it is.

    Attributes:
        position: bytes so far.
    """

    closed = False

    def __init__(self, file: DirectFile, dropping: bool) -> None:
        self._file, self.dropping, self.position = file, dropping, 0

    def write(self, data: Any) -> int:
        """Add bytes."""
        count = memoryview(data).nbytes if self.dropping else self._file.write(data)
        self.position += count
        return count

    def flush(self) -> None:
        """Syncing is the file's."""

    def close(self) -> None:
        """So is closing."""
