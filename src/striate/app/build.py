"""From a checked recipe to objects: preprocessing fitted, rows, model, learner, batches. The only place that knows both."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from striate.app.recipe import Recipe, StartSettings, TrainGroup
from striate.compute import choose_device, choose_dtype
from striate.draws import Draws
from striate.errors import BadInput
from striate.images import ImageStore
from striate.models.rbm import RBM, new_rbm, tile_rbm
from striate.preprocess import Preprocessor, PreprocessSettings, batches_of, draw_patches
from striate.train import (
    Batches,
    CDSettings,
    ContrastiveLearner,
    LoopSettings,
    MemoryRows,
    ScheduleSettings,
    StreamedRows,
    schedule,
)
from striate.train.batches import Rows
from striate.train.loop import snapshot_steps

Say = Callable[[str], None]

# Enough pictures for the logits that binary visible biases start from.
_SAMPLE = 4096


@dataclass
class Experiment:
    """Everything a training needs, built."""

    recipe: Recipe
    store: ImageStore
    preprocessor: Preprocessor
    rows: Rows
    batches: Batches
    learner: ContrastiveLearner
    loop: LoopSettings
    device: torch.device
    streamed: bool


def build(
    recipe: Recipe,
    say: Say,
    *,
    preprocessor: Preprocessor | None = None,
    streamed: bool | None = None,
    rbm: RBM | None = None,
) -> Experiment:
    """Build an experiment.

    Args:
        recipe: checked.
        say: told what is being done.
        preprocessor: the one of a run that is resumed; fitted anew otherwise.
        streamed: what that run did with its rows; decided by size otherwise.
        rbm: a model of the shape of that run's; made as the recipe says otherwise.

    Raises:
        BadInput: no store, an empty one, or settings that do not fit its pictures.
    """
    store = open_store(recipe)
    device = choose_device(recipe.device)
    count = min(len(store), recipe.data.limit or len(store))
    patches = _draw(recipe, store, count)
    if preprocessor is None:
        say(f"fitting {recipe.preprocess.kind} on {len(patches) if patches is not None else count:,} pictures")
        preprocessor = Preprocessor.fit(_pictures(store, patches, count), preprocess_settings(recipe))
    total = len(patches) if patches is not None else count
    if streamed is None:
        streamed = total * preprocessor.dim * 4 > recipe.train.memory_gb * 2**30
    rows = _rows(preprocessor, store, patches, total, streamed)
    batches = Batches(rows, recipe.train.batch_size, recipe.seed, device)
    total_steps = max(1, round(recipe.train.epochs * batches.steps_per_epoch))
    rbm = (rbm or start_rbm(recipe, preprocessor, rows, say)).to(device)
    shape = (recipe.train.batch_size, rbm.num_visible, rbm.num_hidden)
    learner = ContrastiveLearner(
        rbm,
        cd_settings(recipe.train),
        schedule(schedule_settings(recipe.train), total_steps),
        seed=recipe.seed,
        dtype=choose_dtype(recipe.train.dtype, device, shape),
    )
    loop = LoopSettings(
        total_steps,
        recipe.train.log_every,
        recipe.train.checkpoint_every_s,
        snapshot_steps(total_steps, recipe.train.snapshots),
    )
    return Experiment(recipe, store, preprocessor, rows, batches, learner, loop, device, streamed)


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


def cd_settings(group: TrainGroup) -> CDSettings:
    """The recipe's group as the learner's settings."""
    return CDSettings(
        k=group.k,
        chains=group.chains,
        weight_decay=group.weight_decay,
        sparsity_target=group.sparsity_target,
        sparsity_cost=group.sparsity_cost,
        sample_visible=group.sample_visible,
        final_states=group.final_states,
    )


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


def _pictures(store: ImageStore, patches: np.ndarray | None, count: int):  # type: ignore[no-untyped-def]
    return batches_of(patches if patches is not None else _First(store, count))


def _rows(pre: Preprocessor, store: ImageStore, patches: np.ndarray | None, total: int, streamed: bool) -> Rows:
    pictures = patches if patches is not None else _First(store, total)
    if streamed:
        return StreamedRows(pictures, pre.apply, total)
    rows = torch.empty(total, pre.dim)
    start = 0
    for batch in batches_of(pictures):
        rows[start : start + len(batch)] = pre.apply(batch)
        start += len(batch)
    return MemoryRows(rows)


def start_rbm(recipe: Recipe, pre: Preprocessor, rows: Rows, say: Say) -> RBM:
    """The model before training: small random weights, or copies of a patch model all over the picture."""
    model = recipe.model
    if model.start is not None:
        return _from_patches(recipe, model.start, pre, rows, say)
    # Binary visible biases start from the data's means; Gaussian data has mean zero after all kinds of preprocessing.
    mean = _mean_of_binary_data(rows) if model.visible == "bernoulli" else torch.zeros(pre.dim)
    return new_rbm(
        model.hidden,
        mean,
        visible=model.visible,
        sigma=model.sigma,
        weight_std=model.weight_std,
        hidden_bias=model.hidden_bias,
        draws=Draws(recipe.seed, purpose="start/"),
    )


def _mean_of_binary_data(rows: Rows) -> Tensor:
    sample = rows.take(np.arange(min(len(rows), _SAMPLE)))
    if float(sample.min()) < 0 or float(sample.max()) > 1:
        raise BadInput("model.visible=bernoulli needs data from 0 to 1: set preprocess.kind=scale")
    return sample.mean(dim=0)


def _from_patches(recipe: Recipe, start: StartSettings, pre: Preprocessor, rows: Rows, say: Say) -> RBM:
    """Train an RBM on patches of the preprocessed pictures, then tile the picture with copies of it."""
    channels, height, width = pre.shape
    patches = _patch_rows(rows, pre.shape, start, recipe.seed)
    say(f"starting from {start.hidden} units on {len(patches):,} patches of {start.patch}x{start.patch}")
    small = new_rbm(
        start.hidden,
        torch.zeros(patches.shape[1]),
        sigma=recipe.model.sigma,
        weight_std=start.weight_std,
        hidden_bias=start.hidden_bias,
        draws=Draws(recipe.seed, purpose="patch-start/"),
    )
    batch = min(128, len(patches))
    batches = Batches(MemoryRows(patches), batch, recipe.seed)
    total = start.epochs * batches.steps_per_epoch
    settings = CDSettings(
        weight_decay=start.weight_decay, sparsity_target=start.sparsity_target, sparsity_cost=start.sparsity_cost
    )
    rates = schedule(ScheduleSettings(start.learning_rate, shape="linear"), total)
    learner = ContrastiveLearner(small, settings, rates, seed=recipe.seed)
    for rows_of_step in batches.starting_at(0):
        metrics = learner.step(rows_of_step)
        if learner.step_number == total:
            break
    if not math.isfinite(float(metrics["reconstruction_error"])):
        raise BadInput(f"the patch model diverged: lower model.start.learning_rate (it is {start.learning_rate})")
    return tile_rbm(learner.rbm, (channels, start.patch, start.patch), (height, width), start.stride, start.scale)


def _patch_rows(rows: Rows, shape: tuple[int, int, int], start: StartSettings, seed: int) -> Tensor:
    """Windows of preprocessed pictures, (patches, channels * patch * patch)."""
    from striate.draws import generator

    channels, height, width = shape
    size = start.patch
    if size > min(height, width):
        raise BadInput(f"model.start.patch: patches of {size} pixels do not fit pictures of {height}x{width}")
    random = generator(seed, "patch-start")
    which = np.sort(random.integers(0, len(rows), start.patches))
    tops = random.integers(0, height - size + 1, start.patches)
    lefts = random.integers(0, width - size + 1, start.patches)
    out = torch.empty(start.patches, channels * size * size)
    offsets = torch.arange(size)
    for begin in range(0, start.patches, 4096):
        part = slice(begin, begin + 4096)
        pictures = rows.take(which[part]).view(-1, channels, height, width)
        down = torch.from_numpy(tops[part])[:, None] + offsets
        across = torch.from_numpy(lefts[part])[:, None] + offsets
        # Advanced indices apart from each other put their axes first: (n, size, size, channels).
        cut = pictures[torch.arange(len(pictures))[:, None, None], :, down[:, :, None], across[:, None, :]]
        out[part] = cut.permute(0, 3, 1, 2).flatten(1)
    return out
