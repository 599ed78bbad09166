"""Setting aside what shows nothing: mostly white, of a single colour, drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.app.screen import Screen
from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.aside import looked_at, write_aside
from striate.measure.plain import deviation, drawing_score, white_share

_AT_ONCE = 2048


def clean(
    store: ImageStore, screen: Screen, *, white: float = 0.9, flat: float = 4.0, drawings: float = 1.0
) -> list[dict[str, Any]]:
    """Set pictures aside, each for the first reason that holds.

    Args:
        store: the pictures.
        screen: where progress goes.
        white: the largest share of white pixels that stays.
        flat: the least standard deviation of levels that stays.
        drawings: the largest score of drawn pictures that stays.

    Raises:
        BadInput: a limit outside its range.
    """
    if not (0 <= white <= 1 and 0 <= drawings <= 1 and flat >= 0):
        raise BadInput(
            f"--white and --drawings are shares from 0 to 1, --flat is not negative: found {white}, {drawings}, {flat}"
        )
    rows: list[dict[str, Any]] = []
    with screen.progress("looking for empty pictures", len(store), "pictures") as task:
        for start in range(0, len(store), _AT_ONCE):
            pictures = store[start : start + _AT_ONCE]
            scores = (
                ("mostly white", white_share(pictures), lambda score: score > white),
                ("of a single colour", deviation(pictures), lambda score: score < flat),
                ("drawn", drawing_score(pictures), lambda score: score > drawings),
            )
            taken = np.zeros(len(pictures), dtype=bool)
            for reason, score, beyond in scores:
                for row in np.flatnonzero(beyond(score) & ~taken):
                    rows.append({"position": start + int(row), "reason": reason, "score": float(score[row])})
                    taken[row] = True
            task.advance(len(pictures))
    rows.sort(key=lambda row: row["position"])
    write_aside(store, "plain", rows, {"white": white, "flat": flat, "drawings": drawings})
    return rows


def clean_if_new(store: ImageStore, screen: Screen) -> None:
    """Look for empty pictures if nobody has since the store grew."""
    if looked_at(store, "plain") < len(store):
        clean(store, screen)
