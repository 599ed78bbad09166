"""A classifier on a model's features, in one safetensors file: weights and scale, everything else as JSON in its header."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from striate.errors import BadInput
from striate.measure.fewshot import Learned, Scale
from striate.train.checkpoint import write_tensors

FORMAT, VERSION = "striate-classifier", 1
_TENSORS = ("weights", "bias", "mean", "deviation", "held_confidence", "held_right")


@dataclass(frozen=True)
class Classifier:
    """What `striate classify` learned.

    Attributes:
        about: format, version, method, class_names, layer, model (digest of the file), name, store (digest), labels (how many),
            temperature, calibrated (whether that was fitted), l2, seed.
        tensors: weights (classes, d), bias (classes,), mean and deviation (d,), and of labelled pictures held out
            held_confidence and held_right (m,). A fine-tuned net's scores are its own logits: mean and deviation are empty.
    """

    about: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def class_names(self) -> list[str]:
        """In the order of the probabilities."""
        return list(self.about["class_names"])

    @property
    def temperature(self) -> float:
        """What scores are divided by."""
        return float(self.about["temperature"])

    def scores(self, features: Tensor) -> Tensor:
        """Log-odds (n, classes) of features (n, d) as the model gives them, before the temperature."""
        rows = features.float()
        if len(self.tensors["mean"]):
            rows = Scale(self.tensors["mean"], self.tensors["deviation"]).ready(rows)
        return rows @ self.tensors["weights"].t() + self.tensors["bias"]

    def probabilities(self, features: Tensor) -> np.ndarray:
        """Calibrated, float32 (n, classes)."""
        return (self.scores(features) / self.temperature).softmax(dim=1).numpy()

    @property
    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Confidence, and whether it was right, of labelled pictures by models that had not learned from them."""
        return self.tensors["held_confidence"].numpy(), self.tensors["held_right"].numpy()

    def save(self, file: Path) -> None:
        """Write it, whole or not at all."""
        write_tensors(file, self.tensors, {"striate": json.dumps(self.about)})


def classifier_of(learned: Learned, labels: np.ndarray, scale: Scale | None, about: dict[str, Any]) -> Classifier:
    """What was learned, as it is kept; without a scale, scores are taken from features as they come."""
    confident, named = (learned.held_scores / learned.temperature).softmax(dim=1).max(dim=1)
    nothing = torch.empty(0)
    tensors = {
        "weights": learned.weights,
        "bias": learned.bias,
        "mean": scale.mean if scale else nothing,
        "deviation": scale.deviation if scale else nothing,
        "held_confidence": confident,
        "held_right": (named == torch.from_numpy(labels[learned.held])).float(),
    }
    kept = {"format": FORMAT, "version": VERSION, "temperature": learned.temperature, "l2": learned.l2}
    return Classifier({**kept, "calibrated": len(learned.held) > 0, **about}, tensors)


def read_classifier(file: Path) -> Classifier:
    """A classifier from its file.

    Raises:
        BadInput: there is none, it is another kind of file, damaged, or of another version.
    """
    if not file.is_file():
        raise BadInput(f"{file} is no file: expected a classifier that `striate classify RUN STORE` kept")
    try:
        with safe_open(file, "pt") as opened:
            about = json.loads((opened.metadata() or {})["striate"])
            there = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
        if about.get("format") != FORMAT:
            raise ValueError(f"its header describes {about.get('format')!r}")
        tensors = {name: there[name] for name in _TENSORS}
        _check(about, tensors)
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError, OSError, RecursionError) as error:
        raise BadInput(f"{file} is no classifier of Striate's, or damaged: {str(error).splitlines()[0][:200]}") from None
    return Classifier(about, tensors)


def _check(about: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    if about["version"] != VERSION:
        raise ValueError(f"it is of version {about['version']}, this Striate reads version {VERSION}")
    classes, dim = tensors["weights"].shape
    shapes = {"bias": (classes,), "held_right": tensors["held_confidence"].shape}
    shapes |= {name: (dim,) for name in ("mean", "deviation") if len(tensors[name])}
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} is {tuple(tensors[name].shape)}, expected {tuple(shape)}")
    if not (len(about["class_names"]) == classes and float(about["temperature"]) > 0 and isinstance(about["layer"], str)):
        raise ValueError("class names, temperature or layer do not fit the weights")
