"""Decoding wherever somebody has it done: files go by their path, and must be there; what archives hold goes as bytes."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from striate.errors import BadInput
from striate.images.decode import UNREADABLE, Target, read_file
from striate.images.items import Item, Rejected
from striate.images.pool import Decoded, decode_all, decode_carefully
from striate.images.work import Each

_SHARE = "every machine of the cluster must see the same files at the same paths"


@dataclass(frozen=True)
class Unlike:
    """What a worker has to say that sees other files than those that were meant."""

    why: str


@dataclass(frozen=True)
class Chunk:
    """Items that are decoded together.

    Attributes:
        items: in the source's order.
        witness: the first of their files that is there, and its bytes; None where there is none.
    """

    items: list[Item]
    witness: tuple[Path, int] | None

    @classmethod
    def of(cls, items: list[Item]) -> Chunk:
        """Wherever it is read, files are those of this machine's paths."""
        items = [replace(item, data=item.data.absolute()) if isinstance(item.data, Path) else item for item in items]
        for item in items:
            if isinstance(item.data, Path) and (size := _size(item.data)) is not None:
                return cls(items, (item.data, size))
        return cls(items, None)

    @property
    def unlike(self) -> str | None:
        """What has become of the witness where this is asked; None: it is as it was."""
        if self.witness is None or (found := _size(self.witness[0])) == self.witness[1]:
            return None
        file, size = self.witness
        return f"{file} is not there" if found is None else f"{file} has {found} bytes, {size} were expected"


def decoded_afar(chunks: Iterator[list[Item]], target: Target, each: Each) -> Iterator[tuple[list[Item], Decoded]]:
    """Each chunk and what became of it, in order: the same as decoding here.

    Raises:
        BadInput: a worker does not see the files, or sees others.
    """
    decoding = Decoding(target)
    for chunk, decoded in each(decoding, map(Chunk.of, chunks), decoding.carefully):
        if isinstance(decoded, Unlike):
            if chunk.unlike is None:
                raise BadInput(decoded.why)
            # Changed since, here, too: no machine's fault.
            decoded = decode_all([item.data for item in chunk.items], target)
        for item, (kept, note) in zip(chunk.items, decoded.notes, strict=True):
            if not kept and note.startswith(UNREADABLE) and isinstance(item.data, Path):
                _check_unreadable(item.data, note)
        yield chunk.items, decoded


@dataclass(frozen=True)
class Decoding:
    """Chunks to pixels.

    Attributes:
        target: what they become.
    """

    target: Target

    def __call__(self, chunk: Chunk) -> Decoded | Unlike:
        """Decode a chunk where this is called, if its files are those that were meant."""
        if (unlike := chunk.unlike) is not None:
            return Unlike(f"{platform.node()} does not see the pictures that it is to decode ({unlike}): {_SHARE}")
        return decode_all([item.data for item in chunk.items], self.target)

    def carefully(self, chunk: Chunk) -> Decoded:
        """A chunk that ended its workers: here, in processes of their own, until the picture that does it is found."""
        return decode_carefully([item.data for item in chunk.items], self.target)


def _check_unreadable(file: Path, note: str) -> None:
    """Raise `BadInput` if this machine can read what a worker could not."""
    try:
        read_file(file)
    except Rejected:
        return
    raise BadInput(f"a worker cannot read {file} ({note}), which this machine can: {_SHARE}")


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None
