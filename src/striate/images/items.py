"""What a source yields, and why a picture may be set aside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

UNLABELLED = -1
# Labels are kept as int64; a number beyond this is no class number.
_LARGEST_LABEL = 2**31 - 1
NAME_FILES = ("classes.txt", "class_names.txt")


class Rejected(Exception):
    """This one picture cannot be used; the message is the reason, without its name."""


@dataclass(frozen=True)
class Item:
    """One picture of a source.

    Attributes:
        key: its name within the source, unique there.
        data: encoded bytes, a file to read them from, an array (uint8 (c, h, w)), or the reason why there is nothing.
        label: index into the source's class names, or -1.
        term: the search term or folder it was found under, or None.
    """

    key: str
    data: bytes | Path | np.ndarray | Rejected
    label: int = UNLABELLED
    term: str | None = None


class Source(Protocol):
    """A reader of one format. Iterating twice gives the same items in the same order."""

    class_names: list[str]
    """May grow while items are read; labels index it."""

    @property
    def natural_shape(self) -> tuple[int, int, int] | None:
        """(c, h, w) where every picture has it already, else None."""
        ...

    def __iter__(self) -> Iterator[Item]: ...


def label_from(value: Any, class_names: list[str]) -> int:
    """The label that a source's own field means: nothing or a negative number is unlabelled, a number is itself, any
    other text is a class name, which is added to ``class_names`` if new.

    Raises:
        Rejected: it can be neither a class number nor a name.
    """
    if value is None or value == "":
        return UNLABELLED
    if isinstance(value, str) and not _is_number(value):
        if value not in class_names:
            class_names.append(value)
        return class_names.index(value)
    if isinstance(value, bool) or not isinstance(value, int | str | np.integer):
        raise Rejected(f"a label of type {type(value).__name__}: expected a class number or a name")
    if int(value) > _LARGEST_LABEL:
        raise Rejected(f"label {value} is no class number")
    return max(int(value), UNLABELLED)


def _is_number(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20


def names_beside(folder: Path) -> list[str]:
    """Class names, a line each, from ``classes.txt`` or ``class_names.txt`` in a folder; empty where there is none."""
    for name in NAME_FILES:
        if (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
            return [line.strip() for line in text.splitlines() if line.strip()]
    return []


@dataclass
class ArraySource:
    """Pictures already in memory (or in a memory map): uint8 (n, c, h, w)."""

    images: np.ndarray
    labels: np.ndarray | None = None
    class_names: list[str] = field(default_factory=list)
    keys: list[str] | None = None
    terms: list[str] | None = None

    @property
    def natural_shape(self) -> tuple[int, int, int] | None:
        """The arrays' own shape."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __iter__(self) -> Iterator[Item]:
        for i, image in enumerate(self.images):
            yield Item(
                key=self.keys[i] if self.keys else f"{i:08d}",
                data=np.ascontiguousarray(image),
                label=int(self.labels[i]) if self.labels is not None else UNLABELLED,
                term=self.terms[i] if self.terms else None,
            )
