"""Trainings that figures are drawn from: each is a recipe, run once into a folder and taken up where it was if it is there."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.app.answering import probabilities_of
from striate.app.load import TrainedModel, load, load_model
from striate.app.probing import encode_all, labelled
from striate.app.recipe import Recipe, find_recipe, load_recipe
from striate.app.screen import Screen
from striate.app.training import new_run, resume_run, run_recipe
from striate.errors import BadInput
from striate.images import ImageStore
from striate.measure import ProbeResult, judge, probe
from striate.measure.logistic import as_labels
from striate.measure.views import Kind
from striate.train.checkpoint import read_json, write_text
from striate.train.run import read_metrics

_NOT_PICTURES = ("bf16", "fp32", "tf32")


@dataclass(frozen=True)
class Stage:
    """One training.

    Attributes:
        recipe: its name.
        needs: recipe key -> the stages it starts from or stands on; RUN:NUMBER for layers of nets.
        overrides: by size, `key=value`; under `""` those of every size.
        plain: learns from pictures that the concept was taken out of.
    """

    recipe: str
    needs: Mapping[str, tuple[str, ...]]
    overrides: Mapping[str, tuple[str, ...]]
    plain: bool = False


class Stages:
    """The trainings of one paper at one size.

    Args:
        stages: by name.
        folder: where runs and what was measured go.
        store: labelled pictures to train on.
        test: others, to judge on; None where nothing is judged.
        size: a recipe size, or `cpu` for the recipes as they stand.
        screen: where to speak.
        overrides: applied to every training, `key=value`.
        concept: pictures of a concept and others, where units are judged on them.
        plain: pictures to train on that the concept was taken out of.
    """

    def __init__(
        self,
        stages: Mapping[str, Stage],
        folder: Path,
        store: ImageStore,
        test: ImageStore | None,
        size: str,
        screen: Screen,
        overrides: tuple[str, ...] = (),
        concept: tuple[ImageStore, ImageStore] | None = None,
        plain: ImageStore | None = None,
    ) -> None:
        self.concept, self.plain = concept, plain
        self.store, self.test, self.size, self.screen = store, test, size, screen
        self._stages, self._folder, self._overrides = stages, folder, overrides
        self._done: dict[str, Path] = {}

    def run(self, name: str) -> Path:
        """A finished run of a stage, after those it needs."""
        if name in self._done:
            return self._done[name]
        path = self._folder / "runs" / name
        recipe = self._recipe(name)
        if (path / "run.json").exists():
            self._check_same(name, recipe, path)
            if read_json(path / "run.json").get("status") != "done":
                self.screen.say(f"going on with {name}")
                resume_run(path, self.screen, self._pictures(name).path)
        else:
            self.screen.say(f"training {name}")
            begun = time.monotonic()
            new_run(recipe, path, self.screen)
            self.screen.say(f"{name} took {time.monotonic() - begun:.0f} s")
        self._done[name] = path
        return path

    def _recipe(self, name: str) -> Recipe:
        stage = self._stages[name]
        overrides = [f"data.store={self._pictures(name).path}", f"name={name}"]
        for key, needed in stage.needs.items():
            found = [self._reference(reference) for reference in needed]
            overrides.append(f"{key}={found[0]}" if len(found) == 1 else f"{key}={json.dumps(found)}")
        overrides += [*stage.overrides.get("", ()), *stage.overrides.get(self.size, ()), *self._overrides]
        return load_recipe(find_recipe(stage.recipe), overrides, None if self.size == "cpu" else self.size)

    def _pictures(self, name: str) -> ImageStore:
        """What a stage learns from."""
        if not self._stages[name].plain:
            return self.store
        assert self.plain is not None
        return self.plain

    def _reference(self, text: str) -> str:
        name, colon, layer = text.partition(":")
        return f"{self.run(name)}{colon}{layer}"

    def _check_same(self, name: str, recipe: Recipe, path: Path) -> None:
        known = run_recipe(path)
        for group in ("model", "train", "preprocess"):
            told, was = getattr(recipe, group).model_dump(), getattr(known, group).model_dump()
            if group == "preprocess" and recipe.model.below is not None:
                continue
            other = {key for key in told if told[key] != was.get(key) and not (key == "dtype" and was[key] in _NOT_PICTURES)}
            if other:
                raise BadInput(
                    f"{path} was trained with other settings ({', '.join(sorted(other))}): name another folder with --out"
                )
        if recipe.data.limit != known.data.limit:
            raise BadInput(f"{path} was trained on another number of pictures: name another folder with --out")

    def model(self, name: str) -> TrainedModel:
        """A stage's model."""
        return load_model(self.run(name))

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """A stage's lines of metrics."""
        return read_metrics(self.run(name))

    @cached_property
    def _train(self) -> tuple[np.ndarray, np.ndarray]:
        # As many as the trainings saw, so that every bar of a figure stands on the same pictures.
        limit = self._recipe_limit
        return labelled(self.store, limit)

    @property
    def _recipe_limit(self) -> int | None:
        first = next(stage for stage in self._stages.values() if not stage.needs)
        overrides = [*first.overrides.get("", ()), *first.overrides.get(self.size, ()), *self._overrides]
        return load_recipe(find_recipe(first.recipe), overrides, None if self.size == "cpu" else self.size).data.limit

    @cached_property
    def _judged(self) -> tuple[np.ndarray, np.ndarray]:
        if self.test is None:
            raise BadInput("these figures need pictures to judge on: give --test STORE")
        return labelled(self.test)

    @property
    def class_names(self) -> list[str]:
        """Of the store; numbers where classes have no names."""
        classes = 1 + int(self.store.labels.max(initial=-1))
        return self.store.class_names or [str(number) for number in range(classes)]

    @property
    def train_pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """Labelled pictures that trainings saw, uint8 (n, c, h, w), and their labels."""
        return self._train

    @property
    def test_pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """Labelled pictures to judge on, and their labels."""
        return self._judged

    def views(self, name: str, kind: Kind) -> ProbeResult:
        """A convolutional net's answers from several views of the test pictures."""
        return self.kept(f"{name}-{kind}-views", lambda: self._views(name, kind))

    def _views(self, name: str, kind: Kind) -> ProbeResult:
        truth = as_labels(self._judged[1])
        assert self.test is not None
        positions = np.flatnonzero(self.test.labels >= 0)
        found = probabilities_of(self.run(name), self.test, positions, kind, self.screen)
        protocol = f"the trained net's own answers, {kind} views, probabilities averaged"
        dim = math.prod(self.store.shape)
        return judge(found.argmax(dim=1), truth, found.shape[1], len(self._train[0]), dim, 0.0, protocol=protocol)

    def probed(self, name: str, layer: str) -> ProbeResult:
        """Logistic regression on a layer of a stage's model; kept, so that it is done once."""
        return self.kept(f"{name}-{layer}", lambda: self._probe(name, layer))

    def answers(self, name: str) -> ProbeResult:
        """A net's own answers on the test pictures."""
        return self.kept(f"{name}-answers", lambda: self._answers(name))

    def _probe(self, name: str, layer: str) -> ProbeResult:
        encoder = load(self.run(name))
        self.screen.say(f"logistic regression on {layer} of {name} ({encoder.dims[layer]:,} dimensions)")
        features = [encode_all(encoder, pictures, layer, self.screen) for pictures, _ in (self._train, self._judged)]
        return probe(features[0], self._train[1], features[1], self._judged[1])

    def _answers(self, name: str) -> ProbeResult:
        encoder = load(self.run(name))
        predicted: Tensor = encode_all(encoder, self._judged[0], "logits", self.screen).argmax(dim=1)
        truth = as_labels(self._judged[1])
        protocol = "the trained net's own answers"
        classes, dim = encoder.dims["logits"], encoder.dims["pixels"]
        return judge(predicted, truth, classes, len(self._train[0]), dim, 0.0, protocol=protocol)

    def remember(self, label: str, told: Any, measure: Callable[[], Any]) -> Any:
        """What was measured, as JSON has it; measured again where what it is told of differs.

        Args:
            label: of the file.
            told: all that the measurement hangs on.
            measure: makes it.
        """
        file, known = self._folder / "measured" / f"{label}.json", json.loads(json.dumps(told))
        if not file.exists() or json.loads(file.read_text())["told"] != known:
            found = measure()
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps({"told": known, "found": found}))
        return json.loads(file.read_text())["found"]

    def kept(self, label: str, measure: Callable[[], ProbeResult]) -> ProbeResult:
        """What was measured, by the label of its file: it is done once."""
        file = self._folder / "measured" / f"{label}.json"
        if file.exists():
            read = json.loads(file.read_text())
            return ProbeResult(**{**read, "confusion": np.array(read["confusion"])})
        result = measure()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({**vars(result), "confusion": result.confusion.tolist()}))
        self.screen.say(f"{label}: {100 * result.accuracy:.1f}% ({100 * result.low:.1f} to {100 * result.high:.1f})")
        return result


def some(rows: Tensor, count: int) -> Tensor:
    """Evenly picked rows."""
    return rows if len(rows) <= count else rows[torch.linspace(0, len(rows) - 1, count).long()]
