"""Writing a store so that a kill at any moment loses only what was not yet committed.

A commit appends pixels, syncs them, then makes one part file appear by renaming it: the rows in it are what counts, and pixels
beyond them are cut off when the store is opened for writing again. `finish` folds the parts into the three tables; each table
says how many rows were folded, so a kill between the renames repeats nothing, and a store whose import was killed and
continued is byte for byte the store of an import that was not.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from striate.errors import BadInput
from striate.files import full_disk, is_full_disk, sole_writer, write_whole
from striate.images.encoded import ROW_GROUP, SCHEMA, EncodedPictures
from striate.images.items import UNLABELLED
from striate.images.jpeg import encode_jpeg
from striate.images.store import (
    FOLDED,
    FORMAT,
    ROW_SCHEMA,
    SUMS,
    TABLES,
    VERSION,
    part_files,
    read_header,
    read_rows,
    read_sums,
    rows_folded,
    shard_file,
)
from striate.images.sums import PictureSums

_SUMMED_AT_ONCE = 256


@dataclass(frozen=True)
class Counts:
    """What became of every picture of a source: seen = kept + rejected + duplicates."""

    kept: int = 0
    rejected: int = 0
    duplicates: int = 0

    @property
    def seen(self) -> int:
        """All of them."""
        return self.kept + self.rejected + self.duplicates


class StoreWriter:
    """Opens a store for adding pictures, making it if there is none. One writer at a time.

    Args:
        path: the store's directory.
        shape: (channels, height, width) of every picture.
        quality: keep pictures as JPEG of this quality rather than raw; sums for their mean and colours are gathered on the way.
        shard_bytes: a new store's data shards are this long at most.

    Raises:
        BadInput: the store has another shape or version, or another process writes to it.
    """

    def __init__(
        self, path: str | Path, shape: tuple[int, int, int], *, quality: int | None = None, shard_bytes: int = 256 << 20
    ) -> None:
        self.path = Path(path)
        busy = f"{self.path} is being written by another process: wait for it, or stop it"
        self._lock = sole_writer(self.path / ".lock", busy)
        self._written_header = ""
        try:
            self._header = self._open_header(shape, shard_bytes, quality)
            self.shape = shape
            self._encode = quality is not None
            # Keys by source.
            self._seen: defaultdict[str, set[str]] = defaultdict(set)
            self._digests: dict[str, str] = {}
            self._rows: list[dict[str, object]] = []
            self._pixels: list[np.ndarray] = []
            self._files: list[bytes] = []
            self.count = 0
            self._recall()
            self._cut_to(self.count)
            self._remove_leftovers()
            self._sums = self._recall_sums() if self._encode else None
        except BaseException:
            self._lock.close()
            raise

    def _open_header(self, shape: tuple[int, int, int], shard_bytes: int, quality: int | None) -> dict[str, Any]:
        if (self.path / "store.json").exists():
            header = read_header(self.path)
            if tuple(header["shape"]) != tuple(shape) and len(read_rows(self.path, "meta")):
                raise BadInput(
                    f"{self.path} holds pictures of shape {tuple(header['shape'])}, these are {tuple(shape)}: "
                    "use another store, or the same --size and --mode"
                )
            if header.get("quality") != quality and len(read_rows(self.path, "meta")):
                kept = "raw pictures" if header.get("quality") is None else f"JPEG of quality {header['quality']}"
                raise BadInput(f"{self.path} holds {kept}: use another store, or the same --jpeg")
            # An import that kept nothing (a wrong folder, a wrong size) leaves the choice open.
            return {**header, **_layout(shape, shard_bytes), **_encoding(quality)}
        layout = {**_layout(shape, shard_bytes), **_encoding(quality)}
        header = {"format": FORMAT, "version": VERSION, **layout, "class_names": []}
        with _full_disk_named(self.path):
            (self.path / "pixels").mkdir(parents=True, exist_ok=True)
            (self.path / "parts").mkdir(exist_ok=True)
            self._write_header(header)
        return header

    def _write_header(self, header: dict[str, Any]) -> None:
        text = json.dumps(header, indent=1, ensure_ascii=False) + "\n"
        if text != self._written_header:
            write_whole(self.path / "store.json", lambda temporary: temporary.write_text(text, encoding="utf-8"))
            self._written_header = text

    def _recall(self) -> None:
        self._num_rows = 0
        for name in TABLES:
            table = read_rows(self.path, name)
            self._num_rows += len(table)
            for source, key in zip(table["source"].to_pylist(), table["key"].to_pylist()):
                self._seen[source].add(key)
            if name == "meta":
                self.count = len(table)
                self._digests = dict(zip(table["sha256"].to_pylist(), table["key"].to_pylist()))

    def _remove_leftovers(self) -> None:
        """What a writer that was killed left: temporary files, and parts that it had folded already."""
        for temporary in [*self.path.glob(".*.tmp"), *(self.path / "parts").glob(".*.tmp")]:
            temporary.unlink()
        folded = rows_folded(self.path)
        for part in part_files(self.path):
            if int(part.stem) < folded:
                part.unlink()

    def _cut_to(self, count: int) -> None:
        """Remove pixels that no committed row speaks of."""
        for file in (self.path / "pixels").glob("[0-9]*.parquet"):
            if int(file.stem) >= count:
                file.unlink()
        per_shard, size = self._header["pictures_per_shard"], int(np.prod(self.shape))
        for file in (self.path / "pixels").glob("*.u8"):
            rows = min(max(count - int(file.stem) * per_shard, 0), per_shard)
            if rows == 0:
                file.unlink()
            elif file.stat().st_size > rows * size:
                os.truncate(file, rows * size)

    def _recall_sums(self) -> PictureSums:
        """Those kept, or, where a kill came between pictures and sums, gathered anew."""
        kept = read_sums(self.path, self.count)
        if kept is not None:
            return kept
        sums = PictureSums(self.shape)
        pictures = EncodedPictures(self.path / "pixels", self.shape, self.count)
        for start in range(0, self.count, _SUMMED_AT_ONCE):
            sums.update(pictures.pixels(np.arange(start, min(start + _SUMMED_AT_ONCE, self.count))))
        return sums

    @property
    def class_names(self) -> list[str]:
        """Class names so far, in the order of their labels."""
        return list(self._header["class_names"])

    def label_of(self, name: str) -> int:
        """The label of a class, given a new one if it has none."""
        names = self._header["class_names"]
        if name not in names:
            names.append(name)
        return int(names.index(name))

    def has(self, source: str, key: str) -> bool:
        """Whether this picture was seen before, whatever became of it."""
        return key in self._seen[source]

    def append(
        self,
        image: np.ndarray,
        sha256: str,
        *,
        key: str,
        source: str,
        label: int = UNLABELLED,
        term: str | None = None,
        size: tuple[int, int] | None = None,
        encoded: bytes | None = None,
    ) -> bool:
        """Add one picture (uint8, the store's shape; with its JPEG, if it keeps those), or set it aside if it has an equal.

        `size` is the (width, height) of the file it came from.

        Returns:
            Whether it was kept.
        """
        twin = self._digests.get(sha256)
        row = {"key": key, "source": source, "term": term, "label": label, "sha256": sha256}
        if twin is not None:
            self._note({**row, "kind": "duplicate", "kept": twin})
            return False
        self._digests[sha256] = key
        width, height = size or (None, None)
        self._note({**row, "kind": "kept", "state": "found", "width": width, "height": height})
        self._pixels.append(image)
        if self._encode:
            self._files.append(encoded if encoded is not None else encode_jpeg(image, self._header["quality"]))
        return True

    def reject(self, reason: str, *, key: str, source: str) -> None:
        """Record a picture that cannot be used."""
        self._note({"kind": "rejected", "key": key, "source": source, "reason": reason})

    def _note(self, row: dict[str, object]) -> None:
        self._seen[str(row["source"])].add(str(row["key"]))
        self._rows.append(row)

    @property
    def pending(self) -> int:
        """Rows that a kill would lose now."""
        return len(self._rows)

    @property
    def pending_bytes(self) -> int:
        """Bytes of pixels that wait in memory for the next commit."""
        return sum(image.nbytes for image in self._pixels)

    def commit(self) -> None:
        """Make everything so far survive anything.

        Raises:
            StriateError: the disk is full; what was committed before is safe.
        """
        if not self._rows:
            return
        with _full_disk_named(self.path):
            if self._encode:
                self._add_files()
            else:
                self._append_pixels()
            # Class names first: a label must never point at a name that was lost.
            self._write_header(self._header)
            table = pa.Table.from_pylist(self._rows, schema=ROW_SCHEMA)
            _write_parquet(self.path / "parts" / f"{self._num_rows:012d}.parquet", table)
            if self._sums is not None and self._pixels:
                self._keep_sums(self._sums)
        self._num_rows += len(self._rows)
        self.count += len(self._pixels)
        self._rows, self._pixels, self._files = [], [], []

    def _add_files(self) -> None:
        """One Parquet file of encoded pictures; nothing speaks of it before the commit's rows are there."""
        if not self._files:
            return
        kept = [row for row in self._rows if row["kind"] == "kept"]
        rows = [
            {"key": row["key"], "image": {"bytes": data, "path": row["key"]}, "label": row["label"]}
            for row, data in zip(kept, self._files, strict=True)
        ]
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        file = self.path / "pixels" / f"{self.count:012d}.parquet"
        # JPEG does not compress further, and as it is a picture is one slice of the file.
        write_whole(file, lambda temporary: pq.write_table(table, temporary, row_group_size=ROW_GROUP, compression="none"))

    def _keep_sums(self, sums: PictureSums) -> None:
        for picture in self._pixels:
            sums.update(picture[None])

        def write(temporary: Path) -> None:
            arrays: dict[str, Any] = dict(sums.state())
            with temporary.open("wb") as file:
                np.savez(file, **arrays)

        write_whole(self.path / SUMS, write)

    def _append_pixels(self) -> None:
        per_shard, position, done = self._header["pictures_per_shard"], self.count, 0
        while done < len(self._pixels):
            number, row = divmod(position + done, per_shard)
            block = self._pixels[done : done + per_shard - row]
            with shard_file(self.path, number).open("r+b" if row else "wb", buffering=1 << 20) as file:
                file.seek(row * int(np.prod(self.shape)))
                for image in block:
                    file.write(np.ascontiguousarray(image).data)
                file.flush()
                os.fsync(file.fileno())
            done += len(block)

    def finish(self) -> None:
        """Commit, and fold all parts into the store's tables."""
        self.commit()
        with _full_disk_named(self.path):
            tables = {name: read_rows(self.path, name) for name in TABLES}
            for name, table in tables.items():
                # One chunk a column: the bytes must not tell how the rows came in.
                folded = table.combine_chunks().replace_schema_metadata({FOLDED: str(self._num_rows)})
                _write_parquet(self.path / f"{name}.parquet", folded)
            for part in part_files(self.path):
                part.unlink()

    def counts(self, source: str | None = None) -> Counts:
        """What became of the pictures of one source (or of all), over every import."""
        totals = []
        for name, (kind, _) in TABLES.items():
            sources = read_rows(self.path, name)["source"]
            stored = len(sources) if source is None else pc.sum(pc.equal(sources, source)).as_py() or 0
            waiting = [row["source"] for row in self._rows if row["kind"] == kind]
            totals.append(stored + sum(source in (None, found) for found in waiting))
        kept, rejected, duplicates = totals
        return Counts(kept, rejected, duplicates)

    def close(self) -> None:
        """Let another writer in. What was not committed is dropped."""
        self._lock.close()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _layout(shape: tuple[int, int, int], shard_bytes: int) -> dict[str, Any]:
    return {"shape": list(shape), "pictures_per_shard": max(1, shard_bytes // int(np.prod(shape)))}


def _encoding(quality: int | None) -> dict[str, Any]:
    return {} if quality is None else {"encoding": "jpeg", "quality": quality}


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full_disk(error):
            raise full_disk(path) from None
        raise


def _write_parquet(file: Path, table: pa.Table) -> None:
    write_whole(file, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
