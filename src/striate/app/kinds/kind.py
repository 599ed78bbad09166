"""What a kind of model is to the edge: from prepared rows to something that learns, can be kept, and can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from striate.app.load import Parts
from striate.app.recipe import Recipe, TrainGroup
from striate.cluster.parallel import Share
from striate.preprocess import Preprocessor
from striate.preprocess.patches import Pictures
from striate.train import ScheduleSettings
from striate.train.batches import Rows
from striate.train.learner import Learner

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """Everything decided before the model.

    Attributes:
        recipe: checked.
        preprocessor: fitted.
        rows: what the model sees: preprocessed pictures or patches, or activities of the layers below.
        pictures: the same before preprocessing: uint8 (n, c, h, w) by a range or list of positions, with a length.
        labels: int64 (rows,), -1 where there is none; None for patches.
        classes: number of classes of the store.
        class_names: those that have one.
        below: finished layers to start from or stand on.
        device: where to train.
        total_steps: of the whole run.
        say: told what is being done.
        share: this process's place among those that share batches.
    """

    recipe: Recipe
    preprocessor: Preprocessor
    rows: Rows[Tensor]
    pictures: Pictures
    labels: Tensor | None
    classes: int
    class_names: Sequence[str]
    below: Parts
    device: torch.device
    total_steps: int
    say: Say
    share: Share


class DtypedLearner(Learner[Any], Protocol):
    """A learner that knows its products' format."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Subject:
    """A model in training, as the edge sees it.

    Attributes:
        learner: trains it.
        rows: its training data; the prepared ones, or those with labels beside them.
        parts: the model as it stands, on the CPU.
        filters: its filters in the space of the preprocessed pictures, (units, pixels).
        weights: those that `--init` may set, by name; changed in place.
        refresh: to be called after that.
        title: its size in words.
    """

    learner: DtypedLearner
    rows: Rows[Any]
    parts: Callable[[], Parts]
    filters: Callable[[], Tensor]
    weights: Callable[[], dict[str, Tensor]]
    refresh: Callable[[], None]
    title: str


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Attributes:
        build: makes a subject; given the parts of a run that is resumed, with their shapes.
        on_activities: whether its rows are activities of the layers below it, or the pictures all the same.
        on_pictures: whether it takes pictures as they are, and needs no rows.
        shared: whether several processes can train it.
    """

    build: Callable[[Prepared, Parts | None], Subject]
    on_activities: bool
    on_pictures: bool = False
    shared: bool = False


def schedule_settings(group: TrainGroup) -> ScheduleSettings:
    """The recipe's group as the schedule's settings."""
    return ScheduleSettings(
        learning_rate=group.learning_rate,
        shape=group.schedule,
        hold=group.hold,
        warmup_steps=group.warmup_steps,
        momentum=group.momentum,
        initial_momentum=group.initial_momentum,
        momentum_steps=group.momentum_steps,
    )
