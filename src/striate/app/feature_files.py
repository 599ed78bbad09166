"""Features on disk: what a file says of itself, and its rows, in three formats.

features.parquet      key, embedding (fixed_size_list<float32>[dim]); what it says of itself in the metadata under `striate`
features.npy          a plain array (n, dim), float32 or float16, which numpy maps into memory; features.keys.txt and
                      features.about.json beside it
features.safetensors  tensors `embedding` (n, dim), `keys` (uint8: UTF-8, one after another), `key_ends` (int64: where each
                      ends); what it says of itself in the metadata under `striate`
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from striate.errors import BadInput

FORMAT, VERSION = "striate-features", 1
ABOUT = "striate"
SUFFIXES = (".parquet", ".npy", ".safetensors")


class Rows(Protocol):
    """Rows of features on disk."""

    @property
    def array(self) -> np.ndarray | None:
        """The memory map, (n, dim), where the file is one."""
        ...

    def take(self, positions: np.ndarray) -> np.ndarray:
        """float32 (len(positions), dim), a copy."""
        ...

    def keys(self) -> list[str]:
        """A key a row."""
        ...


@dataclass(frozen=True)
class Features:
    """A features file, opened.

    Attributes:
        path: the file.
        about: format, version, model (digest), name (of the model), layer, dim, dtype, store (digest), count, image_shape,
            preprocessing.
    """

    path: Path
    about: dict[str, Any]
    _rows: Rows = field(repr=False, compare=False)

    def __len__(self) -> int:
        return int(self.about["count"])

    @property
    def dim(self) -> int:
        """Width of a row."""
        return int(self.about["dim"])

    @property
    def keys(self) -> list[str]:
        """The pictures' keys, in the store's order. Read anew on each call."""
        return self._rows.keys()

    @property
    def array(self) -> np.ndarray | None:
        """The memory map, float16 or float32 (n, dim), where the file is one (.npy and .safetensors); None for Parquet."""
        return self._rows.array

    def rows(self, start: int, stop: int) -> np.ndarray:
        """A range of rows, float32 (stop - start, dim), a copy; cut off at the ends as slices are."""
        return self.take(np.arange(len(self))[start:stop])

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Rows by position, float32 (len(positions), dim), a copy.

        Raises:
            IndexError: a position outside the file.
        """
        chosen = np.asarray(positions, dtype=np.int64)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"positions outside 0..{len(self) - 1}")
        return self._rows.take(chosen)


@dataclass(frozen=True)
class MappedRows:
    """Rows that lie in the file as they lie in memory."""

    array: np.ndarray
    read_keys: Callable[[], list[str]]

    def take(self, positions: np.ndarray) -> np.ndarray:
        """float32 (len(positions), dim), a copy."""
        return self.array[positions].astype(np.float32, copy=False)

    def keys(self) -> list[str]:
        """A key a row."""
        return self.read_keys()


class ParquetRows:
    """Rows in row groups, of which those needed are read.

    Args:
        opened: the file.
        dim: width of a row.
    """

    def __init__(self, opened: pq.ParquetFile, dim: int) -> None:
        self._opened, self._dim = opened, dim
        groups = [opened.metadata.row_group(number).num_rows for number in range(opened.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(groups)]).astype(np.int64)

    array = None

    def take(self, positions: np.ndarray) -> np.ndarray:
        """float32 (len(positions), dim), a copy."""
        out = np.empty((len(positions), self._dim), dtype=np.float32)
        group = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(group):
            chosen = group == number
            out[chosen] = self._group(int(number))[positions[chosen] - self._starts[number]]
        return out

    def _group(self, number: int) -> np.ndarray:
        column = self._opened.read_row_group(number, columns=["embedding"])["embedding"].combine_chunks()
        array: np.ndarray = column.flatten().to_numpy().reshape(-1, self._dim)
        return array

    def keys(self) -> list[str]:
        """A key a row."""
        return list(self._opened.read(columns=["key"])["key"].to_pylist())


