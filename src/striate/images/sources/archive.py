"""Tar archives and WebDataset shards, read member by member; nothing is ever extracted to a path.

Members that share a name up to the first dot of their last part are one sample (WebDataset): pictures beside `.cls` (a class
number or name), `.txt` (a term) or `.json` (`label`, `term` or `search_term`). An archive without such companions follows
the rule of folders on disk: `class/file` and `split/class/file` are labelled by class. Every member that is no companion
counts, the place where an archive is damaged included.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from striate.errors import BadInput
from striate.images.items import UNLABELLED, Item, Rejected, label_from, names_beside
from striate.images.sources.folder import folder_classes

_COMPANIONS = {"cls", "txt", "json"}
# A member that says it is larger than this is no picture of ours; its header may lie, reading it would not.
_LARGEST_MEMBER = 1 << 30

Members = dict[str, bytes | Rejected]


class ArchiveSource:
    """One tar file, or several taken in order.

    Raises:
        BadInput: the first of them is no tar archive.
    """

    natural_shape = None

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        names = [name for path in paths for name in _names(path)]
        companions = any(name.rpartition(".")[2] in _COMPANIONS for name in names)
        # Splits may lie in different archives of the same folders.
        self._classes = {} if companions else folder_classes(names)
        self.class_names: list[str] = sorted(set(self._classes.values())) or names_beside(paths[0].parent)

    def __iter__(self) -> Iterator[Item]:
        for path in self._paths:
            prefix = f"{path.name}/" if len(self._paths) > 1 else ""
            for stem, members in _samples(path):
                yield from self._items(prefix, stem, members)

    def _items(self, prefix: str, stem: str, members: Members) -> Iterator[Item]:
        details = _details(members)
        pictures = {suffix: data for suffix, data in members.items() if suffix not in _COMPANIONS}
        if not pictures:
            yield Item(prefix + _join(stem, next(iter(members))), Rejected("no picture beside this member"))
        for suffix, data in pictures.items():
            name = _join(stem, suffix)
            folder = self._classes.get(name)
            term = details.get("term") or details.get("search_term") or PurePosixPath(name).parent.name or None
            try:
                label = self.class_names.index(folder) if folder else label_from(details.get("label"), self.class_names)
            except Rejected as reason:
                label, data = UNLABELLED, reason
            yield Item(prefix + name, data, label, None if term is None else str(term))


def _details(members: Members) -> dict[str, Any]:
    """What a sample's companions say."""
    texts = {
        suffix: data.decode("utf-8", "replace").strip()
        for suffix in _COMPANIONS & members.keys()
        if isinstance(data := members[suffix], bytes)
    }
    found: dict[str, Any] = {}
    try:
        parsed = json.loads(texts.get("json", "{}"))
        found.update(parsed if isinstance(parsed, dict) else {})
    # A companion that is no JSON says nothing; the picture stands.
    except (ValueError, RecursionError):
        pass
    if "txt" in texts:
        found["term"] = texts["txt"]
    if "cls" in texts:
        found["label"] = texts["cls"]
    return found


def _samples(path: Path) -> Iterator[tuple[str, Members]]:
    """Consecutive members that share a stem."""
    stem, members = "", Members()
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
    folder, slash, last = name.rpartition("/")
    base, _, suffix = last.partition(".")
    return folder + slash + base, suffix


def _join(stem: str, suffix: str) -> str:
    return f"{stem}.{suffix}" if suffix else stem


def _names(path: Path) -> list[str]:
    """The names of an archive's files, as far as it is whole."""
    names: list[str] = []
    # What is wrong is told when the members are read.
    with _open(path) as archive, suppress(Exception):
        while (member := archive.next()) is not None:
            _forget(archive)
            if member.isfile() and _counts(member.name):
                names.append(member.name)
    return names


def _forget(archive: tarfile.TarFile) -> None:
    """Drop the list of members read so far: it would grow with the archive, and nothing here needs it."""
    members: list[tarfile.TarInfo] = vars(archive)["members"]
    members.clear()


def _counts(name: str) -> bool:
    parts = [part for part in PurePosixPath(name).parts if part not in (".", "..")]
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)


class _Damaged(Exception):
    """Not a kind of tarfile's own errors: those mean the end of the archive to its reader, which then says nothing."""


class _Member(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            ended = type(error).__name__ == "EOFHeaderError"
            if ended or archive.offset == 0:
                raise
            raise _Damaged(str(error) or "it ends without its end mark") from None


def _open(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r|*", tarinfo=_Member)
    # Compressed archives raise their own kinds too (zlib.error, lzma.LZMAError, EOFError).
    except Exception as error:
        raise BadInput(f"{path} is no tar archive: {error}") from None


def _members(path: Path) -> Iterator[tuple[str, bytes | Rejected]]:
    number = 0
    with _open(path) as archive:
        while True:
            try:
                member = archive.next()
                if member is None:
                    return
                data = _read(archive, member)
            except Exception as error:
                yield f"after member {number}", Rejected(f"the archive is damaged here: {error}")
                return
            _forget(archive)
            number += 1
            if data is not None and _counts(member.name):
                yield member.name, data


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | Rejected | None:
    if member.isdir():
        return None
    if not member.isfile():
        return Rejected("a link or device: only whole files are read from archives")
    if member.size > _LARGEST_MEMBER:
        return Rejected(f"too large: {member.size} bytes")
    file = archive.extractfile(member)
    data = file.read() if file is not None else b""
    if len(data) < member.size:
        raise _Damaged(f"{member.name} is cut short")
    return data
