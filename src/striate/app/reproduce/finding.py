"""What a redrawn figure says, beside what the paper says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from striate.show import Figure, Table


@dataclass(frozen=True)
class Finding:
    """One figure redrawn.

    Attributes:
        figure: the paper's number.
        paper: its finding, in a sentence.
        ours: what was measured here.
        agrees: whether the measurement bears the finding out.
        pictures: the figure redrawn.
        tables: what was measured, where a sentence does not hold it.
        rows: the same for scripts.
    """

    figure: str
    paper: str
    ours: str
    agrees: bool
    pictures: tuple[Figure, ...]
    tables: tuple[Table, ...] = ()
    rows: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Paper:
    """A paper's figures, by what they are drawn from.

    Attributes:
        title: of the report.
        of_pictures: from a store and its moments.
        of_models: from trainings.
        judged: from trainings and labelled pictures to judge on.
        stages: the trainings, by name.
        of_concepts: from trainings and pictures of a concept and others.
    """

    title: str
    of_pictures: Mapping[str, Callable[[Any], Finding]]
    of_models: Mapping[str, Callable[[Any], Finding]]
    judged: Mapping[str, Callable[[Any], Finding]]
    stages: Mapping[str, Any]
    of_concepts: Mapping[str, Callable[[Any], Finding]] = field(default_factory=dict)

    @property
    def figures(self) -> list[str]:
        """Numbers of all figures, in order."""
        numbers = [*self.of_pictures, *self.of_models, *self.judged, *self.of_concepts]
        return sorted(numbers, key=lambda number: tuple(int(part) for part in number.split(".")))
