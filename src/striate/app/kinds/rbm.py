"""RBMs: started small and random, from copies of a patch model, or from the layer below turned upside down."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from striate.app.kinds.kind import Prepared, Say, Subject, in_place, schedule_settings
from striate.app.kinds.sharing import build_shared
from striate.app.load import Parts, load_model
from striate.app.recipe import RBMGroup, Recipe, StartSettings, TrainGroup
from striate.cluster.parallel import tell_all
from striate.compute import choose_dtype
from striate.draws import Draws, generator
from striate.errors import BadInput
from striate.models.rbm import RBM, new_rbm, tile_rbm, transposed
from striate.models.rbm.dbn import check_stacks
from striate.preprocess import Preprocessor
from striate.train import Batches, CDSettings, ContrastiveLearner, MemoryRows, ScheduleSettings, schedule
from striate.train.batches import Rows

# Enough pictures for the logits that binary visible biases start from.
_SAMPLE = 4096


def build_rbm(prepared: Prepared, resumed: Parts | None) -> Subject:
    """An RBM on the rows, with the layers below it left as they are."""
    recipe, below = prepared.recipe, prepared.below
    rbm = resumed.rbms[-1] if resumed is not None else start_rbm(prepared)
    if below.rbms:
        check_stacks(below.rbms[-1], rbm, len(below.rbms) + 1)
    rbm = rbm.to(prepared.device)
    settings, shape = cd_settings(recipe.train), (recipe.train.batch_size, rbm.num_visible, rbm.num_hidden)
    dtype = choose_dtype(recipe.train.dtype, prepared.device, shape)
    if prepared.share.count > 1 or prepared.profile or dtype == torch.float64:
        return build_shared(prepared, rbm, settings, _agreed(dtype, prepared.share.count))
    learner = ContrastiveLearner(
        rbm, settings, schedule(schedule_settings(recipe.train), prepared.total_steps), seed=recipe.seed, dtype=dtype
    )
    return Subject(
        learner,
        prepared.rows,
        parts=lambda: Parts((*below.rbms, learner.rbm.to("cpu"))),
        filters=lambda: Parts((*below.rbms, learner.rbm)).filters(),
        take=in_place(lambda: learner.rbm.state(), learner.refresh),
        title=f"{rbm.num_visible} visible x {rbm.num_hidden} hidden units",
    )


def _agreed(dtype: torch.dtype, count: int) -> torch.dtype:
    """The first process's format: machines may measure differently."""
    if count == 1:
        return dtype
    name = tell_all(str(dtype).removeprefix("torch."))[0]
    return {"bfloat16": torch.bfloat16, "float64": torch.float64}.get(name, torch.float32)


def cd_settings(group: TrainGroup) -> CDSettings:
    """The recipe's group as the learner's settings."""
    return CDSettings(
        k=group.k,
        chains=group.chains,
        weight_decay=group.weight_decay,
        sparsity_target=group.sparsity_target,
        sparsity_cost=group.sparsity_cost,
        sample_visible=group.sample_visible,
        sample_data=group.sample_data,
        sigma_rate=group.sigma_rate,
        sampler=group.sampler,
        fast_rate=group.fast_rate,
        temperatures=group.temperatures,
        langevin_step=group.langevin_step,
        centring=group.centring,
        clip=group.clip,
        data_states=group.data_states,
        final_states=group.final_states,
    )


def start_rbm(prepared: Prepared) -> RBM:
    """The model before training."""
    recipe, rows = prepared.recipe, prepared.rows
    model = recipe.model
    assert isinstance(model, RBMGroup)
    if prepared.below.rbms:
        return _on_top(prepared, model)
    if model.transpose:
        raise BadInput("model.transpose needs a run to stand on: give model.below=RUN")
    if model.init is not None:
        return _from_run(model, model.init, prepared.preprocessor)
    if model.start is not None:
        return _from_patches(recipe, model, model.start, prepared.preprocessor, rows, prepared.say)
    # Binary visible biases start from the data's means; Gaussian data has mean zero after all kinds of preprocessing.
    dim = prepared.preprocessor.dim
    mean = _mean_of_binary_data(rows) if model.visible == "bernoulli" else torch.zeros(dim)
    return _small_random(recipe, model, mean, model.visible)


def _from_run(model: RBMGroup, run: Path, pre: Preprocessor) -> RBM:
    """A finished run's model, such as merged patch models, to be trained on."""
    given = [name for name in ("hidden", "start") if name in model.model_fields_set and getattr(model, name) is not None]
    if given:
        raise BadInput(f"model.init={run} brings its own size: leave out model.{', model.'.join(given)}")
    known = load_model(run)
    if known.preprocessor.describe() != pre.describe() or known.rbm.num_visible != pre.dim:
        raise BadInput(
            f"model.init={run} was trained on pictures preprocessed otherwise ({known.preprocessor.describe()}, now "
            f"{pre.describe()}): give this recipe the same preprocess group"
        )
    return known.rbm


def _small_random(recipe: Recipe, model: RBMGroup, mean: Tensor, visible: str) -> RBM:
    return new_rbm(
        model.hidden,
        mean,
        visible=visible,
        sigma=model.sigma,
        weight_std=model.weight_std,
        hidden_bias=model.hidden_bias,
        draws=Draws(recipe.seed, purpose="start/"),
    )


def _on_top(prepared: Prepared, model: RBMGroup) -> RBM:
    """A layer on activities of the layers below: small and random, or the transpose of the layer below (equation 1.7)."""
    below = prepared.below.rbms[-1]
    if model.start is not None:
        raise BadInput("model.start makes a first layer from patches: with model.below leave it out")
    if model.init is not None:
        return load_model(model.init).rbm
    if not model.transpose:
        return _small_random(prepared.recipe, model, _mean_of_binary_data(prepared.rows), "bernoulli")
    if "hidden" in model.model_fields_set and model.hidden != below.num_visible:
        raise BadInput(
            f"model.transpose gives as many hidden units as the layer below has visible ones, {below.num_visible}: "
            f"leave model.hidden out, found {model.hidden}"
        )
    return transposed(below)


def _mean_of_binary_data(rows: Rows[Tensor]) -> Tensor:
    sample = rows.take(np.arange(min(len(rows), _SAMPLE)))
    if float(sample.min()) < 0 or float(sample.max()) > 1:
        raise BadInput("model.visible=bernoulli needs data from 0 to 1: set preprocess.kind=scale")
    return sample.mean(dim=0)


def _from_patches(
    recipe: Recipe, model: RBMGroup, start: StartSettings, pre: Preprocessor, rows: Rows[Tensor], say: Say
) -> RBM:
    """Train an RBM on patches of the preprocessed pictures, then tile the picture with copies of it."""
    channels, height, width = pre.shape
    patches = _patch_rows(rows, pre.shape, start, recipe.seed)
    say(f"starting from {start.hidden} units on {len(patches):,} patches of {start.patch}x{start.patch}")
    small = new_rbm(
        start.hidden,
        torch.zeros(patches.shape[1]),
        sigma=model.sigma,
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


def _patch_rows(rows: Rows[Tensor], shape: tuple[int, int, int], start: StartSettings, seed: int) -> Tensor:
    """Windows of preprocessed pictures, (patches, channels * patch * patch)."""
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
