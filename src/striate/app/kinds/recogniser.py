"""Recognisers: the stages of a sparse autoencoder under a classifier, from a finished run or at random."""

from __future__ import annotations

import numpy as np
import torch

from striate.app.kinds.kind import Prepared, Subject, in_place, schedule_settings
from striate.app.kinds.labels import split_labelled
from striate.app.load import Parts
from striate.app.recipe import Recipe, RecogniserGroup
from striate.compute import choose_dtype, keep_memory
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.models.sparse.shapes import sides
from striate.models.sparse.trained import TrainedSparseNet, flat
from striate.models.top import Top, new_top
from striate.train import schedule
from striate.train.batches import LabelledRows
from striate.train.recognition import RecognitionLearner, RecognitionSettings
from striate.train.sparse import SparseSettings

# Pictures that the features' scale is taken from, and first filters where they are taken from pictures.
_SEEN, _AT_ONCE = 1000, 100


def build_recogniser(prepared: Prepared, resumed: Parts | None) -> Subject:
    """A network of stages, and a classifier of what its last one says."""
    recipe, group = prepared.recipe, prepared.recipe.model
    assert isinstance(group, RecogniserGroup)
    if prepared.device.type == "cpu":
        keep_memory()
    if recipe.train.validation:
        raise BadInput("train.validation is for nets and convnets: a recogniser learns from all pictures that it is given")
    positions, _ = split_labelled(prepared)
    assert prepared.labels is not None
    rows = LabelledRows(prepared.rows, prepared.labels, positions)
    start = resumed.sparse if resumed is not None and resumed.sparse is not None else _start(prepared)
    net = start.build().to(prepared.device)
    # The first filters themselves are let go.
    spec, pool_floor = start.spec, start.pool_floor
    top = resumed.top if resumed is not None and resumed.top is not None else _new_top(prepared, net)
    if len(top.weights) < prepared.classes:
        raise BadInput(f"the recogniser tells {len(top.weights)} classes apart, these pictures have {prepared.classes}")
    dtype = choose_dtype(recipe.train.dtype, prepared.device)
    learner = RecognitionLearner(
        net,
        top.to(prepared.device),
        recognition_settings(recipe, prepared.total_steps),
        schedule(schedule_settings(recipe.train), prepared.total_steps),
        dtype=dtype,
    )

    def current() -> TrainedSparseNet:
        state = {name: tensor.cpu() for name, tensor in net.state().items()}
        return TrainedSparseNet(spec, state, True, pool_floor)

    return Subject(
        learner,
        rows,
        parts=lambda: Parts(sparse=current(), top=learner.top.to("cpu")),
        filters=lambda: current().filters,
        take=in_place(lambda: {f"stage{n}": stage.encoder for n, stage in enumerate(net.stages, start=1)}, lambda: None),
        title=title_of(spec, learner.top),
    )


def title_of(spec: NetSpec, top: Top) -> str:
    """Its size in words."""
    filters, (classes, features) = sum(one.weights for one in sides(spec)), top.weights.shape
    return f"{len(spec.stages)} stages, {filters:,} weights, under {top.kind} of {classes:,} classes by {features:,} features"


def recognition_settings(recipe: Recipe, total_steps: int) -> RecognitionSettings:
    """The recipe's learning rule."""
    train = recipe.train
    rule = SparseSettings(rule=train.optimiser, forget=train.forget, unit=train.unit_filters)
    return RecognitionSettings(
        rule, tuple(train.rates), train.weight_decay, round(train.top_first * total_steps), train.top_rate
    )


def _start(prepared: Prepared) -> TrainedSparseNet:
    """The network before training, without decoders.

    Raises:
        BadInput: neither a run nor stages, or both; or a run of another kind.
    """
    group, below = prepared.recipe.model, prepared.below.sparse
    assert isinstance(group, RecogniserGroup)
    if (group.below is None) == (group.stages is None):
        found = "none" if group.below is None else "both"
        raise BadInput(
            f"model: give below (a run of a sparse autoencoder) or stages (of a network that starts at random), found {found}"
        )
    if group.below is not None and below is None:
        raise BadInput(f"model.below={group.below} is no sparse autoencoder: a recogniser stands on stages of one")
    if below is None:
        assert group.stages is not None
        stages = tuple(StageSpec(**stage.model_dump()) for stage in group.stages)
        net = SparseNet(NetSpec(prepared.preprocessor.shape, stages, group.input_norm), True, group.pool_floor)
    else:
        net = SparseNet(below.spec, True, below.pool_floor)
    start = group.start or ("noise" if below is None else "run")
    if start == "run":
        if below is None:
            raise BadInput("model.start=run needs the run: give model.below=RUN, or model.start=noise")
        net.load(below.state)
    elif start == "noise":
        net.start(Draws(prepared.recipe.seed, purpose="start/"))
    else:
        seen = prepared.rows.take(np.arange(min(len(prepared.rows), _SEEN)))
        net.start_from(seen, Draws(prepared.recipe.seed, purpose="start/"))
    return TrainedSparseNet(net.spec, net.state(), True, net.pool_floor)


def _new_top(prepared: Prepared, net: SparseNet) -> Top:
    group = prepared.recipe.model
    assert isinstance(group, RecogniserGroup)
    last = f"norm{len(net.stages)}"
    parts = [
        flat(net.activities(prepared.rows.take(np.arange(first, min(first + _AT_ONCE, len(prepared.rows)))), [last])[last])
        for first in range(0, min(_SEEN, len(prepared.rows)), _AT_ONCE)
    ]
    return new_top(torch.cat(parts).cpu(), prepared.classes, group.top)
