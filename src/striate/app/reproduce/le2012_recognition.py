"""Le et al. 2012, section 5 and table 2: what features that were learned without labels are worth where there are labels.

`10`: raw pixels, the top alone on random and on learned filters, and the whole network from either, from the same pictures in
as many steps; then the whole network again from few labels. The paper: ImageNet split into halves, 22,000 classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from striate.app.reproduce.finding import Finding
from striate.app.reproduce.stages import Stage, Stages
from striate.measure import ProbeResult, probe
from striate.show import Figure, Table
from striate.show import figures as draw

_BELOW, _RECIPE = {"model.below": ("features",)}, "le2012/recognition"
_RANDOM, _ALL, _TOP = "model.start=noise", "train.top_first=0", "train.top_first=1"
# So many labelled pictures, seen five times as often: half as many steps as of 50,000.
_FEW_LABELS = 5000
_FEW = (f"data.limit={_FEW_LABELS}", "train.epochs=25")

STAGES: dict[str, Stage] = {
    "features": Stage("le2012/features", {}, {}),
    "random-top": Stage(_RECIPE, _BELOW, {"": (_RANDOM, _TOP)}),
    "learned-top": Stage(_RECIPE, _BELOW, {"": (_TOP,)}),
    "scratch": Stage(_RECIPE, _BELOW, {"": (_RANDOM, _ALL)}),
    "recognition": Stage(_RECIPE, _BELOW, {}),
    "scratch-few": Stage(_RECIPE, _BELOW, {"": (_RANDOM, _ALL, *_FEW)}),
    "recognition-few": Stage(_RECIPE, _BELOW, {"": _FEW}),
}


@dataclass(frozen=True)
class Way:
    """One row of the table: its name, what it is, and how it is measured."""

    name: str
    what: str
    measure: Callable[[Stages], ProbeResult]


def _answers(name: str) -> Callable[[Stages], ProbeResult]:
    return lambda stages: stages.answers(name)


def _of_few(name: str) -> Callable[[Stages], ProbeResult]:
    def measure(stages: Stages) -> ProbeResult:
        found = stages.answers(name)
        return replace(found, train_size=min(_FEW_LABELS, found.train_size))

    return measure


WAYS = (
    Way("pixels", "raw pixels, logistic regression", lambda stages: stages.kept("raw-pixels", lambda: _pixels(stages))),
    Way("random-top", "random filters, the top alone", _answers("random-top")),
    Way("learned-top", "learned filters, the top alone", _answers("learned-top")),
    Way("scratch", "the whole network from random filters", _answers("scratch")),
    Way("recognition", "the whole network from learned filters", _answers("recognition")),
    Way("scratch-few", "the same from random filters, few labels", _of_few("scratch-few")),
    Way("recognition-few", "the same from learned filters, few labels", _of_few("recognition-few")),
)


def recognition(stages: Stages) -> Finding:
    """Table 2 as one figure: every way's accuracy on the test pictures."""
    found = {way.name: way.measure(stages) for way in WAYS}
    tuned, scratch = found["recognition"], found["scratch"]
    few = found["recognition-few"].accuracy - found["scratch-few"].accuracy
    classes = len(tuned.confusion)
    spans = [(one.low, one.high) for one in found.values()]
    rows = [
        [way.what, _share(one.accuracy), f"{_share(one.low)} to {_share(one.high)}"] for way, one in zip(WAYS, found.values())
    ]
    picture = draw.bars([way.what for way in WAYS], [one.accuracy for one in found.values()], spans, "test accuracy")
    return Finding(
        "10",
        "Table 2: of 22,000 classes 15.8% are named rightly by the network fine-tuned from learned filters, 13.6% without "
        "learning them first; the state of the art then was 9.3%.",
        f"{classes} classes, {tuned.train_size:,} training and {tuned.test_size:,} test pictures: "
        + "; ".join(f"{way.what} {_share(one.accuracy)}" for way, one in zip(WAYS, found.values()))
        + f". Learned filters are worth {100 * (tuned.accuracy - scratch.accuracy):+.1f} points with all labels, "
        f"{100 * few:+.1f} with few",
        # Beyond what chance among test pictures would give the other.
        tuned.accuracy > scratch.high,
        (Figure("Test accuracy with 95% intervals.", picture, wide=True),),
        (Table(["from", "accuracy", "95% interval"], rows),),
        [{"way": way.name, "what": way.what, **one.summary()} for way, one in zip(WAYS, found.values())],
    )


def _pixels(stages: Stages) -> ProbeResult:
    (train, labels), (test, truth) = stages.train_pictures, stages.test_pictures
    stages.screen.say(f"logistic regression on raw pixels of {len(train):,} pictures")
    rows = (torch.from_numpy(pictures).flatten(1).float().div_(255) for pictures in (train, test))
    return probe(next(rows), labels, next(rows), truth)


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"


FIGURES: dict[str, Callable[[Stages], Finding]] = {"10": recognition}
