"""Krizhevsky 2009, chapter 3: the ten bars of figure 3.1 and the confusions of figure 3.2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from striate.app.reproduce.finding import Finding
from striate.app.reproduce.krizhevsky2009_models import STAGES as MODELS
from striate.app.reproduce.stages import Stage, Stages
from striate.measure import ProbeResult
from striate.show import Figure
from striate.show import figures as draw

_NET = "krizhevsky2009/fine-tuned"
_RANDOM = "krizhevsky2009/random-net"

STAGES = MODELS | {
    "tuned": Stage(_NET, {"model.below": ("unwhitened",)}, {}),
    "random-1000": Stage(_RANDOM, {}, {"": ("model.hidden=[1000]",), "small": ("model.hidden=[500]",)}),
    "random-10000": Stage(_RANDOM, {}, {}),
    "second-tuned": Stage(_NET, {"model.below": ("second",)}, {"": ("train.rates=[0, 1, 0.3]",), "cpu": ("train.epochs=5",)}),
    "deep": Stage(
        _NET,
        {"model.layers": ("tuned:1", "second-tuned:2", "second-tuned:3")},
        {"": ("train.rates=[0.5, 0.5, 0.3]",), "cpu": ("train.epochs=5",)},
    ),
}


@dataclass(frozen=True)
class Bar:
    """One bar: what it is in the paper, and how it is measured."""

    letter: str
    what: str
    measure: Callable[[Stages], ProbeResult]


BARS = (
    Bar("a", "pixels, whitened", lambda s: s.probed("whitened", "pixels")),
    Bar("b", "pixels, unwhitened", lambda s: s.probed("unwhitened", "pixels")),
    Bar("c", "RBM features, whitened", lambda s: s.probed("whitened", "hidden1")),
    Bar("d", "RBM features, unwhitened", lambda s: s.probed("unwhitened", "hidden1")),
    Bar("e", "(d) fine-tuned", lambda s: s.answers("tuned")),
    Bar("f", "random net, 1,000 units", lambda s: s.answers("random-1000")),
    Bar("g", "random net, 10,000 units", lambda s: s.answers("random-10000")),
    Bar("h", "second-layer features", lambda s: s.probed("second", "hidden2")),
    Bar("i", "net on first-layer features from (h)", lambda s: s.answers("second-tuned")),
    Bar("j", "two hidden layers from (e) and (i)", lambda s: s.answers("deep")),
)


def accuracies(stages: Stages) -> Finding:
    """Figure 3.1."""
    found = {bar.letter: bar.measure(stages) for bar in BARS}
    value = {letter: result.accuracy for letter, result in found.items()}
    order = {
        "(e) > (d)": value["e"] > value["d"],
        "(d) > (c)": value["d"] > value["c"],
        "(c) > (g)": value["c"] > value["g"],
        "(g) > (a), (b)": value["g"] > max(value["a"], value["b"]),
        "a second layer does not help": max(value["h"], value["i"], value["j"]) < value["e"] + 0.01,
    }
    listed = "; ".join(f"({bar.letter}) {bar.what} {100 * value[bar.letter]:.1f}%" for bar in BARS)
    missed = [claim for claim, holds in order.items() if not holds]
    labels = [f"({bar.letter}) {bar.what}" for bar in BARS]
    intervals = [(found[bar.letter].low, found[bar.letter].high) for bar in BARS]
    picture = draw.bars(labels, [value[bar.letter] for bar in BARS], intervals, "test accuracy")
    sizes = found["d"]
    return Finding(
        "3.1",
        "RBM features are far above pixels, unwhitened above whitened; fine-tuning helps a little; pretrained nets are above "
        "random ones; a second layer does not help. (Later papers quote 64.8% for (e), 51.5% for (g), 37.3% for pixels.)",
        f"{listed} ({sizes.train_size:,} training and {sizes.test_size:,} test pictures). "
        + (f"Not as in the paper: {', '.join(missed)}" if missed else "All orders as in the paper"),
        not missed,
        (Figure("Test accuracy with 95% intervals.", picture, wide=True),),
    )


def confusions(stages: Stages) -> Finding:
    """Figure 3.2: the confusion matrix of (d)."""
    result = stages.probed("unwhitened", "hidden1")
    names = [name.lower() for name in stages.class_names]
    counts = result.confusion / result.confusion.sum(axis=1, keepdims=True)
    mistakes = counts * (1 - np.eye(len(counts)))
    pairs = mistakes + mistakes.T
    worst = divmod(int(pairs.argmax()), len(pairs))
    who = " and ".join(names[i] for i in sorted(worst)) if names else str(worst)
    is_cifar = len(counts) == 10
    # CIFAR-10's order: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.
    agrees = is_cifar and sorted(worst) == [3, 5]
    return Finding(
        "3.2",
        "Cats and dogs are confused most; animals and vehicles seldom.",
        f"{who} are confused most ({100 * pairs[worst]:.0f}% in both directions together)",
        agrees,
        (Figure("Confusions of (d); rows are the true class.", draw.matrix(result.confusion, stages.class_names)),),
    )


FIGURES: dict[str, Callable[[Stages], Finding]] = {"3.1": accuracies, "3.2": confusions}
