"""Nets: from RBMs and a logistic regression on their features, from layers of other nets, or at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from striate.app.kinds.kind import Prepared, Subject, in_place, schedule_settings
from striate.app.kinds.labels import split_labelled
from striate.app.load import Parts, load_model
from striate.app.recipe import NetGroup, TrainGroup
from striate.compute import choose_dtype
from striate.draws import Draws
from striate.errors import BadInput
from striate.measure.logistic import choose_logistic
from striate.models.classifier import LogisticNet, net_from_rbms, random_net
from striate.models.rbm import DeepBeliefNet
from striate.train import schedule
from striate.train.backprop import BackpropLearner, BackpropSettings, Validation
from striate.train.batches import LabelledRows, Rows
from striate.train.objectives import softmax_cross_entropy

_ROWS = 1024
# Units nearly always off would get output weights of hundreds, through which back-propagation blows up at any useful rate.
_FLOOR = 0.2
# Enough rows for the deviation that a random net's inputs are divided by.
_SAMPLE = 4096


def build_net(prepared: Prepared, resumed: Parts | None) -> Subject:
    """A net on labelled rows, with a share of them held out where early stopping is asked for."""
    recipe, group = prepared.recipe, prepared.recipe.train
    train, held = _split(prepared)
    start = resumed.net if resumed is not None and resumed.net is not None else start_net(prepared, train)
    net = start.to(prepared.device)
    if net.sizes[0] != prepared.preprocessor.dim:
        raise BadInput(f"the net takes {net.sizes[0]} inputs, these pictures have {prepared.preprocessor.dim}")
    if net.sizes[-1] < prepared.classes:
        raise BadInput(f"the net tells {net.sizes[-1]} classes apart, these pictures have {prepared.classes}")
    dtype = choose_dtype(group.dtype, prepared.device, (group.batch_size, net.sizes[0], net.sizes[1]))
    steps_per_epoch = max(1, len(train) // group.batch_size)
    learner = BackpropLearner(
        net.weights,
        net.biases,
        softmax_cross_entropy,
        backprop_settings(group),
        schedule(schedule_settings(group), prepared.total_steps),
        input_scale=net.input_scale,
        seed=recipe.seed,
        dtype=dtype,
        validation=Validation(held.take(np.arange(len(held))).to(prepared.device), steps_per_epoch) if len(held) else None,
    )

    def current() -> LogisticNet:
        weights, biases = learner.best()
        return LogisticNet(tuple(weights), tuple(biases), learner.input_scale).to("cpu")

    def named() -> dict[str, Tensor]:
        return LogisticNet(tuple(learner.weights), tuple(learner.biases), learner.input_scale).state()

    sizes = " x ".join(str(size) for size in net.sizes)
    return Subject(
        learner,
        train,
        parts=lambda: Parts(net=current()),
        filters=lambda: learner.weights[0],
        take=in_place(named, learner.refresh),
        title=f"a net of {sizes}",
    )


def backprop_settings(group: TrainGroup, code_noise: float = 0.0, code: int | None = None) -> BackpropSettings:
    """The recipe's group as the learner's settings."""
    return BackpropSettings(
        weight_decay=group.weight_decay,
        rates=tuple(group.rates),
        dropout=group.dropout,
        patience=group.patience,
        code_noise=code_noise,
        code=code,
    )


def _split(prepared: Prepared) -> tuple[LabelledRows, LabelledRows]:
    """Labelled rows to train on, and those held out."""
    positions, held = split_labelled(prepared)
    assert prepared.labels is not None
    return LabelledRows(prepared.rows, prepared.labels, positions), LabelledRows(prepared.rows, prepared.labels, held)


def start_net(prepared: Prepared, train: LabelledRows) -> LogisticNet:
    """The net before training."""
    model = prepared.recipe.model
    assert isinstance(model, NetGroup)
    given = [name for name in ("below", "layers", "hidden") if getattr(model, name) is not None]
    if len(given) != 1:
        raise BadInput(
            "model: give one of below (a run of RBMs), layers (of finished nets) or hidden (sizes of a random net), "
            f"found {' and '.join(given) or 'none'}"
        )
    if model.layers is not None:
        return _assembled(model.layers)
    if model.hidden is not None:
        deviation = float(_first_rows(prepared.rows).std())
        sizes = (prepared.preprocessor.dim, *model.hidden, prepared.classes)
        return random_net(sizes, Draws(prepared.recipe.seed, purpose="start/"), deviation, model.gain)
    if not prepared.below.rbms:
        raise BadInput(f"model.below={model.below} is a net: use model.layers=[{model.below}:1, ...] to start from its layers")
    return _on_features(prepared, train)


def _first_rows(rows: Rows[Tensor]) -> Tensor:
    return rows.take(np.arange(min(len(rows), _SAMPLE)))


def _on_features(prepared: Prepared, train: LabelledRows) -> LogisticNet:
    """RBMs, and on top of them the logistic regression that their features give: the net says what that one says."""
    net = DeepBeliefNet(prepared.below.rbms)
    features = torch.empty(len(train), net.rbms[-1].num_hidden, dtype=torch.bfloat16)
    labels = torch.empty(len(train), dtype=torch.int64)
    prepared.say(f"logistic regression on {features.shape[1]:,} features of {len(train):,} pictures")
    for begin in range(0, len(train), _ROWS):
        part = train.take(np.arange(begin, min(begin + _ROWS, len(train))))
        features[begin : begin + _ROWS] = net.up(part.rows)[-1]
        labels[begin : begin + _ROWS] = part.labels
    logistic, accuracy = choose_logistic(features, labels, prepared.classes, seed=prepared.recipe.seed, floor=_FLOOR)
    prepared.say(f"it names {100 * accuracy:.1f}% of a held-out tenth rightly, L2 {logistic.l2:g}")
    return net_from_rbms(net.rbms, logistic.weights, logistic.bias)


def _assembled(layers: list[str]) -> LogisticNet:
    """Layers of finished nets, each RUN:NUMBER with the lowest layer as 1."""
    weights, biases, scale = [], [], torch.tensor(1.0)
    for level, text in enumerate(layers):
        run, _, number = text.rpartition(":")
        net = load_model(Path(run)).parts.net
        if net is None:
            raise BadInput(f"model.layers: {run} is no net; to start from RBMs use model.below")
        if not 1 <= int(number) <= len(net.weights):
            raise BadInput(f"model.layers: {run} has layers 1 to {len(net.weights)}, found {number}")
        if level == 0:
            scale = net.input_scale
        weights.append(net.weights[int(number) - 1])
        biases.append(net.biases[int(number) - 1])
    return LogisticNet(tuple(weights), tuple(biases), scale)
