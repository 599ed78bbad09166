"""Videos: one frame in every N, or one a file (Le et al. 2012 took one frame of each of ten million videos)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from striate.errors import BadInput
from striate.images.items import Item, Rejected

SUFFIXES = {".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ogv", ".flv"}


class VideoSource:
    """Frames of one or more video files.

    Args:
        paths: the files, in order.
        every: keep frames 0, every, 2 * every, ...; None keeps the middle frame of each file.

    Raises:
        BadInput: PyAV is not installed.
    """

    natural_shape = None

    def __init__(self, paths: list[Path], every: int | None = 1) -> None:
        try:
            import av  # noqa: F401
        except ImportError:
            raise BadInput("reading videos needs PyAV: pip install 'striate[video]'") from None
        if every is not None and every < 1:
            raise BadInput(f"--every must be at least 1, found {every}")
        self._paths = paths
        self._every = every
        self.class_names: list[str] = []

    def __iter__(self) -> Iterator[Item]:
        for path in self._paths:
            if self._every is None:
                yield from _middle(path)
            else:
                yield from _every(path, self._every)


def _every(path: Path, every: int) -> Iterator[Item]:
    number = -1
    try:
        for number, frame in _frames(path):
            if number % every == 0:
                yield Item(f"{path.name}/{number:08d}", frame(), term=path.stem)
    # Damaged videos raise av.error's many kinds; what came before stays.
    except Exception as error:
        yield Item(f"{path.name}/{number + 1:08d}", Rejected(f"damaged video: {error}"))
        return
    if number < 0:
        yield Item(path.name, Rejected("no frame in this video"))


def _middle(path: Path) -> Iterator[Item]:
    try:
        count = sum(1 for _ in _frames(path))
        if count == 0:
            yield Item(path.name, Rejected("no frame in this video"))
        for number, frame in _frames(path):
            if number == count // 2:
                yield Item(path.name, frame(), term=path.stem)
                return
    except Exception as error:
        yield Item(path.name, Rejected(f"damaged video: {error}"))


def _frames(path: Path) -> Iterator[tuple[int, _Frame]]:
    import av

    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            yield number, _Frame(frame)


class _Frame:
    """A decoded frame, made into RGB only when asked."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __call__(self) -> np.ndarray:
        levels: np.ndarray = self._frame.to_ndarray(format="rgb24")
        return np.ascontiguousarray(levels.transpose(2, 0, 1))
