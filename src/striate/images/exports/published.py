"""What is published: sets of labelled pictures, with their names, and the card that goes with them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from striate.images.store import ImageStore

_AT_ONCE = 1024


@dataclass(frozen=True)
class Picture:
    """One of them.

    Attributes:
        pixels: uint8 (c, h, w).
        label: index into the class names.
        key: its name in the store.
        term: the search term it was found under, or None.
    """

    pixels: np.ndarray
    label: int
    key: str
    term: str | None


@dataclass(frozen=True)
class Published:
    """A labelled set.

    Attributes:
        store: where the pixels are.
        sets: name (`train`, `test`) -> positions.
        labels: int64 (pictures of the store,).
        class_names: that labels index.
        superclasses: class name -> superclass; empty where there are none.
        terms: search terms of all pictures of the store.
        card: the dataset card, Markdown with a YAML header.
    """

    store: ImageStore
    sets: Mapping[str, np.ndarray]
    labels: np.ndarray
    class_names: Sequence[str]
    superclasses: Mapping[str, str]
    terms: Sequence[str | None]
    card: str

    def pictures(self, name: str) -> Iterator[Picture]:
        """A set's pictures, some read at a time."""
        keys = self.store.keys
        positions = self.sets[name]
        for start in range(0, len(positions), _AT_ONCE):
            rows = positions[start : start + _AT_ONCE]
            for position, pixels in zip(rows.tolist(), self.store[rows], strict=True):
                yield Picture(pixels, int(self.labels[position]), keys[position], self.terms[position])

    @property
    def coarse_names(self) -> list[str]:
        """Superclasses, sorted."""
        return sorted(set(self.superclasses.values()))

    def coarse(self, label: int) -> int:
        """Index of a class's superclass."""
        return self.coarse_names.index(self.superclasses[self.class_names[label]])


def png(pixels: np.ndarray) -> bytes:
    """uint8 (c, h, w) as PNG: lossless."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def plain_name(text: str) -> str:
    """Text as part of a file's name: letters, digits and a few signs; never a path, never hidden, never empty."""
    kept = "".join(one if one.isalnum() or one in " -_." else "_" for one in text).strip(" .")
    return kept.encode("utf-8")[:80].decode("utf-8", "ignore") or "_"
