"""Which labelled pictures a classifier learns from, and which it is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from striate.app.publishing import labels_of
from striate.errors import BadInput
from striate.images import ImageStore
from striate.measure.fewshot import draw_per_class


@dataclass(frozen=True)
class Lesson:
    """Labelled pictures.

    Attributes:
        store: theirs.
        positions: (n,).
        labels: int64 (n,), indices of class names.
        origin: `decisions` of labellers, or `import`.
    """

    store: ImageStore
    positions: np.ndarray
    labels: np.ndarray
    origin: str

    def __len__(self) -> int:
        return len(self.positions)

    def few(self, per_class: int, seed: int) -> Lesson:
        """So many a class, drawn by the seed."""
        return self.at(draw_per_class(self.labels, per_class, seed))

    def at(self, chosen: np.ndarray) -> Lesson:
        """Some of them."""
        return Lesson(self.store, self.positions[chosen], self.labels[chosen], self.origin)

    def without(self, other: Lesson) -> Lesson:
        """Those that are not among others of the same store."""
        return self.at(np.flatnonzero(~np.isin(self.positions, other.positions)))


def read_lesson(store: ImageStore, classes: Path | None = None, verified: bool = False) -> tuple[Lesson, list[str]]:
    """All labelled pictures of a store, and the names of the classes.

    Raises:
        BadInput: there are no labels, or of one class only.
    """
    found = labels_of(store, classes, verified=verified)
    positions = np.flatnonzero(found.labels >= 0)
    labels = found.labels[positions]
    if len(np.unique(labels)) < 2:
        [only] = np.unique(labels)
        raise BadInput(
            f"{store.path}: all {len(labels):,} labels are of one class, {found.class_names[only]!r}: "
            "a classifier needs labels of two at least"
        )
    return Lesson(store, positions, labels, found.origin), found.class_names


def read_test(store: ImageStore, class_names: Sequence[str], classes: Path | None = None) -> Lesson:
    """The labelled pictures of a store to judge on, their classes matched to others' by name.

    Raises:
        BadInput: it has no labels, or names a class that nobody learned.
    """
    found = labels_of(store, classes)
    positions = np.flatnonzero(found.labels >= 0)
    theirs = found.labels[positions]
    strange = [found.class_names[one] for one in np.unique(theirs) if found.class_names[one] not in class_names]
    if strange:
        names = ", ".join(map(repr, strange[:3]))
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise BadInput(
            f"{store.path} has pictures of {names}{more}, which the training pictures do not name "
            f"({', '.join(map(repr, class_names[:5]))}{', ...' if len(class_names) > 5 else ''}): classes are matched by name"
        )
    lookup = np.array([class_names.index(name) if name in class_names else -1 for name in found.class_names])
    return Lesson(store, positions, lookup[theirs], found.origin)
