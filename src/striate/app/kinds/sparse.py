"""Locally connected sparse autoencoders: stages of untied filters, trained to rebuild what they see from few pooled answers."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from striate.app.kinds.kind import Prepared, Subject, in_place, schedule_settings
from striate.app.kinds.tiled import build_tiled
from striate.app.load import Parts
from striate.app.recipe import Recipe, SparseGroup
from striate.compute import choose_dtype, keep_memory
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.models.sparse.shapes import costs
from striate.models.sparse.trained import TrainedSparseNet
from striate.train import schedule
from striate.train.field_rules import FieldRule
from striate.train.fields import FieldLearner, FieldSettings
from striate.train.sparse import SparseLearner, SparseSettings

# Pictures that first filters are taken from.
_STARTED_FROM = 500


def build_sparse(prepared: Prepared, resumed: Parts | None) -> Subject:
    """A network of stages on whole pictures or patches."""
    recipe, group = prepared.recipe, prepared.recipe.model
    assert isinstance(group, SparseGroup)
    if prepared.device.type == "cpu":
        keep_memory()
    spec = net_spec(group, prepared.preprocessor.shape)
    dtype = choose_dtype(recipe.train.dtype, prepared.device)
    by_fields = recipe.train.together == "fields"
    if prepared.share.count > 1 or prepared.profile:
        if by_fields:
            raise BadInput("train.together=fields learns in one process: leave --processes and --profile out")
        known = resumed.sparse if resumed is not None else None
        title = title_of(spec, recipe.train.batch_size, dtype.itemsize, group.tied_decoder)
        rule = sparse_settings(recipe, prepared.total_steps)
        return build_tiled(prepared, known, spec, rule, dtype, _STARTED_FROM, title)
    if resumed is not None and resumed.sparse is not None:
        net = resumed.sparse.build()
    else:
        net, draws = SparseNet(spec, group.tied_decoder, group.pool_floor), Draws(recipe.seed, purpose="start/")
        if group.start == "noise":
            net.start(draws)
        else:
            net.start_from(prepared.rows.take(np.arange(min(len(prepared.rows), _STARTED_FROM))), draws)
    net = net.to(prepared.device)
    rates = schedule(schedule_settings(recipe.train), prepared.total_steps)
    learner: SparseLearner | FieldLearner
    if by_fields:
        learner = FieldLearner(net, field_settings(recipe, prepared.total_steps), rates, dtype=dtype)
    else:
        learner = SparseLearner(net, sparse_settings(recipe, prepared.total_steps), rates, dtype=dtype)

    def current() -> TrainedSparseNet:
        if isinstance(learner, FieldLearner):
            learner.lay_down()
        state = {name: tensor.cpu() for name, tensor in net.state().items()}
        return TrainedSparseNet(spec, state, group.tied_decoder, group.pool_floor)

    def weights() -> dict[str, Tensor]:
        return {f"stage{number}": stage.encoder for number, stage in enumerate(net.stages, start=1)}

    return Subject(
        learner,
        prepared.rows,
        parts=lambda: Parts(sparse=current()),
        filters=lambda: current().filters,
        take=in_place(weights, lambda: None),
        title=title_of(spec, recipe.train.batch_size, dtype.itemsize, group.tied_decoder),
    )


def title_of(spec: NetSpec, batch: int, itemsize: int, tied_decoder: bool) -> str:
    """Its size and cost, in words."""
    predicted = costs(spec, batch, itemsize, 0 if tied_decoder else 1)
    return (
        f"{len(spec.stages)} stages, {predicted.parameters:,} weights; {predicted.flops / 1e9:.2f} GFLOP a picture, "
        f"{(predicted.parameter_bytes + predicted.activity_bytes) / 2**30:.2f} GiB"
    )


def net_spec(group: SparseGroup, shape: tuple[int, int, int]) -> NetSpec:
    """A recipe's network for pictures of a shape."""
    left_out: dict[str, int] = {}
    if "pool" in group.without:
        left_out |= {"pool": 1, "pool_stride": 1, "pool_pad": 0, "pool_maps": 1, "pool_group": 1}
    if "norm" in group.without:
        left_out |= {"norm": 0}
    stages = [StageSpec(**{**stage.model_dump(), **left_out}) for stage in group.stages[: group.first]]
    return NetSpec(shape, tuple(stages), group.input_norm)


def sparse_settings(recipe: Recipe, total_steps: int) -> SparseSettings:
    """The recipe's learning rule."""
    train, group = recipe.train, recipe.model
    assert isinstance(group, SparseGroup)
    if len(train.penalty) not in (1, len(group.stages)):
        raise BadInput(
            f"train.penalty has {len(train.penalty)} numbers: give one, or one for each of {len(group.stages)} stages"
        )
    penalty = train.penalty * len(group.stages) if len(train.penalty) == 1 else train.penalty
    if train.together == "fields":
        raise BadInput("train.together=fields learns stage after stage in one process: take joint, apart or greedy")
    return SparseSettings(
        sparsity=tuple(penalty),
        together=train.together,
        rule=train.optimiser,
        forget=train.forget,
        unit=train.unit_filters,
        total_steps=total_steps,
    )


def field_settings(recipe: Recipe, total_steps: int) -> FieldSettings:
    """The recipe's rules of stages that learn from fields.

    Raises:
        BadInput: not one rule a stage.
    """
    group, rules = recipe.model, recipe.train.fields
    assert isinstance(group, SparseGroup)
    if len(rules) != len(group.stages):
        raise BadInput(f"train.fields: {len(rules)} given for {len(group.stages)} stages, expected one for each")
    chosen = tuple(FieldRule(**one.model_dump()) for one in rules[: group.first])
    return FieldSettings(chosen, total_steps, recipe.seed)
