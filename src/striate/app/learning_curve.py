"""Accuracy against labels a class: several draws of labels, methods and raw pixels side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from striate.app.classified import Wish
from striate.app.classifying import learn, views
from striate.app.lessons import Lesson, read_lesson, read_test
from striate.app.screen import Screen
from striate.errors import BadInput
from striate.images import ImageStore
from striate.measure.fewshot import STRENGTHS, Accuracy, accuracy_over_draws
from striate.show import Figure, Report, Section, Table, render
from striate.show.judged import Points, learning_curves
from striate.train.checkpoint import write_text

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
# Left-over pictures are judged on where no others are given: so many a class are set aside for that first.
_ASIDE = 0.2


def draw_curve(
    run: Path,
    store: ImageStore,
    test: ImageStore | None,
    wish: Wish,
    counts: Sequence[int] | None,
    seeds: int,
    out: Path,
    screen: Screen,
    classes: Path | None = None,
) -> dict[str, Any]:
    """The curve, as figure, report and result.

    Args:
        run: a model.
        store: labelled pictures to draw labels from.
        test: others to judge on; None sets a fifth of each class aside.
        wish: methods, layer and seed.
        counts: labels a class, or None for 1, 2, 5, ... as far as the rarest class goes, and all.
        seeds: draws a point.
        out: where to write.
        screen: where progress goes.
        classes: the file of classes.

    Raises:
        BadInput: too few labels.
    """
    if "finetune" in wish.methods:
        raise BadInput("--curve compares classifiers on fixed features: fine-tune at one number of labels, with --per-class K")
    pool, names = read_lesson(store, classes)
    if test is not None:
        judged_on = read_test(test, names, classes)
    else:
        judged_on, pool = _aside(pool, wish.seed)
    fewest = int(np.bincount(pool.labels, minlength=len(names))[np.unique(pool.labels)].min())
    counts = [count for count in counts or COUNTS if count < fewest] + ([] if counts and counts[-1] < fewest else [fewest])
    seen, raw, about = views(run, [store] if test is None else [store, test], wish.layer, screen)
    lines = [(seen, method) for method in wish.methods] + [(raw, "logistic")]
    found: dict[str, list[Accuracy]] = {}
    total = len(lines) * sum(_draws(count, fewest, seeds) for count in counts)
    with screen.progress("learning from few labels", total, "classifiers") as task:
        for view, method in lines:
            ready = view.ready(judged_on)
            points = found.setdefault(f"{method} on {view.name}", [])
            for count in counts:
                right: list[np.ndarray] = []
                strengths: tuple[float, ...] = STRENGTHS
                for seed in range(_draws(count, fewest, seeds)):
                    learned = learn(view, method, pool.few(count, wish.seed + seed), len(names), 0, strengths)
                    right.append(learned.scores(ready).argmax(dim=1).numpy() == judged_on.labels)
                    # The first draw chooses how strong a penalty so many labels want, the others take it over.
                    strengths = STRENGTHS if learned.l2 is None else (learned.l2,)
                    task.advance(1)
                points.append(accuracy_over_draws(count, np.stack(right)))
    result = {
        "run": str(run),
        "layer": about["layer"],
        "classes": len(names),
        "judged_on": len(judged_on),
        "curve": {
            name: [{k: round(v, 4) for k, v in asdict(point).items()} for point in points] for name, points in found.items()
        },
    }
    return result | _keep(found, result, out)


def _draws(count: int, fewest: int, seeds: int) -> int:
    # There is one way to draw all labels, and draws of most of them are nearly the same.
    return 1 if count == fewest else min(seeds, 3) if count > 100 else seeds


def _aside(pool: Lesson, seed: int) -> tuple[Lesson, Lesson]:
    """A fifth of each class's pictures to judge on, and the others.

    Raises:
        BadInput: a class with fewer than five.
    """
    fewest = int(np.bincount(pool.labels)[np.unique(pool.labels)].min())
    if fewest < 5:
        raise BadInput(f"a class has {fewest} labels: a curve sets a fifth aside to judge on, give others with --test STORE")
    keep = []
    for name in np.unique(pool.labels):
        own = pool.at(np.flatnonzero(pool.labels == name))
        keep.append(own.few(max(1, int(_ASIDE * len(own))), seed + 1).positions)
    test = pool.at(np.flatnonzero(np.isin(pool.positions, np.concatenate(keep))))
    return test, pool.without(test)


def _keep(found: dict[str, list[Accuracy]], result: dict[str, Any], out: Path) -> dict[str, Any]:
    (out / "figures").mkdir(parents=True, exist_ok=True)
    lines = {
        name: Points(
            [point.labels for point in points],
            [point.accuracy for point in points],
            [point.low for point in points],
            [point.high for point in points],
        )
        for name, points in found.items()
    }
    png = learning_curves(lines, 1 / result["classes"])
    figure = out / "figures" / "learning-curve.png"
    figure.write_bytes(png)
    write_text(out / "learning-curve.json", json.dumps(result))
    page = out / "learning-curve.html"
    write_text(page, render(_report(result, png)))
    return {"figure": str(figure), "report": str(page)}


def _report(result: dict[str, Any], png: bytes) -> Report:
    first, pixels = next(iter(result["curve"].values())), list(result["curve"].values())[-1]
    headline = [
        (f"{100 * part[-1]['accuracy']:.1f}%", f"named rightly from {part[-1]['labels']:,} labels a class, {what}")
        for part, what in ((first, "features"), (pixels, "raw pixels"))
    ]
    text = (
        f"Judged on {result['judged_on']:,} other pictures. A point is the mean over draws of the labels; its band is a 95% "
        "interval over draws and test pictures together."
    )
    figure = Figure("Accuracy against labels a class.", png, wide=True)
    section = Section("What labels are worth", text, [figure], [curve_table(result)])
    return Report(f"Learning curve of {Path(result['run']).name}", f"layer {result['layer']}", headline, [section])


def curve_table(result: dict[str, Any]) -> Table:
    """A row a number of labels, a column a method."""
    counts = [point["labels"] for point in next(iter(result["curve"].values()))]
    rows = []
    for at, count in enumerate(counts):
        cells = [f"{100 * p['accuracy']:.1f}% ± {50 * (p['high'] - p['low']):.1f}" for p in _at(result, at)]
        rows.append([f"{count:,}", *cells])
    return Table(["labels a class", *result["curve"]], rows)


def _at(result: dict[str, Any], at: int) -> list[dict[str, float]]:
    return [points[at] for points in result["curve"].values()]


def show_curve(result: dict[str, Any], screen: Screen) -> None:
    """The same for people."""
    from rich.table import Table as Shown

    content = curve_table(result)
    shown = Shown(box=None)
    for heading in content.header:
        shown.add_column(heading)
    for row in content.rows:
        shown.add_row(*row)
    screen.say(shown)
    screen.say(f"figure: {result['figure']}; report: {result['report']}")
    screen.say(f"next: striate classify {result['run']} STORE --per-class 20 --test STORE")
