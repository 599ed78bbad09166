"""What a kind of model is to the edge: from prepared rows to something that learns, can be kept, and can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from striate.app.load import Parts
from striate.app.recipe import Recipe, TrainGroup
from striate.cluster.parallel import Share
from striate.errors import BadInput
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
        share: this process's place among those that share the work.
        profile: whether to find out where a step's time goes.
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
    profile: bool = False


class DtypedLearner(Learner[Any], Protocol):
    """A learner that knows its products' format."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Subject:
    """A model in training, as the edge sees it.

    Attributes:
        learner: trains it.
        rows: its training data; the prepared ones, or those with labels beside them.
        parts: the model as it stands, on the CPU; whole on the first process, whatever is at hand on others.
        filters: its filters in the space of the preprocessed pictures, (units, pixels); likewise.
        take: begin from other weights, for `--init`: tensors by name, and where they are from.
        title: its size in words.
        spread: how several processes share it, for the run's record.
        profile: seconds of each process in each part of its steps, by rank.
    """

    learner: DtypedLearner
    rows: Rows[Any]
    parts: Callable[[], Parts]
    filters: Callable[[], Tensor]
    take: Callable[[Mapping[str, Tensor], str], None]
    title: str
    spread: dict[str, Any] = field(default_factory=dict)
    profile: Callable[[], list[dict[str, float]]] | None = None


def in_place(own: Callable[[], Mapping[str, Tensor]], then: Callable[[], None]) -> Callable[[Mapping[str, Tensor], str], None]:
    """`Subject.take` of a model whose weights can be written to.

    Args:
        own: the weights that may be set, by name.
        then: to be called after that.
    """

    def take(given: Mapping[str, Tensor], source: str) -> None:
        for name, tensor in own().items():
            check_shape(name, given, tuple(tensor.shape), source)
            tensor.copy_(given[name])
        then()

    return take


def check_shape(name: str, given: Mapping[str, Tensor], shape: tuple[int, ...], source: str) -> None:
    """Refuse a tensor that is not there or does not fit.

    Raises:
        BadInput: naming what was found.
    """
    if name not in given or given[name].shape != shape:
        found = tuple(given[name].shape) if name in given else "none"
        raise BadInput(f"{source}: its {name} has shape {found}, this model's is {shape}")


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
