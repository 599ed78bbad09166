"""What `striate classify RUN STORE` does: learn by each method, judge, draw, keep."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from striate.app.classifying import Judged, learn_and_judge, views
from striate.app.encoders import TIMM
from striate.app.finetuning import FOLDER, tune_and_judge
from striate.app.lessons import Lesson, read_lesson, read_test
from striate.app.load import load_model
from striate.app.predicting import abstaining
from striate.app.screen import Screen
from striate.errors import BadInput
from striate.images import ImageStore
from striate.measure.abstaining import Selective, risk_coverage, selective
from striate.measure.calibration import Calibration
from striate.measure.intervals import wilson
from striate.show import Figure, Report, Section, Table, render
from striate.show import figures as draw
from striate.show.judged import Reliability, reliability, risk
from striate.train.checkpoint import write_text


@dataclass(frozen=True)
class Wish:
    """What was asked for.

    Attributes:
        methods: names of methods; the first one's classifier predicts.
        per_class: labels a class to learn from, or None for all.
        layer: of the model, or None for the last that is no classifier's.
        seed: of what is drawn.
        least: probability that is answered, or None.
        error: of answers, at most, or None.
    """

    methods: tuple[str, ...] = ("logistic",)
    per_class: int | None = None
    layer: str | None = None
    seed: int = 0
    least: float | None = None
    error: float | None = None


def lessons(
    store: ImageStore, test: ImageStore | None, per_class: int | None, seed: int, screen: Screen, classes: Path | None
) -> tuple[Lesson, Lesson | None, list[str]]:
    """What to learn from, what to judge on (None: out of fold), and the names of the classes.

    Raises:
        BadInput: too few labels of any kind.
    """
    every, names = read_lesson(store, classes)
    absent = sorted(set(range(len(names))) - set(every.labels.tolist()))
    if absent:
        screen.warn(f"no picture is labelled {', '.join(names[one] for one in absent[:5])}: never named by the classifier")
    if per_class is not None and per_class < 1:
        raise BadInput(f"--per-class is a number of labels from 1, found {per_class}")
    train = every if per_class is None else every.few(per_class, seed)
    if per_class is not None:
        short = [names[one] for one in np.unique(every.labels) if (every.labels == one).sum() < per_class]
        if short:
            screen.warn(f"fewer than {per_class} labels of {', '.join(short[:5])}: all of them are taken")
    if test is not None:
        if test.digest == store.digest:
            raise BadInput(f"{test.path} holds the pictures that are learned from: leave --test out, or give others")
        return train, read_test(test, names, classes), names
    left = every.without(train)
    return train, left if len(left) else None, names


def classify_run(
    run: Path, store: ImageStore, test: ImageStore | None, wish: Wish, out: Path, screen: Screen, classes: Path | None = None
) -> tuple[dict[str, Any], Judged]:
    """Learn and judge by each method, beside raw pixels; write classifiers, figures and a report.

    Returns:
        The result for scripts, and the first method's classifier as judged.
    """
    train, other, names = lessons(store, test, wish.per_class, wish.seed, screen, classes)
    seen, raw, about = views(run, [store] if test is None else [store, test], wish.layer, screen)
    where = "out of fold" if other is None else f"{len(other):,} other pictures"
    screen.say(f"learning from {len(train):,} labels in {len(np.unique(train.labels))} classes, judged on {where}")
    if _has_seen_labels(run):
        screen.warn(
            f"{run} learned from labels: if those of {store.path} were among them, answers held out are surer than answers on "
            "new pictures, and a temperature or threshold found on them is too bold"
        )
    found = []
    for view, methods in ((seen, wish.methods), (raw, ("logistic",))):
        for method in methods:
            if method == "finetune":
                found.append(tune_and_judge(run, train, other, names, wish.seed, out, screen))
            else:
                found.append(learn_and_judge(view, method, train, other, names, wish.seed, about))
            screen.check()
    rules = [None if one.classifier is None else abstaining(one.classifier, wish.least, wish.error) for one in found]
    result = {
        "run": str(run),
        "layer": about["layer"],
        "classes": len(names),
        "labels": len(train),
        "origin": train.origin,
        "judged_on": where,
        "methods": {one.name: _summary(one, rule, names) for one, rule in zip(found, rules)},
    }
    result |= _keep(found, rules, names, result, out, wish)
    return result, found[0]


def _has_seen_labels(run: Path) -> bool:
    """Whether a run of ours learned from labels; what timm's models learned from is not told."""
    if str(run).startswith(TIMM):
        return False
    return not load_model(run).parts.rebuilds


