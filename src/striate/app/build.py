"""From a checked recipe to objects: preprocessing fitted, rows, model, learner, batches. The only place that knows both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.app.kinds import KINDS, Prepared, Subject
from striate.app.kinds.kind import Say
from striate.app.load import Parts, TrainedModel, load_model
from striate.app.recipe import NetGroup, Recipe
from striate.cluster.parallel import Share, from_first
from striate.compute import choose_device
from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.work import Each, one_by_one
from striate.preprocess import Preprocessor, PreprocessSettings, batches_of, draw_patches, fitted
from striate.train import Batches, LoopSettings, MemoryRows, StreamedRows
from striate.train.batches import Order, Rows
from striate.train.loop import snapshot_steps


@dataclass
class Experiment:
    """Everything a training needs, built."""

    recipe: Recipe
    store: ImageStore
    preprocessor: Preprocessor
    subject: Subject
    batches: Order[Any]
    loop: LoopSettings
    device: torch.device
    streamed: bool
    share: Share
    rows: Rows[Any]


@dataclass(frozen=True)
class Resumed:
    """What a run that is resumed had decided: its model (for the shapes), preprocessing, and whether rows were streamed."""

    model: TrainedModel
    preprocessor: Preprocessor
    streamed: bool


def build(
    recipe: Recipe,
    say: Say,
    resumed: Resumed | None = None,
    share: Share | None = None,
    profile: bool = False,
    rows: Rows[Tensor] | None = None,
    each: Each = one_by_one,
) -> Experiment:
    """Build an experiment, anew or as a resumed run had it; for one process, or for one of several that share the work.

    Rows that are given were prepared by somebody else from the same pictures; `each` has preprocessing's statistics gathered.

    Raises:
        BadInput: no store, an empty one, or settings that do not fit its pictures.
    """
    store = open_store(recipe)
    device = choose_device(recipe.device)
    kind, share = KINDS[recipe.model.kind], share or Share()
    if share.count > 1 and not kind.shared:
        raise BadInput(f"model.kind={recipe.model.kind} is trained by one process; {share.count} were started")
    if recipe.train.dtype == "fp64" and recipe.model.kind != "rbm":
        raise BadInput(f"train.dtype=fp64 is for model.kind=rbm: {recipe.model.kind} computes in fp32, tf32 or bf16")
    if kind.on_pictures and recipe.preprocess.kind != "mean":
        raise BadInput(
            f"{recipe.model.kind} takes levels less the mean: set preprocess.kind=mean, not {recipe.preprocess.kind}"
        )
    below = _below(recipe, store, resumed)
    recipe = _preprocessed_as_below(recipe, below)
    count = min(len(store), recipe.data.limit or len(store))
    patches = _draw(recipe, store, count)
    preprocessor = below.preprocessor if below else resumed.preprocessor if resumed else None
    if preprocessor is None:
        say(f"fitting {recipe.preprocess.kind} on {len(patches) if patches is not None else count:,} pictures")
        preprocessor = _fitted(recipe, store, patches, count, each)
        if share.count > 1:
            preprocessor = _as_first(preprocessor)
    total = len(patches) if patches is not None else count
    layers = below.parts if below and kind.on_activities else Parts()
    width = layers.rbms[-1].num_hidden if layers.rbms else preprocessor.dim
    large = kind.on_pictures or total * width * 4 > recipe.train.memory_gb * 2**30
    streamed = resumed.streamed if resumed else large
    if layers.rbms and not streamed:
        say(f"activities of {len(layers.rbms)} layers below for {total:,} rows")
    trained_on = total - int(recipe.train.validation * total)
    total_steps = max(1, round(recipe.train.epochs * (trained_on // recipe.train.batch_size)))
    if rows is None:
        rows = _rows(preprocessor, layers, store, patches, total, streamed)
    prepared = Prepared(
        recipe,
        preprocessor,
        rows,
        patches if patches is not None else _First(store, count),
        None if patches is not None else torch.from_numpy(store.labels[:count].astype(np.int64)),
        max(len(store.class_names), 1 + int(store.labels.max(initial=-1))),
        store.class_names,
        below.parts if below else Parts(),
        device,
        total_steps,
        say,
        share,
        profile,
    )
    subject = kind.build(prepared, resumed.model.parts if resumed else None)
    loop = LoopSettings(
        total_steps,
        recipe.train.log_every,
        recipe.train.checkpoint_every_s,
        snapshot_steps(total_steps, recipe.train.snapshots),
    )
    batches = Batches(subject.rows, recipe.train.batch_size, recipe.seed, device)
    return Experiment(recipe, store, preprocessor, subject, batches, loop, device, streamed, share, rows)


def _below(recipe: Recipe, store: ImageStore, resumed: Resumed | None) -> TrainedModel | None:
    """The finished layers a model starts from; a resumed run has its own copy of those it still needs."""
    model = recipe.model
    named = model.below or (Path(model.layers[0].rpartition(":")[0]) if isinstance(model, NetGroup) and model.layers else None)
    if named is None:
        return None
    if resumed is not None:
        return replace(resumed.model, parts=Parts(resumed.model.parts.rbms[:-1]))
    found = load_model(named)
    if found.preprocessor.settings.patch is not None:
        raise BadInput(f"{named} sees patches: layers above it need a model of whole pictures")
    if found.image_shape != store.shape:
        raise BadInput(f"{named} takes pictures {found.image_shape}, {store.path} holds {store.shape}")
    return found


def _preprocessed_as_below(recipe: Recipe, below: TrainedModel | None) -> Recipe:
    """A layer above has the preprocessing of the layers it stands on, and its recipe says so."""
    if below is None:
        return recipe
    settings = below.preprocessor.settings
    group = recipe.preprocess.model_copy(
        update={"kind": settings.kind, "delete": settings.delete, "epsilon": settings.epsilon, "contrast": settings.contrast}
    )
    return recipe.model_copy(update={"preprocess": group})


def _fitted(recipe: Recipe, store: ImageStore, patches: np.ndarray | None, count: int, each: Each) -> Preprocessor:
    settings = preprocess_settings(recipe)
    sums = store.sums if settings.kind == "mean" and patches is None and count == len(store) else None
    # Importing photographs gathered these in its own pass.
    if sums is not None:
        return Preprocessor.from_sums(sums, settings)
    return fitted(patches if patches is not None else _First(store, count), settings, each)


def _as_first(preprocessor: Preprocessor) -> Preprocessor:
    """The first process's: another kind of machine may fit other last digits."""
    return Preprocessor.restore(
        preprocessor.describe(), {n: from_first(t.contiguous()) for n, t in preprocessor.state().items()}
    )


