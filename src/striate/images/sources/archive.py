"""Tar archives and WebDataset shards, read member by member; nothing is ever extracted to a path.

Members that share a name up to the first dot of their last part are one sample (WebDataset): a picture beside `.cls` (a class
number or name), `.txt` (a term) or `.json` (`label`, `term` or `search_term`). In a plain archive, folders are classes by the
same rule as on disk, as far as it can be told while streaming: the last folder's name is the term, and the class.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from striate.errors import BadInput
from striate.images.items import UNLABELLED, Item, Rejected

_PICTURES = {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "avif", "jp2", "img", "image"}
_SIDECARS = {"cls", "txt", "json"}
# A member that says it is larger than this is no picture of ours; its header may lie, reading it would not.
_LARGEST_MEMBER = 1 << 30


class ArchiveSource:
    """One tar file, or several taken in order.

    Raises:
        BadInput: while reading, when an archive is damaged beyond its last whole member at the very start.
    """

    natural_shape = None

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self.class_names: list[str] = []

    def __iter__(self) -> Iterator[Item]:
        for path in self._paths:
            prefix = f"{path.name}/" if len(self._paths) > 1 else ""
            for stem, members in _samples(path):
                yield self._item(prefix + stem, members)

    def _item(self, key: str, members: dict[str, bytes | Rejected]) -> Item:
        pictures = [suffix for suffix in members if suffix.lower() not in _SIDECARS]
        if not pictures:
            return Item(key + "." + next(iter(members)), Rejected("no picture among this sample's members"))
        suffix = next((s for s in pictures if s.rsplit(".", 1)[-1].lower() in _PICTURES), pictures[0])
        details = _details(members)
        folder = PurePosixPath(key).parent.name
        name, term = details.get("label"), details.get("term") or details.get("search_term")
        if name is None and folder and not members.keys() & _SIDECARS:
            name = term = folder
        full = f"{key}.{suffix}" if suffix else key
        return Item(full, members[suffix], self._label(name), str(term) if term is not None else None)

    def _label(self, name: Any) -> int:
        if name is None:
            return UNLABELLED
        if isinstance(name, int) or (isinstance(name, str) and name.isdigit()):
            return int(name)
        if name not in self.class_names:
            self.class_names.append(str(name))
        return self.class_names.index(str(name))


def _details(members: dict[str, bytes | Rejected]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for suffix, data in members.items():
        if isinstance(data, Rejected):
            continue
        text = data.decode("utf-8", errors="replace").strip() if suffix in _SIDECARS else ""
        if suffix == "cls":
            found["label"] = text
        elif suffix == "txt":
            found["term"] = text
        elif suffix == "json":
            try:
                parsed = json.loads(text)
            except ValueError:
                continue
            found.update(parsed if isinstance(parsed, dict) else {})
    return found


def _samples(path: Path) -> Iterator[tuple[str, dict[str, bytes | Rejected]]]:
    """Consecutive members that share a stem."""
    stem, members = "", dict[str, bytes | Rejected]()
    for name, data in _members(path):
        this, suffix = _split(name)
        if members and (this != stem or suffix in members):
            yield stem, members
            members = {}
        stem = this
        members[suffix] = data
    if members:
        yield stem, members


def _split(name: str) -> tuple[str, str]:
    folder, _, last = name.rpartition("/")
    base, _, suffix = last.partition(".")
    return (f"{folder}/{base}" if folder else base), suffix


def _members(path: Path) -> Iterator[tuple[str, bytes | Rejected]]:
    try:
        archive = tarfile.open(path, "r|*")  # noqa: SIM115 (closed by the with below)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise BadInput(f"{path} is no tar archive: {error}") from None
    number = 0
    with archive:
        while True:
            try:
                member = archive.next()
                if member is None:
                    return
                data = _read(archive, member)
            # Compressed archives raise their own kinds too (zlib.error, lzma.LZMAError, EOFError).
            except Exception as error:
                yield f"after member {number}", Rejected(f"the archive is damaged here: {error}")
                return
            number += 1
            name = PurePosixPath(member.name).name
            if data is not None and not name.startswith("."):
                yield member.name, data


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | Rejected | None:
    if not member.isfile():
        return None
    if member.size > _LARGEST_MEMBER:
        return Rejected(f"too large: {member.size} bytes")
    file = archive.extractfile(member)
    return file.read() if file is not None else None
