"""Figures of classifiers: reliability, risk against coverage, accuracy against labels. Arrays and records in, PNG bytes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from striate.show.figures import INK, new_figure, png

_COLOURS = ("#2a7f9e", "#b5482f", "#5b7f3a", "#7a5195")
_GREY = "#9a9a9a"


@dataclass(frozen=True)
class Reliability:
    """Bins of a reliability diagram: mean confidence, accuracy and pictures of each."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Points:
    """A learning curve: labels a class, mean accuracy, its interval."""

    labels: Sequence[float]
    accuracy: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def reliability(parts: Mapping[str, Reliability]) -> bytes:
    """Accuracy against confidence, by name, with two binomial standard errors; the diagonal is what probabilities say."""
    figure, axis = new_figure(4.6, 4.2)
    axis.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8)
    for (name, bins), colour in zip(parts.items(), (_GREY, *_COLOURS)):
        error = 2 * np.sqrt(np.maximum(bins.accuracy * (1 - bins.accuracy), 1e-4) / np.maximum(bins.count, 1))
        axis.errorbar(
            bins.confidence,
            bins.accuracy,
            error,
            color=colour,
            linewidth=1.4,
            elinewidth=0.8,
            marker="o",
            markersize=3,
            label=name,
        )
    axis.set(xlabel="probability of the class named", ylabel="share named rightly", xlim=(0, 1), ylim=(0, 1.02))
    axis.legend(loc="upper left")
    return png(figure)


def risk(
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]], target: float | None = None, coverage: float | None = None
) -> bytes:
    """Share of wrong predictions among those given, against the share given, by name; a target and what it left."""
    figure, axis = new_figure(5.6, 3.6)
    top = 0.0
    colours = iter(_COLOURS * 2)
    for name, (given, wrong) in parts.items():
        colour = _GREY if "raw pixels" in name else next(colours)
        # The first few predictions' error jumps between 0 and 1 and says nothing.
        shown = given >= min(0.01, given[-1])
        axis.plot(given[shown], wrong[shown], color=colour, linewidth=1.4, label=name)
        top = max(top, float(wrong[shown].max()))
    if target is not None:
        axis.axhline(target, color=INK, linewidth=0.8, linestyle="--", label=f"at most {100 * target:g}% wrong")
    if coverage:
        axis.axvline(coverage, color=INK, linewidth=0.8, linestyle=":", label=f"{100 * coverage:.0f}% given")
    axis.set(
        xlabel="share of pictures given an answer", ylabel="share of answers wrong", xlim=(0, 1), ylim=(0, 1.08 * top + 0.01)
    )
    axis.legend(loc="upper left")
    return png(figure)


def learning_curves(lines: Mapping[str, Points], chance: float) -> bytes:
    """Accuracy against labels a class, on a logarithmic scale, with intervals; raw pixels in grey."""
    figure, axis = new_figure(7.0, 4.0)
    colours = iter(_COLOURS * 2)
    ticks = sorted({count for line in lines.values() for count in line.labels})
    for name, line in lines.items():
        pixels = "raw pixels" in name
        colour = _GREY if pixels else next(colours)
        axis.fill_between(line.labels, line.low, line.high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(line.labels, line.accuracy, color=colour, linewidth=1.4, marker="o", markersize=3, label=name)
    axis.axhline(chance, color=INK, linewidth=0.7, linestyle=":", label="chance")
    axis.set(xlabel="labels a class", ylabel="accuracy on other pictures", xscale="log")
    axis.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axis.minorticks_off()
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return png(figure)