def open_store(recipe: Recipe) -> ImageStore:
    """The recipe's store, with pictures in it.

    Raises:
        BadInput: none is named, or it is empty.
    """
    if recipe.data.store is None:
        raise BadInput(f"recipe {recipe.name} names no pictures: add data.store=STORE")
    store = ImageStore(recipe.data.store)
    if len(store) == 0:
        raise BadInput(f"{recipe.data.store} holds no pictures")
    return store


def preprocess_settings(recipe: Recipe) -> PreprocessSettings:
    """The recipe's group as the room's settings."""
    group = recipe.preprocess
    return PreprocessSettings(group.kind, group.delete, group.epsilon, group.contrast, group.patch)


def _draw(recipe: Recipe, store: ImageStore, count: int) -> np.ndarray | None:
    size = recipe.preprocess.patch
    if size is None:
        return None
    return draw_patches(_First(store, count), size, recipe.preprocess.patches, recipe.seed)


@dataclass(frozen=True)
class _First:
    """The first pictures of a store."""

    store: ImageStore
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.store.shape

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        return self.store[index]


def _rows(
    pre: Preprocessor, below: Parts, store: ImageStore, patches: np.ndarray | None, total: int, streamed: bool
) -> Rows[Tensor]:
    pictures = patches if patches is not None else _First(store, total)

    def seen(batch: np.ndarray) -> Tensor:
        rows = pre.apply(batch)
        for rbm in below.rbms:
            rows = rbm.hidden_mean(rows)
        return rows

    if streamed:
        return StreamedRows(pictures, seen, total)
    rows = torch.empty(total, below.rbms[-1].num_hidden if below.rbms else pre.dim)
    start = 0
    for batch in batches_of(pictures):
        rows[start : start + len(batch)] = seen(batch)
        start += len(batch)
    return MemoryRows(rows)
