"""Hugging Face Parquet: column `image` = struct<bytes, path> (or plain bytes), column `label` = integers or names.

Class names come from the schema's own metadata, or from a `classes.txt` or `class_names.txt` beside the files, a name a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from striate.errors import BadInput
from striate.images.items import UNLABELLED, Item, Rejected, label_from, names_beside

_TERMS = ("term", "search_term")
# Encoded pictures are some kilobytes each: a batch of this many rows is a few megabytes.
_ROWS = 256


class ParquetSource:
    """One or more Parquet files, in order, row by row.

    Raises:
        BadInput: a file is damaged or has no `image` column.
    """

    natural_shape = None

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        schema = _open(paths[0]).schema_arrow
        if "image" not in schema.names:
            raise BadInput(f"{paths[0]} has no column 'image' (found: {', '.join(schema.names)})")
        self.class_names: list[str] = _names_in_schema(schema) or names_beside(paths[0].parent)

    def __iter__(self) -> Iterator[Item]:
        seen: set[str] = set()
        for path in self._paths:
            number = 0
            try:
                for row in _rows(path):
                    yield self._item(row, path, number, seen)
                    number += 1
            except (OSError, pa.ArrowException) as error:
                yield Item(f"{path.stem}/after row {number}", Rejected(f"the file is damaged here: {_first_line(error)}"))

    def _item(self, row: dict[str, Any], path: Path, number: int, seen: set[str]) -> Item:
        image = row["image"]
        data = image.get("bytes") if isinstance(image, dict) else image
        key = (image.get("path") if isinstance(image, dict) else None) or f"{path.stem}/{number:08d}"
        if key in seen:
            key = f"{path.stem}/{number:08d}/{key}"
        seen.add(key)
        term = next((str(row[name]) for name in _TERMS if row.get(name)), None)
        try:
            label = label_from(row.get("label"), self.class_names)
        except Rejected as reason:
            return Item(key, reason, UNLABELLED, term)
        return Item(key, data if isinstance(data, bytes) else Rejected("no bytes in this row"), label, term)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    file = _open(path)
    if "image" not in file.schema_arrow.names:
        raise BadInput(f"{path} has no column 'image' (found: {', '.join(file.schema_arrow.names)})")
    wanted = [name for name in ("image", "label", *_TERMS) if name in file.schema_arrow.names]
    for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
        yield from batch.to_pylist()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{path} is no readable Parquet file: {_first_line(error)}") from None


def _names_in_schema(schema: pa.Schema) -> list[str]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features["label"]["names"]]
    except (KeyError, TypeError, ValueError):
        return []
