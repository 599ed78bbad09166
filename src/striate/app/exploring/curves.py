"""A run's curves for a page that follows it: metrics.jsonl from where the page had read to."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Lines of one answer: more than a curve has pixels.
_MOST = 2000


@dataclass(frozen=True)
class NewLines:
    """What was written since.

    Attributes:
        lines: numbers by name; None where one is not finite.
        end: where to read on, in bytes.
        again: whether these are all lines anew: the file was cut, as resuming a run does.
    """

    lines: list[dict[str, float | None]]
    end: int
    again: bool


def new_lines(run: Path, start: int) -> NewLines:
    """Lines of metrics.jsonl from a byte on; a torn last one is left for the next time, and long files are thinned out."""
    file = run / "metrics.jsonl"
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            again = start > size
            opened.seek(0 if again else start)
            data = opened.read()
            begin = 0 if again else start
    except OSError:
        return NewLines([], 0, start > 0)
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.splitlines()
    if len(lines) > _MOST:
        every = -(-len(lines) // _MOST)
        lines = [*lines[:-1:every], lines[-1]]
    return NewLines([line for one in lines if (line := _numbers(one))], begin + len(whole), again)


def _numbers(line: bytes) -> dict[str, float | None] | None:
    try:
        found: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or "step" not in found:
        return None
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float)}
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
