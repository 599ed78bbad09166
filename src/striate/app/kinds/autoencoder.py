"""Autoencoders: a finished stack of RBMs unrolled and fine-tuned, for codes that rebuild pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from striate.app.kinds.kind import Prepared, Subject, in_place, schedule_settings
from striate.app.kinds.net import backprop_settings
from striate.app.load import Parts
from striate.app.recipe import AutoencoderGroup
from striate.compute import choose_dtype
from striate.errors import BadInput
from striate.models.autoencoder import Autoencoder, unrolled
from striate.train import schedule
from striate.train.backprop import BackpropLearner
from striate.train.objectives import binary_cross_entropy, squared_error


def build_autoencoder(prepared: Prepared, resumed: Parts | None) -> Subject:
    """An autoencoder on the rows, which are their own targets."""
    recipe, model = prepared.recipe, prepared.recipe.model
    assert isinstance(model, AutoencoderGroup)
    start = resumed.autoencoder if resumed is not None else None
    if start is None:
        if not prepared.below.rbms:
            raise BadInput(f"model.below={model.below} holds no RBMs to unroll")
        start = unrolled(prepared.below.rbms, model.linear_code)
    auto, settings = start, backprop_settings(recipe.train, model.code_noise, start.code)
    shape = (recipe.train.batch_size, auto.weights[0].shape[1], auto.weights[0].shape[0])
    learner = BackpropLearner(
        [weight.to(prepared.device) for weight in auto.weights],
        [bias.to(prepared.device) for bias in auto.biases],
        squared_error if auto.gaussian else binary_cross_entropy,
        settings,
        schedule(schedule_settings(recipe.train), prepared.total_steps),
        input_scale=auto.scale.to(prepared.device),
        linear=auto.linear,
        seed=recipe.seed,
        dtype=choose_dtype(recipe.train.dtype, prepared.device, shape),
    )

    def current() -> Autoencoder:
        weights, biases = (tuple(tensor.cpu() for tensor in group) for group in (learner.weights, learner.biases))
        return Autoencoder(weights, biases, auto.scale, auto.gaussian, auto.linear_code)

    def named() -> dict[str, Tensor]:
        return {f"weights{level}": weight for level, weight in enumerate(learner.weights)}

    sizes = " x ".join(str(weight.shape[1]) for weight in (*auto.weights, torch.empty(0, auto.weights[-1].shape[0])))
    return Subject(
        learner,
        prepared.rows,
        parts=lambda: Parts(autoencoder=current()),
        filters=lambda: learner.weights[0],
        take=in_place(named, learner.refresh),
        title=f"an autoencoder of {sizes}",
    )
