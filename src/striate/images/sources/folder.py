"""Folders: flat, one folder a class, or described by a `metadata` table.

`class/file` and `split/class/file` are labelled by class; a flat or irregular folder has no labels, never a guess, and its
folders become the pictures' terms. Beside the pictures, in any folder, `metadata.csv`, `.jsonl` or `.parquet` with a column
`file_name` may give `label` and `term` (or `search_term`), as may a JSON object of a picture's own name (`a.json` by `a.jpg`);
`classes.txt` or `class_names.txt` fixes the order of the classes. Every other file counts: one that is no picture is rejected
with a reason. Passed over are hidden files and folders, what systems leave behind (Thumbs.db, desktop.ini, __MACOSX), a
README.md, links to folders, and image stores.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from striate.errors import BadInput
from striate.images.items import NAME_FILES, UNLABELLED, Item, Rejected, label_from, names_beside

_COMMON = {"jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp", "tif", "tiff"}
_RARE = {"ppm", "pgm", "pbm", "pnm", "avif", "jp2", "tga", "ico", "pcx", "dib"}
# Names that promise a picture; a file of any other name is still tried, and counted.
PICTURES = _COMMON | _RARE
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_PASSED_OVER = {"Thumbs.db", "desktop.ini", "README.md", *_METADATA, *NAME_FILES}
# Folders of these names hold a split, or a class's pictures, and name no class.
_NO_CLASS = {"train", "test", "val", "valid", "validation", "dev", "images", "image", "img"}


class FolderSource:
    """Every file under a folder, in the order of their names.

    Raises:
        BadInput: there is no file at all, or a metadata table cannot be read.
    """

    natural_shape = None

    def __init__(self, path: Path) -> None:
        self._root = path
        self._files: dict[str, str | Rejected] = dict(sorted(_files(path)))
        if not self._files:
            raise BadInput(f"{path} is empty: expected pictures in it")
        described = _metadata(path)
        self._rows = described or _sidecars(self._files)
        # A table settles all labels; JSON files only where one of them speaks of labels.
        self._by_rows = bool(described) or any("label" in row for _, row in self._rows.values())
        for key, (table, _) in self._rows.items():
            self._files.setdefault(key, Rejected(f"not there, though {table} lists it"))
        self._classes = {} if self._by_rows else folder_classes(self._files)
        labels = [row.get("label") for _, row in self._rows.values()] if self._by_rows else []
        self.class_names: list[str] = _class_names(path, labels, self._classes)

    def __iter__(self) -> Iterator[Item]:
        for key, file in self._files.items():
            row = self._rows.get(key, ("", {}))[1]
            folder = key.rpartition("/")[0].rpartition("/")[2]
            term = row.get("term") or row.get("search_term") or self._classes.get(key) or folder or None
            name = row.get("label") if self._by_rows else self._classes.get(key)
            data = Path(file) if isinstance(file, str) else file
            try:
                label = label_from(name, self.class_names) if self._by_rows else self._label(name)
            except Rejected as reason:
                label, data = UNLABELLED, reason
            yield Item(key, data, label, None if term is None else str(term))

    def _label(self, name: str | None) -> int:
        # A folder's name is a class's name, even where it looks like a number.
        return UNLABELLED if name is None else self.class_names.index(name)


def files_under(root: Path) -> Iterator[str | OSError]:
    """Paths (text: folders are large) of what may be pictures, in no order; a folder that cannot be listed, as its error."""
    errors: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=errors.append):
        if "store.json" in names and Path(folder) != root:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        start = os.path.join(folder, "")  # noqa: PTH118
        yield from (start + name for name in names if not name.startswith(".") and name not in _PASSED_OVER)
    yield from errors


def _files(root: Path) -> Iterator[tuple[str, str | Rejected]]:
    for file in files_under(root):
        if isinstance(file, OSError):
            yield _key(str(file.filename), root) + "/", Rejected(f"unreadable folder: {file.strerror}")
        else:
            yield _key(file, root), file


def _key(file: str, root: Path) -> str:
    name = file[len(str(root)) :].lstrip(os.sep).replace(os.sep, "/")
    # A file name may hold bytes that are no text; the key must be, and stay unique.
    return name if name.isascii() else name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def is_picture(name: str) -> bool:
    """Whether a file's name promises a picture."""
    return name.rpartition(".")[2].lower() in PICTURES


def folder_classes(keys: Iterable[str]) -> dict[str, str]:
    """Key -> class, where every picture lies in one folder that can name its class, and there are two such or more."""
    classes: dict[str, str] = {}
    for key in keys:
        if is_picture(key):
            naming = [part for part in key.split("/")[:-1] if part and part.lower() not in _NO_CLASS]
            if len(naming) != 1:
                return {}
            classes[key] = naming[0]
    return classes if len(set(classes.values())) > 1 else {}


def _class_names(root: Path, labels: list[Any], classes: dict[str, str]) -> list[str]:
    """The order of the classes: as listed in a file, else by name."""
    listed = names_beside(root)
    if not labels:
        found = set(classes.values())
    else:
        new: list[str] = []
        for label in labels:
            try:
                label_from(label, new)
            # Its picture will be rejected for it.
            except Rejected:
                continue
        found = set(new)
    if listed and not found <= set(listed):
        raise BadInput(f"the class names listed in {root} lack {sorted(found - set(listed))[0]!r}: add it, or remove the list")
    return listed if listed and (labels or classes) else sorted(found)


def _metadata(root: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Key -> (table, row), of every metadata table in the folder and below."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        table = next((Path(folder) / name for name in _METADATA if name in names), None)
        if table is not None and table.is_file() and "store.json" not in names:
            for row in _rows(table):
                if row.get("file_name") in (None, ""):
                    raise BadInput(f"{table} has a row without 'file_name' (found: {', '.join(map(str, row))})")
                key = (table.relative_to(root).parent / str(row["file_name"])).as_posix()
                found[key] = (table.relative_to(root).as_posix(), row)
    return found


def _sidecars(files: dict[str, str | Rejected]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Key -> (JSON file, what it says) of pictures that have one of their name beside them; those files are no pictures."""
    pictures = {key.rpartition(".")[0]: key for key in files if is_picture(key)}
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for name in [key for key in files if key.endswith(".json")]:
        file, key = files[name], pictures.get(name.removesuffix(".json"))
        if key is None or not isinstance(file, str):
            continue
        try:
            said = json.loads(Path(file).read_bytes())
        # A companion that is no JSON says nothing; the picture stands, and the file is counted as what it is.
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(said, dict):
            found[key] = name, said
            del files[name]
    return found


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        if file.suffix == ".parquet":
            rows = pq.ParquetFile(file).read().to_pylist()
        else:
            text = file.read_text(encoding="utf-8-sig")
            lines = text.splitlines()
            rows = list(csv.DictReader(lines)) if file.suffix == ".csv" else [json.loads(one) for one in lines if one.strip()]
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise BadInput(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    if not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{file} has a line that is no object with a 'file_name'")
    return rows
