"""What each unit of a layer does over many pictures: how active, how selective, and which picture excites it most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A unit whose answers differ by less than this never varies.
_VARIES = 1e-6


@dataclass(frozen=True)
class UnitStatistics:
    """One entry a unit, numpy arrays (units,).

    Attributes:
        mean: of its answers.
        deviation: their standard deviation.
        largest: answer.
        best: position of the picture that gave it; the first of several.
        sparseness: 0 where all pictures excite it alike, 1 where a single one does. Treves and Rolls 1991, scaled as by Vinje
            and Gallant 2000: (1 - mean(x)^2 / mean(x^2)) / (1 - 1/n), of answers without their sign. nan of silent units.
        silent: bool, whether it never varies.
        pictures: how many there were.
    """

    mean: np.ndarray
    deviation: np.ndarray
    largest: np.ndarray
    best: np.ndarray
    sparseness: np.ndarray
    silent: np.ndarray
    pictures: int


class UnitSums:
    """Running sums over blocks of answers, in float64.

    Args:
        units: how many.
    """

    def __init__(self, units: int) -> None:
        self._count = 0
        self._sum, self._absolute, self._squares = (np.zeros(units) for _ in range(3))
        self._largest = np.full(units, -np.inf, np.float32)
        self._smallest = np.full(units, np.inf, np.float32)
        self._best = np.zeros(units, np.int64)

    def update(self, answers: np.ndarray) -> None:
        """Take in the answers (pictures, units) to the pictures that follow."""
        if len(answers) == 0:
            return
        rows = answers.astype(np.float32, copy=False)
        self._sum += rows.sum(axis=0, dtype=np.float64)
        self._absolute += np.abs(rows).sum(axis=0, dtype=np.float64)
        self._squares += np.einsum("nu,nu->u", rows, rows, dtype=np.float64)
        at = rows.argmax(axis=0)
        highest = rows[at, np.arange(rows.shape[1])]
        better = highest > self._largest
        self._best[better] = self._count + at[better]
        self._largest = np.maximum(self._largest, highest)
        self._smallest = np.minimum(self._smallest, rows.min(axis=0))
        self._count += len(rows)

    def statistics(self) -> UnitStatistics:
        """Of all that was taken in; at least one picture."""
        n = self._count
        mean, square = self._sum / n, self._squares / n
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        silent = self._largest - self._smallest < _VARIES
        with np.errstate(invalid="ignore", divide="ignore"):
            even = (self._absolute / n) ** 2 / square
            sparseness = np.where(silent | (n < 2), np.nan, (1 - even) / (1 - 1 / max(n, 2)))
        return UnitStatistics(mean, deviation, self._largest, self._best, sparseness, silent, n)
