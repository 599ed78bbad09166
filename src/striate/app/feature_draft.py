"""A features file in the making: rows are added block by block, survive a kill, and become the file at the end.

.NAME.draft/rows        the file so far, which becomes the file by renaming
.NAME.draft/state.json  what the rows are of (as the file will say of itself), and how many are safe on disk
.NAME.draft/rest-N      Parquet: the last of N rows, which do not fill a row group yet
"""

from __future__ import annotations

import fcntl
import io
import json
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from striate.app.direct_file import DirectFile
from striate.app.draft_rows import DraftRows, PlainRows, RowGroups
from striate.app.feature_files import ABOUT, about_file, keys_file, write_keys
from striate.errors import BadInput
from striate.files import full_disk, is_full_disk, write_whole

SAVE_EVERY_S = 5.0
# Where writing is not direct, bytes wait for the disk; what is left at the end is waited for.
_SAVE_EVERY_BYTES = 64 << 20


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
        self._folder = draft_folder(out)
        self._state = self._folder / "state.json"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = DirectFile(self._folder / "rows")
        except OSError as error:
            raise BadInput(f"{out} cannot be written: {error.strerror}") from None
        _lock(self._file, out)
        self._rows = _draft_rows(self._file, self._folder, out.suffix, about, keys)
        self.done = self._rows.begin(self._safe())
        self._saved, self._saved_at = self.done, time.monotonic()

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._rows.close()
        self._file.close()
        if isinstance(error, Exception) and is_full_disk(error):
            raise full_disk(self._out) from None

    def _safe(self) -> int:
        """Rows of the same kind that an earlier process left."""
        try:
            state = json.loads(self._state.read_text())
            return int(state["rows"]) if state["about"] == self._about else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def append(self, block: np.ndarray) -> None:
        """Add rows (n, dim), which become the file's dtype."""
        self._rows.append(block)
        self.done += len(block)
        many = (self.done - self._saved) * self._row_bytes >= _SAVE_EVERY_BYTES
        if many or time.monotonic() - self._saved_at >= self._save_every_s:
            self.save()

    def save(self) -> None:
        """Make the rows so far safe: what comes after them may be lost to a kill."""
        self._rows.sync()
        state = json.dumps({"about": self._about, "rows": self.done})
        write_whole(self._state, lambda temporary: temporary.write_text(state))
        self._rows.tidy()
        self._saved, self._saved_at = self.done, time.monotonic()

    def finish(self) -> None:
        """Turn the draft into the file."""
        assert self.done == self._about["count"], "rows are missing"
        self._rows.finish()
        if self._out.suffix == ".npy":
            write_whole(keys_file(self._out), lambda temporary: write_keys(temporary, self._keys()))
            write_whole(about_file(self._out), lambda temporary: temporary.write_text(json.dumps(self._about)))
        (self._folder / "rows").rename(self._out)
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


def _lock(file: DirectFile | IO[bytes], out: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise BadInput(f"another process is writing {out}: wait for it, or choose another name") from None


def _draft_rows(
    file: DirectFile, folder: Path, suffix: str, about: dict[str, Any], keys: Callable[[], Iterable[str]]
) -> DraftRows:
    if suffix == ".parquet":
        return RowGroups(file, folder, about, keys)
    head, dtype = _head(suffix, about, keys), np.dtype(about["dtype"])
    ends_in_keys = suffix == ".safetensors"
    return PlainRows(file, head, lambda: (key.encode() for key in (keys() if ends_in_keys else ())), dtype, int(about["dim"]))


def _head(suffix: str, about: dict[str, Any], keys: Callable[[], Iterable[str]]) -> bytes:
    """What stands before the rows."""
    shape, dtype = (int(about["count"]), int(about["dim"])), np.dtype(about["dtype"])
    if suffix == ".npy":
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": dtype.str, "fortran_order": False, "shape": shape})
        return head.getvalue()
    return _safetensors_head(about, shape, dtype, keys)


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
