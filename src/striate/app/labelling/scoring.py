"""The thread that encodes the store and keeps scores fresh while people label."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

import numpy as np

from striate.app.labelling.ranking import Ranker
from striate.app.labelling.session import Session
from striate.app.screen import Screen
from striate.errors import StriateError
from striate.images import ImageStore

_EVERY_S = 2.0


class Scoring:
    """While the context is open, features are made (or found from before) and scores fitted again and again.

    Without a run, tiny pictures themselves serve as features: better than the order in which pictures were found, far from what
    learned features give.
    """

    def __init__(self, session: Session, run: Path | None, layer: str | None, screen: Screen) -> None:
        self._session, self._run, self._layer, self._screen = session, run, layer, screen
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Scoring:
        if self._run is not None:
            # Before the address is printed: a run that does not fit must be told at once.
            self._session.ranker = Ranker(_learned(self._run, self._session.store, self._layer, self._screen))
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        try:
            if self._session.ranker is None:
                self._session.ranker = Ranker(pixel_features(self._session.store))
            while not self._stop.is_set():
                self._session.refit()
                self._stop.wait(_EVERY_S)
        except StriateError as error:
            self._screen.warn(f"pictures come in the order they were found: {error}")


def pixel_features(store: ImageStore) -> np.ndarray:
    """Tiny pictures as rows, (n, c * h * w), float16."""
    from striate.measure.duplicates.rows import tiny

    parts = [tiny(store[start : start + 2048]).flatten(1).half().numpy() for start in range(0, len(store), 2048)]
    return np.concatenate(parts)


def _learned(run: Path, store: ImageStore, layer: str | None, screen: Screen) -> np.ndarray:
    from striate.app.features import kept_features

    features = kept_features(run, store, layer, screen).array
    assert features is not None, "kept features are memory maps"
    return features
