"""A small store to label, a session on it, and decisions made by a process that is to be killed."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from striate.app.labelling.classes import LabelClass, classes_of
from striate.app.labelling.ledger import Decision, Ledger
from striate.app.labelling.session import Given, Session
from striate.images import ArraySource, ImageStore, import_images

TERMS = ("cat", "dog")
opened: list[Ledger] = []
"""To be closed after a test."""


def store_at(folder: Path, count: int = 40, side: int = 8) -> ImageStore:
    """Noise, found under two terms in turn."""
    pictures = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    import_images(ArraySource(pictures, None, [], terms=[TERMS[i % 2] for i in range(count)]), folder)
    return ImageStore(folder)


def session_at(folder: Path, count: int = 40, **options: object) -> Session:
    """On a new store, or the one that is there."""
    store = ImageStore(folder) if (folder / "store.json").exists() else store_at(folder, count)
    classes: list[LabelClass] = classes_of(store)
    opened.append(Ledger(folder))
    return Session(store, classes, opened[-1], **options)  # type: ignore[arg-type]


_number = iter(range(10**9))


def given(position: int, answer: str, seconds: float = 1.0) -> Given:
    """An answer with a token of its own."""
    return Given(f"token-{next(_number):08d}", position, answer, seconds)


def decision(position: int, answer: str = "keep", labeller: str = "anna", token: str = "", **more: object) -> Decision:
    """A row as it is written."""
    values = {
        "token": token or f"row-{next(_number):010d}", "at": time.time(), "labeller": labeller, "name": "cat", "stage": "first",
        "position": position, "sha256": "", "answer": answer, "seconds": 1.0,
    }  # fmt: skip
    return Decision(**{**values, **more})  # type: ignore[arg-type]


def decide_for_ever(folder: Path, acknowledged: Path, seed: int) -> None:
    """Write decisions, noting each on the side only after it was acknowledged; ends when killed."""
    with Ledger(folder) as ledger, acknowledged.open("a") as notes:
        for number in range(10**6):
            token = f"kill-{seed:04d}-{number:06d}"
            ledger.add([decision(number % 40, ("keep", "reject", "undo")[number % 3], token=token)])
            notes.write(token + "\n")
            notes.flush()
