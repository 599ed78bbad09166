"""Figures drawn with matplotlib, as PNG bytes: curves, histograms, matrices. Arrays and records in."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

COLOURS = {"edge": "#2a7f9e", "point": "#d98c2b", "noise": "#9a9a9a"}
INK = "#30343b"
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e4e6e9",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "legend.frameon": False,
}


def new_figure(width: float = 5.2, height: float = 3.0, **axes: Any) -> tuple[Figure, Any]:
    """An empty figure in the reports' style, and its axes."""
    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(width, height), layout="constrained", **axes)
    return figure, axis


def png(figure: Figure) -> bytes:
    """A figure as PNG bytes; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return buffer.getvalue()


def curve(x: Sequence[float], y: Sequence[float], x_label: str, y_label: str, log: bool = False) -> bytes:
    """One line against training time."""
    figure, axis = new_figure()
    axis.plot(x, y, color="#2a7f9e", linewidth=1.4)
    axis.set(xlabel=x_label, ylabel=y_label, yscale="log" if log else "linear")
    return png(figure)


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    level: float | None = None,
    log: bool = False,
) -> bytes:
    """Several lines by name, each (x, y), and a level to reach; on logarithmic axes if asked."""
    figure, axis = new_figure(7.0, 3.4)
    colours = ("#2a7f9e", "#b5482f", "#5b7f3a", "#7a5195", "#c99a2e", "#6b6f76")
    for number, (name, (x, y)) in enumerate(lines.items()):
        dashes = ("-", "--", ":")[number // len(colours)]
        axis.plot(x, y, color=colours[number % len(colours)], linewidth=1.4, linestyle=dashes, label=name)
    if level is not None:
        axis.axhline(level, color=INK, linewidth=0.8, linestyle="--")
    axis.set(xlabel=x_label, ylabel=y_label)
    if log:
        axis.set(xscale="log", yscale="log")
    if len(lines) > 4:
        # Beside the axes: so many names cover what they name.
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    else:
        axis.legend(frameon=False)
    return png(figure)


def amounts(names: Sequence[str], values: Sequence[float], x_label: str) -> bytes:
    """Amounts as bars, one above the other."""
    figure, axis = new_figure(7.5, 0.6 + 0.32 * len(names))
    places = np.arange(len(names))[::-1]
    axis.barh(places, values, color="#2a7f9e", height=0.7)
    for place, value in zip(places, values, strict=True):
        axis.text(value, place, f" {value:,.4g}", va="center", fontsize=8, color=INK)
    axis.set_yticks(places, names)
    axis.set(xlabel=x_label, xlim=(0, 1.15 * max(values)))
    return png(figure)


def answers(
    pictures: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str], near: np.ndarray
) -> bytes:
    """Pictures with their most probable classes, and pictures near each.

    Args:
        pictures: uint8 (n, c, h, w).
        probabilities: (n, classes).
        labels: true classes, (n,).
        names: of the classes.
        near: uint8 (n, k, c, h, w).
    """
    figure, axes = new_figure(
        10.0, 0.95 * len(pictures), nrows=len(pictures), ncols=2 + near.shape[1], width_ratios=[1, 2.6, *[1] * near.shape[1]]
    )
    for row, (picture, chances, label) in enumerate(zip(pictures, probabilities, labels, strict=True)):
        axes[row, 0].imshow(_levels(picture))
        best = chances.argsort()[::-1][:5]
        shades = ["#b5482f" if one == label else "#2a7f9e" for one in best]
        axes[row, 1].barh(range(len(best)), chances[best], color=shades, height=0.75)
        for place, one in enumerate(best):
            axes[row, 1].text(0.02, place, names[one], va="center", fontsize=7.5, color=INK)
        axes[row, 1].set(xlim=(0, 1), ylim=(len(best) - 0.5, -0.5))
        for column, other in enumerate(near[row], start=2):
            axes[row, column].imshow(_levels(other))
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
        axis.grid(False)
    axes[0, 0].set_title("picture", fontsize=8)
    axes[0, 1].set_title("most probable (red: the true class)", fontsize=8)
    axes[0, 2].set_title("nearest", fontsize=8)
    return png(figure)


def _levels(picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture, 3, axis=0).transpose(1, 2, 0) if len(picture) == 1 else picture.transpose(1, 2, 0)


def stacked_shares(steps: Sequence[float], shares: Mapping[str, Sequence[float]], x_label: str) -> bytes:
    """Shares that add up to 1, stacked, against training time."""
    figure, axis = new_figure()
    names = list(shares)
    colours = [COLOURS.get(name, INK) for name in names]
    axis.stackplot(steps, [shares[name] for name in names], labels=names, colors=colours, alpha=0.92)
    axis.set(xlabel=x_label, ylabel="share of filters", ylim=(0, 1))
    axis.margins(x=0)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return png(figure)


def histogram(values: np.ndarray, x_label: str, y_label: str = "units", bins: int = 40, log: bool = False) -> bytes:
    """Counts of values."""
    figure, axis = new_figure()
    axis.hist(values, bins=bins, color="#2a7f9e")
    axis.set(xlabel=x_label, ylabel=y_label, yscale="log" if log else "linear")
    return png(figure)


def two_histograms(
    first: np.ndarray, second: np.ndarray, names: tuple[str, str], threshold: float, x_label: str, bins: int = 60
) -> bytes:
    """Two collections' values over one another, each as shares, and a threshold."""
    figure, axis = new_figure()
    edges = np.linspace(min(first.min(), second.min()), max(first.max(), second.max()), bins + 1)
    for values, name, colour in zip((first, second), names, ("#d98c2b", "#2a7f9e")):
        axis.hist(values, bins=edges, weights=np.full(len(values), 1 / len(values)), alpha=0.6, label=name, color=colour)
    axis.axvline(threshold, color=INK, linewidth=1, linestyle="--")
    axis.set(xlabel=x_label, ylabel="share of pictures")
    axis.legend()
    return png(figure)


