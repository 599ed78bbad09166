"""A features file in the making: rows are added block by block, survive a kill, and become the file at the end.

    .NAME.draft/rows        the file's head, if its format has one, and the rows so far
    .NAME.draft/state.json  what the rows are of (as the file will say of itself), and how many are safe on disk
    .NAME.draft/groups      Parquet in the making: row groups made of the rows so far

Numpy's and safetensors' files are a head and rows, so the draft becomes the file by renaming. Parquet cannot be added to once
its writer is gone: after a kill its file is made anew from the rows, which cost far more than that.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from striate.app.feature_files import ABOUT, about_file, keys_file, parquet_schema, write_keys
from striate.errors import BadInput
from striate.files import full_disk, is_full_disk, write_whole

SAVE_EVERY_S = 5.0
# Bytes that wait for the disk: what is left at the end is waited for.
_SAVE_EVERY_BYTES = 64 << 20
# A row group of Parquet: the least that readers take at once.
_GROUP_BYTES, _GROUP_ROWS = 16 << 20, 1 << 16


class Draft:
    """Rows on their way into a file, which one process at a time may write.

    Args:
        out: the file; its suffix is its format.
        about: what it will say of itself: `count`, `dim` and `dtype` among it.
        keys: gives one a picture, in order.
        save_every_s: seconds of work that a kill may cost.

    Attributes:
        done: rows that are there.

    Raises:
        BadInput: the folder cannot be written, or another process is at it.
    """

    def __init__(
        self, out: Path, about: dict[str, Any], keys: Callable[[], Iterable[str]], save_every_s: float = SAVE_EVERY_S
    ) -> None:
        self._out, self._about, self._keys, self._save_every_s = out, about, keys, save_every_s
        self._row_bytes = int(about["dim"]) * np.dtype(about["dtype"]).itemsize
        self._head = _head(out.suffix, about, keys)
        self._folder = draft_folder(out)
        self._rows, self._state = self._folder / "rows", self._folder / "state.json"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._rows.open("r+b" if self._rows.exists() else "w+b")
        except OSError as error:
            raise BadInput(f"{out} cannot be written: {error.strerror}") from None
        _lock(self._file, out)
        self.done = self._found()
        self._file.write(self._head)
        self._file.truncate(len(self._head) + self.done * self._row_bytes)
        self._file.seek(0, os.SEEK_END)
        self._saved, self._saved_at = self.done, time.monotonic()
        self._groups = RowGroups(self._folder, about, keys) if out.suffix == ".parquet" else None

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError) if error is not None else nullcontext():
            self._file.close()
        if self._groups is not None:
            self._groups.close()
        if isinstance(error, Exception) and is_full_disk(error):
            raise full_disk(self._out) from None

    def _found(self) -> int:
        """Rows of the same kind that an earlier process left, as far as they are known to be whole."""
        try:
            state = json.loads(self._state.read_text())
            size = os.fstat(self._file.fileno()).st_size
            rows = int(state["rows"]) if state["about"] == self._about else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return rows if size >= len(self._head) + rows * self._row_bytes else 0

    def append(self, block: np.ndarray) -> None:
        """Add rows (n, dim), which become the file's dtype."""
        self._file.write(np.ascontiguousarray(block, dtype=self._about["dtype"]).data)
        self.done += len(block)
        if self._groups is not None:
            self._file.flush()
            self._groups.follow(self.done)
        many = (self.done - self._saved) * self._row_bytes >= _SAVE_EVERY_BYTES
        if many or time.monotonic() - self._saved_at >= self._save_every_s:
            self.save()

    def save(self) -> None:
        """Make the rows so far safe: what comes after them may be lost to a kill."""
        self._file.flush()
        os.fsync(self._file.fileno())
        state = json.dumps({"about": self._about, "rows": self.done})
        write_whole(self._state, lambda temporary: temporary.write_text(state))
        if self._groups is not None:
            self._groups.sync()
        self._saved, self._saved_at = self.done, time.monotonic()

    def finish(self) -> None:
        """Turn the draft into the file."""
        assert self.done == self._about["count"], "rows are missing"
        if self._groups is not None:
            self._groups.finish(self.done, self._out)
        else:
            if self._out.suffix == ".safetensors":
                self._file.writelines(key.encode() for key in self._keys())
            self._file.flush()
            os.fsync(self._file.fileno())
            if self._out.suffix == ".npy":
                write_whole(keys_file(self._out), lambda temporary: write_keys(temporary, self._keys()))
                write_whole(about_file(self._out), lambda temporary: temporary.write_text(json.dumps(self._about)))
            self._rows.rename(self._out)
        shutil.rmtree(self._folder)


