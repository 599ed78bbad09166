"""The ImageStore: fixed-size uint8 pictures on disk, planar C,H,W, read by memory maps with no decoding.

    STORE/store.json            format, version, shape, class names, pictures a shard
    STORE/pixels/000000.u8      raw pictures one after another
    STORE/pixels/000000000000.parquet  or, where photographs stay encoded: key, image (bytes, path), label; named after the
                                number of the first picture
    STORE/sums.npz              of those: sums of all pixels and of colours' products, from which mean and components come
    STORE/meta.parquet          a row a picture: key, source, term, label, sha256, state, width and height of its file
    STORE/rejected.parquet      key, source, reason
    STORE/duplicates.parquet    key, source, sha256, kept (the key of the equal picture in the store)
    STORE/parts/000000000000.parquet  rows committed by an import that has not been finished; its name is the number
                                of rows, of all three kinds, before it

It is the tiny-images idea (Krizhevsky 2009, section 1.1) made general: random access at memory speed, larger than memory,
shared by every process of a machine.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from striate.errors import BadInput
from striate.images.encoded import EncodedPictures
from striate.images.items import UNLABELLED
from striate.images.sums import PictureSums

_ROWS_AT_ONCE = 1 << 16

FORMAT = "striate-store"
VERSION = 1
SUMS = "sums.npz"

ROW_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),  # kept, rejected or duplicate
        ("key", pa.string()),
        ("source", pa.string()),
        ("term", pa.string()),
        ("label", pa.int64()),
        ("sha256", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("kept", pa.string()),
        ("width", pa.int32()),  # of the file it came from, in pixels; null in stores made before this was noted
        ("height", pa.int32()),
    ]
)
# Columns that older stores lack.
_LATER = ("width", "height")
# In the metadata of a consolidated table: the number of rows, of all three kinds, that were folded into the tables. It
# tells which parts are in, and depends on what was imported alone, never on how often that was interrupted.
FOLDED = b"rows_folded"
TABLES = {
    "meta": ("kept", ["key", "source", "term", "label", "sha256", "state", "width", "height"]),
    "rejected": ("rejected", ["key", "source", "reason"]),
    "duplicates": ("duplicate", ["key", "source", "sha256", "kept"]),
}


class ImageStore:
    """A store opened for reading.

    Attributes:
        path: its directory.
        shape: (channels, height, width) of every picture.
        class_names: names that `labels` index.
        labels: int64 (n,); -1 where there is none.
        encoding: `raw` pixels, or `jpeg`.
        digest: of shape, class names and every picture, in order; equal stores have equal digests.

    Raises:
        BadInput: the directory is no store, of another version, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        header = read_header(self.path)
        channels, height, width = header["shape"]
        self.shape: tuple[int, int, int] = (channels, height, width)
        self.class_names: list[str] = list(header["class_names"])
        self._per_shard: int = header["pictures_per_shard"]
        # Of the table only the labels stay in memory, 8 bytes a picture: keys and digests are many times that.
        self.labels: np.ndarray = read_rows(self.path, "meta", ["label"])["label"].to_numpy().astype(np.int64, copy=False)
        self.encoding: str = header.get("encoding", "raw")
        self._encoded: EncodedPictures | None = None
        self._shards: list[np.ndarray] = []
        if self.encoding == "jpeg":
            self._encoded = EncodedPictures(self.path / "pixels", self.shape, len(self.labels))
        else:
            self._shards = _open_shards(self.path, self.shape, self._per_shard, len(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens it where it lies."""
        from striate.images.reopening import reopened

        return reopened, (str(self.path.resolve()), self.digest)

    @property
    def table(self) -> pa.Table:
        """A row a picture: key, source, term, label, sha256, state, width and height of its file. Read anew on each call."""
        return read_rows(self.path, "meta")

    def __getitem__(self, index: int | slice | np.ndarray | list[int]) -> np.ndarray:
        """A copy of one picture (c, h, w), of a range, a list of positions or a mask (n, c, h, w)."""
        if isinstance(index, int | np.integer):
            position = range(len(self))[int(index)]
            if self._encoded is not None:
                return self._encoded.pixels(np.array([position]))[0]
            return self._shards[position // self._per_shard][position % self._per_shard].copy()
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        chosen = np.asarray(index)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise IndexError(f"a mask of shape {chosen.shape} for {len(self)} pictures")
            chosen = np.flatnonzero(chosen)
        return self._gather(chosen.astype(np.int64, casting="same_kind") if chosen.size else np.empty(0, np.int64))

    def _gather(self, positions: np.ndarray) -> np.ndarray:
        if positions.size and (positions.min() < 0 or positions.max() >= len(self)):
            raise IndexError(f"positions outside 0..{len(self) - 1}")
        if self._encoded is not None:
            return self._encoded.pixels(positions)
        out = np.empty((len(positions), *self.shape), dtype=np.uint8)
        shard, row = np.divmod(positions, self._per_shard)
        for number in np.unique(shard):
            chosen = shard == number
            rows = row[chosen]
            if len(rows) == len(out) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
                out[:] = self._shards[number][rows[0] : rows[0] + len(rows)]
            else:
                out[chosen] = self._shards[number][rows]
        return out

    def encoded(self, position: int) -> np.ndarray:
        """The JPEG file of one picture, uint8 (bytes,), of a store that keeps those.

        Raises:
            BadInput: it keeps raw pixels.
        """
        if self._encoded is None:
            raise BadInput(f"{self.path} keeps raw pixels, no JPEG files")
        return self._encoded.encoded(position)

    @functools.cached_property
    def sums(self) -> PictureSums | None:
        """Sums of pixels and colours of all its pictures, where importing gathered them."""
        return read_sums(self.path, len(self))

    @property
    def labelled(self) -> bool:
        """Whether any picture has a label."""
        return bool((self.labels != UNLABELLED).any())

    @property
    def keys(self) -> list[str]:
        """Every picture's name within its source."""
        return list(self.iter_keys())

    def iter_keys(self) -> Iterator[str]:
        """The same, some at a time, so that memory does not grow with the store."""
        for keys in _column(self.path, "key"):
            yield from keys

    @functools.cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of a SHA-256 over everything a model can see."""
        hasher = hashlib.sha256(json.dumps([list(self.shape), self.class_names]).encode())
        hasher.update(self.labels.tobytes())
        for digests in _column(self.path, "sha256"):
            hasher.update("".join(digests).encode())
        return hasher.hexdigest()[:16]

    @property
    def rejected(self) -> pa.Table:
        """Pictures that were refused: key, source, reason."""
        return read_rows(self.path, "rejected")

    @property
    def duplicates(self) -> pa.Table:
        """Pictures set aside because an equal one is in the store: key, source, sha256, kept."""
        return read_rows(self.path, "duplicates")


def read_header(path: Path) -> dict[str, Any]:
    """The contents of store.json, checked.

    Raises:
        BadInput: no such store, or one this version cannot read.
    """
    file = path / "store.json"
    try:
        header = json.loads(file.read_text())
    except FileNotFoundError:
        raise BadInput(f"{path} is no image store (no store.json): make one with `striate import SOURCE {path}`") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise BadInput(f"{file} does not describe an image store")
    if header.get("version") != VERSION:
        raise BadInput(
            f"{path} is a store of version {header.get('version')}, this Striate reads version {VERSION}: import it again"
        )
    shape, names, per_shard = (header.get(key) for key in ("shape", "class_names", "pictures_per_shard"))
    if not (
        isinstance(shape, list)
        and len(shape) == 3
        and all(isinstance(size, int) and size > 0 for size in [*shape, per_shard])
        and isinstance(names, list)
    ):
        raise BadInput(f"{file} is damaged (shape {shape}, pictures_per_shard {per_shard}): import again into a new store")
    return header


def read_sums(path: Path, count: int) -> PictureSums | None:
    """The sums of a store's first so many pictures, if those are the ones that were kept."""
    try:
        with np.load(path / SUMS, allow_pickle=False) as state:
            sums = PictureSums.restore(state)
    except (OSError, ValueError, KeyError):
        return None
    return sums if sums.count == count else None


def _column(path: Path, name: str) -> Iterator[list[str]]:
    """A column of every picture's, in order, some at a time, so that memory does not grow with the store."""
    file, merged = path / "meta.parquet", 0
    if file.exists():
        whole = pq.ParquetFile(file)
        merged = int((whole.schema_arrow.metadata or {}).get(FOLDED, b"0"))
        for batch in whole.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[name]):
            yield batch.column(0).to_pylist()
    for part in part_files(path):
        if int(part.stem) >= merged:
            rows = read_parquet(part, ["kind", name])
            yield rows.filter(pc.equal(rows["kind"], TABLES["meta"][0]))[name].to_pylist()


def read_rows(path: Path, table: str, columns: list[str] | None = None) -> pa.Table:
    """One of the store's tables (or some columns of it), rows of an unfinished import included."""
    kind, every = TABLES[table]
    columns = columns or every
    schema = pa.schema([ROW_SCHEMA.field(name) for name in columns])
    tables, merged = [], 0
    file = path / f"{table}.parquet"
    # The tables are made in their order: a later one without the first means that this one was lost.
    if not file.exists() and any(
        (path / f"{later}.parquet").exists() for later in list(TABLES)[list(TABLES).index(table) + 1 :]
    ):
        raise BadInput(f"{file} is missing: the store is damaged, import again into a new store")
    if file.exists():
        whole = read_parquet(file, columns)
        tables.append(whole)
        merged = int((whole.schema.metadata or {}).get(FOLDED, b"0"))
    for part in part_files(path):
        if int(part.stem) >= merged:
            rows = read_parquet(part, ["kind", *columns])
            tables.append(rows.filter(pc.equal(rows["kind"], kind)).select(columns))
    return pa.concat_tables([t.replace_schema_metadata(None) for t in [schema.empty_table(), *tables]])


def read_parquet(file: Path, columns: list[str]) -> pa.Table:
    """Columns of a Parquet file of the store.

    Raises:
        BadInput: it is damaged.
    """
    try:
        # One file, never a dataset: nothing is read into the names of folders.
        table = pq.ParquetFile(file).read(columns=columns)
        for name in _LATER:
            if name in columns and name not in table.column_names:
                table = table.append_column(ROW_SCHEMA.field(name), pa.nulls(len(table), ROW_SCHEMA.field(name).type))
        return table.select(columns)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise BadInput(f"{file} is damaged ({str(error).splitlines()[0]}): import again into a new store") from None


def rows_folded(path: Path) -> int:
    """How many rows, of all three kinds, have been folded into every one of the store's tables."""
    files = [path / f"{name}.parquet" for name in TABLES]
    if not all(file.exists() for file in files):
        return 0
    return min(int((pq.read_schema(file).metadata or {}).get(FOLDED, b"0")) for file in files)


def part_files(path: Path) -> list[Path]:
    """Committed parts, in order."""
    return sorted((path / "parts").glob("[0-9]*.parquet"))


def _open_shards(path: Path, shape: tuple[int, int, int], per_shard: int, count: int) -> list[np.ndarray]:
    shards: list[np.ndarray] = []
    for number in range(-(-count // per_shard)):
        rows = min(per_shard, count - number * per_shard)
        file = shard_file(path, number)
        wanted = rows * int(np.prod(shape))
        found = file.stat().st_size if file.exists() else -1
        if found < wanted:
            raise BadInput(f"{file} has {max(found, 0)} bytes, {wanted} were expected: the store is damaged, import it again")
        shards.append(np.memmap(file, dtype=np.uint8, mode="r", shape=(rows, *shape)))
    return shards


def shard_file(path: Path, number: int) -> Path:
    """The file of the store's data shard with this number."""
    return path / "pixels" / f"{number:06d}.u8"