def roc(false: np.ndarray, true: np.ndarray) -> bytes:
    """True against false positive rates; the diagonal is chance."""
    figure, axis = new_figure(3.6, 3.4)
    axis.plot([0, 1], [0, 1], color="#9a9a9a", linewidth=0.8)
    axis.plot(false, true, color="#2a7f9e", linewidth=1.4)
    axis.set(xlabel="false positives", ylabel="true positives", xlim=(0, 1), ylim=(0, 1.01))
    return png(figure)


def banded(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]], x_label: str, y_label: str
) -> bytes:
    """Lines with bands, by name: x, y, lower, upper."""
    figure, axis = new_figure()
    for (name, (x, y, low, high)), colour in zip(lines.items(), ("#2a7f9e", "#9a9a9a", "#d98c2b")):
        axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(x, y, color=colour, linewidth=1.4, marker="o", markersize=2.5, label=name)
    axis.axhline(0, color=INK, linewidth=0.6)
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.legend()
    return png(figure)


def bars(names: Sequence[str], values: Sequence[float], intervals: Sequence[tuple[float, float]], x_label: str) -> bytes:
    """Shares as bars, one above the other, with their intervals."""
    figure, axis = new_figure(7.5, 0.6 + 0.32 * len(names))
    places = np.arange(len(names))[::-1]
    low, high = np.array(intervals).T
    errors = [np.array(values) - low, high - np.array(values)]
    axis.barh(places, values, xerr=errors, color="#2a7f9e", ecolor=INK, height=0.7)
    for place, value, top in zip(places, values, high, strict=True):
        axis.text(top + 0.005, place, f"{100 * value:.1f}%", va="center", fontsize=8, color=INK)
    axis.set_yticks(places, names)
    axis.set(xlabel=x_label, xlim=(0, min(1.0, float(high.max()) + 0.1)))
    return png(figure)


def orientations(angles: np.ndarray) -> bytes:
    """Directions 0 to pi as a rose, each drawn on both sides."""
    figure, axis = new_figure(3.2, 3.0, subplot_kw={"projection": "polar"})
    counts, edges = np.histogram(angles, bins=18, range=(0, np.pi))
    centres = (edges[:-1] + edges[1:]) / 2
    both, heights = np.concatenate([centres, centres + np.pi]), np.concatenate([counts, counts])
    axis.bar(both, heights, width=np.pi / 18, color="#2a7f9e")
    axis.set_yticklabels([])
    return png(figure)


def matrix(counts: np.ndarray, names: Sequence[str]) -> bytes:
    """A confusion matrix, rows the true class, as shares of each row; numbers written in where there is room."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(9.0, 1.6 + 0.42 * len(counts)) if len(counts) <= 30 else 8.0
    figure, axis = new_figure(size, size)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.grid(False)
    if len(counts) <= 30:
        axis.set_xticks(range(len(counts)), names, rotation=60, ha="right")
        axis.set_yticks(range(len(counts)), names)
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.005:
                colour = "white" if share > 0.5 else INK
                axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
    axis.set(xlabel="named", ylabel="true class")
    return png(figure)


def spectrum(values: np.ndarray, deleted: int = 0) -> bytes:
    """Eigenvalues on a logarithmic scale, those deleted shaded (Krizhevsky 2009, figure 1.3)."""
    figure, axis = new_figure()
    axis.plot(np.arange(1, len(values) + 1), np.maximum(values, 1e-6), color="#2a7f9e", linewidth=1.4)
    if deleted:
        axis.axvspan(len(values) - deleted, len(values), color="#d98c2b", alpha=0.2, label=f"{deleted} deleted")
        axis.legend()
    axis.set(xlabel="principal direction", ylabel="variance (squared levels)", yscale="log")
    return png(figure)


def image(values: np.ndarray, title: str = "") -> bytes:
    """A matrix as a grey picture, symmetric about zero."""
    figure, axis = new_figure(4.6, 4.2)
    top = float(np.abs(values).max()) or 1.0
    drawn = axis.imshow(values, cmap="gray", vmin=-top, vmax=top, interpolation="nearest")
    figure.colorbar(drawn, ax=axis, shrink=0.8)
    axis.grid(False)
    axis.set_title(title)
    return png(figure)


def histograms(parts: Mapping[str, np.ndarray], x_label: str, level: float, level_name: str, most: float) -> bytes:
    """Distributions over one axis from 0, each scaled to its own largest bin, and where the line between them is drawn."""
    figure, axis = new_figure(7.0, 3.2)
    colours = ("#2a7f9e", "#b5482f", "#5b7f3a", "#7a5195", "#c99a2e")
    bins = np.linspace(0, most, 80)
    for number, (name, values) in enumerate(parts.items()):
        counts = np.histogram(np.asarray(values)[np.isfinite(values)], bins)[0].astype(float)
        axis.stairs(counts / max(counts.max(), 1), bins, label=name, color=colours[number % len(colours)], linewidth=1.4)
    axis.axvline(level, color=INK, linewidth=0.9, linestyle="--", label=level_name)
    axis.set(xlabel=x_label, ylabel="share of the largest bin", xlim=(0, most))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return png(figure)