def draft_folder(out: Path) -> Path:
    """Where a file's draft lies."""
    return out.with_name(f".{out.name}.draft")


def discard_draft(out: Path) -> None:
    """Throw away what a process left that was killed when its file was there already.

    Raises:
        BadInput: another process is at it.
    """
    with suppress(FileNotFoundError), (draft_folder(out) / "rows").open("r+b") as file:
        _lock(file, out)
    shutil.rmtree(draft_folder(out))


def _lock(file: IO[bytes], out: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise BadInput(f"another process is writing {out}: wait for it, or choose another name") from None


class RowGroups:
    """A Parquet file that follows the rows of a draft, a row group behind.

    Args:
        folder: the draft's; its rows are float32, and flushed.
        about: what the file says of itself.
        keys: gives one a row, in order.
    """

    def __init__(self, folder: Path, about: dict[str, Any], keys: Callable[[], Iterable[str]]) -> None:
        self._rows, self._file, self._dim = folder / "rows", folder / "groups", int(about["dim"])
        self._keys = iter(keys())
        self._schema = parquet_schema(self._dim, about)
        self._size = max(1, min(_GROUP_ROWS, _GROUP_BYTES // (4 * self._dim)))
        # Neither would make activities smaller by a tenth.
        self._writer = pq.ParquetWriter(
            self._file, self._schema, compression="none", use_dictionary=False, write_statistics=False
        )
        self._done = 0

    def follow(self, rows: int) -> None:
        """Make row groups of the draft's rows as far as they are full."""
        while rows - self._done >= self._size:
            self._add(self._size)

    def _add(self, count: int) -> None:
        values = np.fromfile(self._rows, np.float32, count * self._dim, offset=4 * self._done * self._dim)
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(values), type=self._schema.field("embedding").type)
        keys = pa.array(islice(self._keys, count), pa.string())
        self._writer.write_table(pa.table([keys, embedding], schema=self._schema))
        self._done += count

    def sync(self) -> None:
        """Have what is there written to the disk, so that less is left to wait for at the end."""
        with self._file.open("rb") as file:
            os.fsync(file.fileno())

    def finish(self, rows: int, out: Path) -> None:
        """Add what is left, and become the file."""
        self.follow(rows)
        if rows > self._done:
            self._add(rows - self._done)
        self._writer.close()
        write_whole(out, self._file.rename)

    def close(self) -> None:
        """Leave off, if it is not finished; what is there serves nobody."""
        with suppress(OSError):
            self._writer.close()
        self._file.unlink(missing_ok=True)


def _head(suffix: str, about: dict[str, Any], keys: Callable[[], Iterable[str]]) -> bytes:
    """What stands before the rows."""
    shape, dtype = (int(about["count"]), int(about["dim"])), np.dtype(about["dtype"])
    if suffix == ".npy":
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": dtype.str, "fortran_order": False, "shape": shape})
        return head.getvalue()
    return _safetensors_head(about, shape, dtype, keys) if suffix == ".safetensors" else b""


def _safetensors_head(
    about: dict[str, Any], shape: tuple[int, int], dtype: np.dtype[Any], keys: Callable[[], Iterable[str]]
) -> bytes:
    """The header, and the first tensor: where each key ends. (Wider numbers come first, so that all lie where they may.)"""
    ends = np.cumsum([len(key.encode()) for key in keys()], dtype=np.int64)
    length = int(ends[-1]) if len(ends) else 0
    parts = {
        "key_ends": ("I64", [shape[0]], ends.nbytes),
        "embedding": ("F16" if dtype.itemsize == 2 else "F32", list(shape), shape[0] * shape[1] * dtype.itemsize),
        "keys": ("U8", [length], length),
    }
    header: dict[str, Any] = {"__metadata__": {ABOUT: json.dumps(about)}}
    offset = 0
    for name, (kind, dims, size) in parts.items():
        header[name] = {"dtype": kind, "shape": dims, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + ends.tobytes()