def read_features(path: Path) -> Features:
    """A features file of any of the formats.

    Raises:
        BadInput: there is none, it is another kind of file, damaged, or of another version.
    """
    path = Path(path)
    read = {".parquet": _parquet, ".npy": _numpy, ".safetensors": _safetensors}.get(path.suffix)
    if read is None:
        raise BadInput(f"{path} is no features file: expected a name that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise BadInput(f"there is no features file {path}: make one with `striate encode RUN STORE -o {path}`")
    try:
        about, rows = read(path)
        count, dim = int(about["count"]), int(about["dim"])
    except (OSError, EOFError, KeyError, TypeError, ValueError, pa.ArrowException, SafetensorError) as error:
        raise BadInput(
            f"{path} is damaged, or no features file of Striate's ({str(error).splitlines()[0]}): encode again"
        ) from None
    if about.get("version") != VERSION:
        raise BadInput(f"{path} is of version {about.get('version')}, this Striate reads version {VERSION}: encode again")
    if rows.array is not None and rows.array.shape != (count, dim):
        raise BadInput(f"{path} holds {rows.array.shape}, {(count, dim)} was expected: it is damaged, encode again")
    return Features(path, about, rows)


def _about(text: str | bytes) -> dict[str, Any]:
    about = json.loads(text)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"it does not say that it is {FORMAT}")
    return about


def _parquet(path: Path) -> tuple[dict[str, Any], Rows]:
    opened = pq.ParquetFile(path, memory_map=True)
    about = _about((opened.metadata.metadata or {})[ABOUT.encode()])
    if not _as_ours(opened.schema_arrow, int(about["dim"])) or opened.metadata.num_rows != about["count"]:
        raise ValueError(f"{opened.metadata.num_rows} rows of {opened.schema_arrow.names}")
    return about, ParquetRows(opened, int(about["dim"]))


def _as_ours(schema: pa.Schema, dim: int) -> bool:
    """Whether columns are those of `parquet_schema`; earlier files did not say that nothing is missing."""
    if schema.names != ["key", "embedding"]:
        return False
    key, embedding = (schema.field(name).type for name in schema.names)
    return bool(
        key.equals(pa.string())
        and pa.types.is_fixed_size_list(embedding)
        and embedding.value_type.equals(pa.float32())
        and embedding.list_size == dim
    )


def _numpy(path: Path) -> tuple[dict[str, Any], Rows]:
    about = _about(about_file(path).read_text())
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return about, MappedRows(np.asarray(mapped), lambda: read_keys(keys_file(path)))


def _safetensors(path: Path) -> tuple[dict[str, Any], Rows]:
    with safe_open(path, "np") as opened:
        about = _about((opened.metadata() or {})[ABOUT])
    size, header = safetensors_header(path)
    described = header["embedding"]
    start, _ = described["data_offsets"]
    dtype = {"F32": np.float32, "F16": np.float16}[described["dtype"]]
    mapped = np.memmap(path, dtype=dtype, mode="r", offset=8 + size + start, shape=tuple(described["shape"]))

    def keys() -> list[str]:
        with safe_open(path, "np") as opened:
            text, ends = opened.get_tensor("keys").tobytes(), opened.get_tensor("key_ends").tolist()
        return [text[begin:end].decode() for begin, end in zip([0, *ends], ends)]

    return about, MappedRows(np.asarray(mapped), keys)


def safetensors_header(path: Path) -> tuple[int, dict[str, Any]]:
    """Bytes and contents of a safetensors file's header."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return size, json.loads(file.read(size))


def parquet_schema(dim: int, about: dict[str, Any]) -> pa.Schema:
    """Columns of a features file as Parquet."""
    metadata = {ABOUT: json.dumps(about)}
    # Said to be there always, numbers cost an eighth less to write.
    embedding = pa.list_(pa.field("element", pa.float32(), nullable=False), dim)
    fields = [pa.field("key", pa.string(), nullable=False), pa.field("embedding", embedding, nullable=False)]
    return pa.schema(fields, metadata=metadata)


def about_file(path: Path) -> Path:
    """Where a .npy file's description lies."""
    return path.with_suffix(".about.json")


def keys_file(path: Path) -> Path:
    """Where a .npy file's keys lie."""
    return path.with_suffix(".keys.txt")


def key_line(key: str) -> str:
    """A key as one line: line ends within it, and backslashes, are written as escapes."""
    return key.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def key_of(line: str) -> str:
    """The key that `key_line` made a line of."""
    if "\\" not in line:
        return line
    pieces = line.split("\\\\")
    return "\\".join(piece.replace("\\n", "\n").replace("\\r", "\r") for piece in pieces)


def write_keys(path: Path, keys: Iterable[str]) -> None:
    """One key a line, UTF-8."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for key in keys:
            file.write(f"{key_line(key)}\n")


def read_keys(path: Path) -> list[str]:
    """The keys of such a file.

    Raises:
        BadInput: it is missing or unreadable.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({error}): it belongs to the features beside it, encode again") from None
    return [key_of(line) for line in text.split("\n")[:-1]]
