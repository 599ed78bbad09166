"""Work for a pool of Ray's workers whose result is known, and mishaps for it; for processes that cannot import the tests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.errors import BadInput
from striate.images.work import Each


def squared(number: int) -> int:
    """Later items are quicker than those before them; 13 and above are refused, the first of them last."""
    time.sleep(max(0.0, 0.05 - 0.01 * (number % 7)))
    if number >= 13:
        time.sleep(0.3 if number == 13 else 0.0)
        raise BadInput(f"{number} is unlucky")
    return number * number


def mistaken(number: int) -> float:
    """A mistake of the work's own."""
    return 1 / number


@dataclass(frozen=True)
class Together:
    """How many are at work at the same time, at most, as each of them sees it."""

    folder: Path

    def __call__(self, number: int) -> int:
        mine = self.folder / str(number)
        mine.touch()
        time.sleep(0.05)
        seen = len(list(self.folder.iterdir()))
        mine.unlink()
        return seen


@dataclass(frozen=True)
class Mortal:
    """Work whose worker is killed when it comes to some of the items, as often as each is told.

    Attributes:
        work: what is done otherwise.
        folder: where deaths are written down.
        deaths: number of the item -> how often.
    """

    work: Callable[[Any], Any]
    folder: Path
    deaths: dict[int, int]

    def __call__(self, numbered: tuple[int, Any]) -> Any:
        number, item = numbered
        for death in range(self.deaths.get(number, 0)):
            try:
                (self.folder / f"{number}-{death}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        return self.work(item)


def mortal(each: Each, folder: Path, deaths: dict[int, int]) -> Each:
    """The same workers, killed on the way; each use of them anew."""
    uses: list[Path] = []

    def killed(
        work: Callable[[Any], Any], items: Iterable[Any], otherwise: Callable[[Any], Any] | None = None
    ) -> Iterator[tuple[Any, Any]]:
        uses.append(folder / f"use-{len(uses)}")
        uses[-1].mkdir(parents=True)
        instead = None if otherwise is None else lambda numbered: otherwise(numbered[1])
        for (_, item), result in each(Mortal(work, uses[-1], deaths), enumerate(items), instead):
            yield item, result

    return killed
