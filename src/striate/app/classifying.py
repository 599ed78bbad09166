"""Classifiers on a run's features beside raw pixels: learned from labelled pictures, judged on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from striate.app.classifier_file import Classifier, classifier_of
from striate.app.features import kept_features
from striate.app.inputs import Inputs, features_as_inputs, pixels_as_inputs
from striate.app.lessons import Lesson
from striate.app.screen import Screen
from striate.errors import BadInput
from striate.images import ImageStore
from striate.measure import ProbeResult, judge
from striate.measure.calibration import Calibration, calibration
from striate.measure.fewshot import METHODS, STRENGTHS, Learned, Scale
from striate.measure.folds import folds, held_out_scores
from striate.measure.logistic import is_large

_L2 = 0.01
_BLOCK = 4096
PIXELS = "raw pixels"


@dataclass(frozen=True)
class View:
    """One way to see pictures: a model's features, or raw pixels.

    Attributes:
        name: of the way.
        inputs: store path -> rows.
        scale: of all pictures of the store that is learned from.
    """

    name: str
    inputs: Mapping[Path, Inputs]
    scale: Scale

    def ready(self, lesson: Lesson) -> Tensor:
        """The rows of a lesson's pictures."""
        return self.inputs[lesson.store.path].ready(self.scale, lesson.positions)


@dataclass(frozen=True)
class Judged:
    """A classifier with what it is worth.

    Attributes:
        name: method and what it sees.
        accuracy: on pictures it did not learn from.
        before, after: calibration without and with the temperature.
        confidence: (n,) of the class named, calibrated.
        right: bool (n,).
        temperature: what its scores are divided by.
        classifier: kept form; None for baselines.
    """

    name: str
    accuracy: ProbeResult
    before: Calibration
    after: Calibration
    confidence: np.ndarray
    right: np.ndarray
    temperature: float
    classifier: Classifier | None = None


def views(run: Path, stores: Sequence[ImageStore], layer: str | None, screen: Screen) -> tuple[View, View, dict[str, object]]:
    """Features and raw pixels of pictures, the first store being the one that is learned from; what the features are.

    Raises:
        BadInput: the run does not fit the pictures, has no such layer, or the stores' pictures differ in shape.
    """
    for store in stores[1:]:
        if store.shape != stores[0].shape:
            raise BadInput(
                f"{store.path} holds pictures {store.shape}, {stores[0].path} holds {stores[0].shape}: they must agree"
            )
    found = {store.path: kept_features(run, store, layer, screen) for store in stores}
    about = found[stores[0].path].about
    seen = {path: features_as_inputs(features) for path, features in found.items()}
    raw = {store.path: pixels_as_inputs(store) for store in stores}
    first = stores[0].path
    return (
        View(f"features ({about['layer']})", seen, seen[first].scale()),
        View(PIXELS, raw, raw[first].scale()),
        {name: about[name] for name in ("layer", "model", "name", "store")},
    )


def learn(view: View, method: str, train: Lesson, classes: int, seed: int, strengths: Sequence[float] = STRENGTHS) -> Learned:
    """A classifier on one view of a lesson."""
    return METHODS[method](view.ready(train), train.labels, classes, seed, strengths)


def judged(name: str, learned: Learned, scores: Tensor, truth: np.ndarray, train_size: int) -> Judged:
    """What scores (n, classes) of pictures that were not learned from are worth.

    Args:
        name: of the classifier.
        learned: it.
        scores: before the temperature.
        truth: int64 (n,).
        train_size: how many labels it learned from.
    """
    classes, dim = learned.weights.shape
    result = judge(scores.argmax(dim=1), torch.from_numpy(truth), classes, train_size, dim, learned.l2 or 0.0)
    plain, tempered = (part.softmax(dim=1).numpy() for part in (scores, scores / learned.temperature))
    return Judged(
        name,
        result,
        calibration(plain, truth),
        calibration(tempered, truth),
        tempered.max(axis=1),
        tempered.argmax(axis=1) == truth,
        learned.temperature,
    )


def learn_and_judge(
    view: View, method: str, train: Lesson, test: Lesson | None, class_names: list[str], seed: int, about: dict[str, object]
) -> Judged:
    """One method on one view, judged on other pictures, or out of fold where there are none.

    Raises:
        BadInput: there are none, and too few labels to hold some out.
    """
    learned = learn(view, method, train, len(class_names), seed)
    name = f"{method} on {view.name}"
    if test is not None:
        found = judged(name, learned, learned.scores(view.ready(test)), test.labels, len(train))
    elif len(learned.held):
        found = judged(name, learned, learned.held_scores, train.labels[learned.held], len(train))
    else:
        raise BadInput(
            "every label is learned from, and a class has only one: nothing is left to judge on. "
            "Give --test STORE, or label more"
        )
    if view.name == PIXELS:
        return found
    described = {**about, "method": method, "class_names": class_names, "labels": len(train), "seed": seed}
    return replace(found, classifier=classifier_of(learned, train.labels, view.scale, described))


def out_of_fold(features: np.ndarray | Tensor, labels: np.ndarray, classes: int, l2: float = _L2, seed: int = 0) -> np.ndarray:
    """Probabilities (n, classes), float32, of each picture by a logistic regression that did not see its label.

    Five folds, each class spread evenly over them. Many features go through in bf16 (50,000 by 4,000: 20 s on two cores, a
    fifth of what float32 takes), whatever they come in.

    Args:
        features: (n, d) of labelled pictures, a memory map or not.
        labels: (n,), from 0 to classes - 1.
        classes: how many.
        l2: strength of the regression's penalty.
        seed: of the folds.

    Raises:
        BadInput: labels missing or of one class only.
    """
    given = np.asarray(labels, np.int64)
    if len(given) != len(features):
        raise BadInput(f"{len(features):,} rows of features for {len(given):,} labels")
    if len(given) == 0 or given.min() < 0 or given.max() >= classes or len(np.unique(given)) < 2:
        raise BadInput(f"labels from 0 to {classes - 1}, of two classes at least, are needed for every picture")
    scores = held_out_scores(_in_memory(features), given, classes, l2, folds(given, seed))
    return scores.softmax(dim=1).numpy()


def _in_memory(features: np.ndarray | Tensor) -> Tensor:
    """A copy that products are quick on: float32, or bf16 where there is much of it."""
    out = torch.empty(features.shape, dtype=torch.float32)
    if is_large(out):
        out = torch.empty(features.shape, dtype=torch.bfloat16)
    for start in range(0, len(out), _BLOCK):
        block = features[start : start + _BLOCK]
        out[start : start + _BLOCK] = torch.from_numpy(block.astype(np.float32)) if isinstance(block, np.ndarray) else block
    return out
