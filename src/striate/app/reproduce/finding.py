"""What a redrawn figure says, beside what the paper says."""

from __future__ import annotations

from dataclasses import dataclass

from striate.show import Figure


@dataclass(frozen=True)
class Finding:
    """One figure redrawn.

    Attributes:
        figure: the paper's number.
        paper: its finding, in a sentence.
        ours: what was measured here.
        agrees: whether the measurement bears the finding out.
        pictures: the figure redrawn.
    """

    figure: str
    paper: str
    ours: str
    agrees: bool
    pictures: tuple[Figure, ...]
