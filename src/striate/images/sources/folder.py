"""Folders: flat, one folder a class, or described by a `metadata` table.

`split/class/file` works too: the last folder's name is the class. A flat folder has no labels, never a guess. Beside the
pictures, `metadata.csv`, `.jsonl` or `.parquet` with a column `file_name` may give `label`, `term` (or `search_term`).
Every file counts: one that is no picture is rejected with a reason. Only what systems leave behind is passed over.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from striate.errors import BadInput
from striate.images.items import UNLABELLED, Item

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_PASSED_OVER = {"Thumbs.db", "desktop.ini", *_METADATA}


class FolderSource:
    """Every file under a folder, in the order of their names.

    Raises:
        BadInput: there is no file at all.
    """

    natural_shape = None

    def __init__(self, path: Path) -> None:
        self._root = path
        self._files = sorted(_files(path), key=lambda file: file.relative_to(path).as_posix())
        if not self._files:
            raise BadInput(f"{path} is empty: expected pictures in it")
        self._metadata = _read_metadata(path)
        self._folders = _class_folders(path, self._files) if not self._metadata else {}
        named = {str(row["label"]) for row in self._metadata.values() if row.get("label") not in (None, "")}
        self.class_names: list[str] = sorted(named or set(self._folders.values()))

    def __iter__(self) -> Iterator[Item]:
        numbers = {name: number for number, name in enumerate(self.class_names)}
        for file in self._files:
            key = file.relative_to(self._root).as_posix()
            row = self._metadata.get(key, {})
            name = row.get("label") if self._metadata else self._folders.get(file.parent)
            yield Item(
                # A file name may hold bytes that are no text; the key must be.
                key=key.encode(errors="surrogateescape").decode(errors="replace"),
                data=file,
                label=numbers.get(str(name), UNLABELLED),
                term=row.get("term") or row.get("search_term") or self._folders.get(file.parent),
            )


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        for name in names:
            if not name.startswith(".") and name not in _PASSED_OVER:
                yield Path(folder) / name


def _class_folders(root: Path, files: list[Path]) -> dict[Path, str]:
    """Folder -> class name, where the files lie in two or more folders of different names below the root."""
    folders = {file.parent for file in files if file.parent != root}
    if len({folder.name for folder in folders}) < 2:
        return {}
    return {folder: folder.name for folder in folders}


def _read_metadata(root: Path) -> dict[str, dict[str, Any]]:
    for name in _METADATA:
        file = root / name
        if file.exists():
            rows = _rows(file)
            if rows and "file_name" not in rows[0]:
                raise BadInput(f"{file} has no column 'file_name' (found: {', '.join(map(str, rows[0]))})")
            return {str(row["file_name"]): row for row in rows}
    return {}


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        if file.suffix == ".parquet":
            import pyarrow.parquet as pq

            return list(pq.read_table(file).to_pylist())
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix == ".csv":
            return list(csv.DictReader(text.splitlines()))
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from None