def _summary(one: Judged, rule: Selective | None, names: list[str]) -> dict[str, Any]:
    counts = one.accuracy.confusion.sum(axis=1)
    own = {
        name: round(float(one.accuracy.confusion[at, at] / counts[at]), 4) for at, name in enumerate(names) if counts[at] > 0
    }
    found: dict[str, Any] = {
        **one.accuracy.summary(),
        "temperature": round(one.temperature, 4),
        "calibration_before": one.before.summary(),
        "calibration": one.after.summary(),
        "per_class": own,
    }
    if rule is not None:
        real = selective(one.confidence, one.right, rule.threshold)
        found["abstain"] = {
            "threshold": round(rule.threshold, 4),
            "held_out_coverage": round(rule.coverage, 4),
            "held_out_error": round(rule.risk, 4),
            "bound": round(rule.bound, 4),
            "coverage": round(real.coverage, 4),
            "error": round(real.risk, 4),
        }
    return found


def _keep(
    found: list[Judged], rules: list[Selective | None], names: list[str], result: dict[str, Any], out: Path, wish: Wish
) -> dict[str, Any]:
    """Classifiers, figures, classify.json and the report."""
    (out / "figures").mkdir(parents=True, exist_ok=True)
    kept = {}
    for one in found:
        if one.classifier is not None:
            method = one.classifier.about["method"]
            # A fine-tuned net is a model of its own, and its classifier lies with it.
            folder = out / FOLDER if method == "finetune" else out
            kept[method] = str(folder / f"classifier-{method}.safetensors")
            one.classifier.save(Path(kept[method]))
    figures = drawn(found, rules[0], names, wish.error)
    for name, (_, png) in figures.items():
        (out / "figures" / f"{name}.png").write_bytes(png)
    write_text(out / "classify.json", json.dumps(result))
    page = out / "classify.html"
    write_text(page, render(_report(found, rules[0], result, list(figures.values()))))
    return {"classifiers": kept, "report": str(page), "figures": [str(out / "figures" / f"{name}.png") for name in figures]}


def drawn(found: list[Judged], rule: Selective | None, names: list[str], error: float | None) -> dict[str, tuple[str, bytes]]:
    """PNGs with captions, by name; reliability and confusions are the first method's."""
    first = found[0]
    bins = {"as learned": _bins(first.before), "by temperature": _bins(first.after)}
    confusion = first.accuracy.confusion
    counts = confusion.sum(axis=1)
    there = np.flatnonzero(counts)
    shares = [float(confusion[one, one] / counts[one]) for one in there]
    intervals = [wilson(int(confusion[one, one]), int(counts[one])) for one in there]
    given = None
    if rule is not None:
        given = selective(first.confidence, first.right, rule.threshold).coverage
    curves = {one.name: risk_coverage(one.confidence, one.right) for one in found}
    figures = {
        "classify-reliability": (f"{first.name}: does 80% mean 80%? Bars are two standard errors.", reliability(bins)),
        "classify-risk": ("Errors against the share of pictures answered, the surest first.", risk(curves, error, given)),
        "classify-confusion": (f"{first.name}: rows are the true class, numbers are percent.", draw.matrix(confusion, names)),
    }
    if len(there) <= 100:
        bars = draw.bars([names[one] for one in there], shares, intervals, "share of the class named rightly")
        figures["classify-classes"] = (f"{first.name}: each class, with 95% intervals.", bars)
    return figures


def _bins(found: Calibration) -> Reliability:
    return Reliability(found.confidence, found.accuracy, found.count)


def _report(found: list[Judged], rule: Selective | None, result: dict[str, Any], figures: list[tuple[str, bytes]]) -> Report:
    first, pixels = found[0], found[-1]
    headline = [
        (f"{100 * first.accuracy.accuracy:.1f}%", f"named rightly: {first.name}"),
        (f"{100 * pixels.accuracy.accuracy:.1f}%", "from raw pixels"),
        (f"{100 * first.after.error:.1f}", "points between probability and truth"),
    ]
    text = (
        f"Learned from {result['labels']:,} labels, judged on {result['judged_on']}. Calibration error: mean difference "
        "between the probability of the class named and the share named rightly, over 15 bins of as many pictures each; "
        "by chance is what true probabilities would give on so many pictures."
    )
    if rule is not None:
        real = result["methods"][first.name]["abstain"]
        text += (
            f" Answers of probability {rule.threshold:.3f} and more: {100 * real['coverage']:.1f}% of pictures, "
            f"{100 * real['error']:.1f}% of them wrong."
        )
    return Report(
        f"Classifier on {Path(result['run']).name}",
        f"layer {result['layer']}, {result['classes']} classes",
        headline,
        [Section("Named rightly, and how surely", text, [Figure(*one) for one in figures], [table(result)])],
    )


def table(result: dict[str, Any]) -> Table:
    """Methods beside each other."""
    rows = [
        [
            name,
            f"{100 * one['accuracy']:.1f}%",
            f"{100 * one['low']:.1f} to {100 * one['high']:.1f}%",
            f"{100 * one['calibration_before']['error']:.1f}",
            "{error:.1f} ({low:.1f} to {high:.1f})".format_map({k: 100 * v for k, v in one["calibration"].items()}),
            f"{100 * one['calibration']['by_chance']:.1f}",
        ]
        for name, one in result["methods"].items()
    ]
    return Table(["", "accuracy", "95% interval", "calibration error before", "after, points", "by chance"], rows)
