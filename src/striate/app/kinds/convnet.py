"""Convolutional nets: crops of labelled pictures, a net by name, the authors' update."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from striate.app.kinds.kind import Prepared, Subject, in_place, schedule_settings
from striate.app.kinds.labels import split_labelled
from striate.app.load import Parts, load_model
from striate.app.recipe import ConvnetGroup, Recipe
from striate.cluster.parallel import SharedRows, average
from striate.compute import choose_dtype
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.convnet import ConvNet
from striate.models.convnet.named import named_net
from striate.models.convnet.shapes import parameters
from striate.models.convnet.trained import TrainedConvNet
from striate.preprocess.crops import Cropper, CropSettings, centre
from striate.train import schedule
from striate.train.convnet import ConvnetLearner, ConvnetSettings
from striate.train.drops import Plateau, Stage, exponential
from striate.train.pictures import CroppedPictures, Crops

_JUDGED_AT_ONCE = 500


def build_convnet(prepared: Prepared, resumed: Parts | None) -> Subject:
    """A net on crops of labelled pictures."""
    recipe, group, train = prepared.recipe, prepared.recipe.model, prepared.recipe.train
    assert isinstance(group, ConvnetGroup)
    shape = prepared.preprocessor.shape
    prepared.share.part(train.batch_size)
    positions, held = split_labelled(prepared)
    start = resumed.convnet if resumed is not None and resumed.convnet is not None else _start(prepared, shape)
    net = start.build().to(prepared.device)
    cropper = Cropper(_crop_settings(recipe), len(prepared.pictures), shape, recipe.seed, prepared.preprocessor.colour)
    if cropper.shape != start.spec.input:
        raise BadInput(
            f"{start.name} takes crops {start.spec.input}, these are {cropper.shape}: set augment.crop={start.spec.input[1]} "
            "on pictures of that size and more, or model.crop to the pictures' size"
        )
    assert prepared.labels is not None
    rows = CroppedPictures(
        prepared.pictures.__getitem__,
        prepared.labels,
        positions,
        cropper,
        os.cpu_count() or 1 if train.workers is None else train.workers,
        pinned=prepared.device.type == "cuda",
    )
    mean = torch.from_numpy(np.ascontiguousarray(centre(prepared.preprocessor.mean.numpy(), cropper.shape[1])))
    learner = ConvnetLearner(
        net,
        mean,
        _settings(recipe, start.divide, len(positions) // train.batch_size),
        schedule(schedule_settings(train), prepared.total_steps),
        seed=recipe.seed,
        dtype=choose_dtype(train.dtype, prepared.device),
        held_out=_judged(prepared, held, cropper.shape[1]) if len(held) else None,
        plateau=_plateau(recipe, len(held)),
        combine=average if prepared.share.count > 1 else None,
        part=(prepared.share.rank, prepared.share.count),
    )
    return Subject(
        learner,
        rows if prepared.share.count == 1 else SharedRows(rows, prepared.share),
        parts=lambda: Parts(convnet=replace(start, state=_on_cpu(learner.parameters()))),
        filters=lambda: learner.parameters()[_first_key(start)],
        take=in_place(lambda: dict(net.named_parameters()), learner.refresh),
        title=f"{start.name}, {parameters(start.spec):,} parameters on crops of {cropper.shape[1]}x{cropper.shape[2]}",
    )


def _first_key(start: TrainedConvNet) -> str:
    first = start.spec.learned[0]
    return f"{first.key or first.name}.weight"


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}


def _start(prepared: Prepared, shape: tuple[int, int, int]) -> TrainedConvNet:
    group = prepared.recipe.model
    assert isinstance(group, ConvnetGroup)
    classes = group.classes or prepared.classes
    if classes < prepared.classes:
        raise BadInput(f"model.classes is {classes}, these pictures are labelled with {prepared.classes}")
    crop = group.crop or prepared.recipe.augment.crop
    spec = named_net(group.net, classes, group.switches, crop, shape[0])
    if crop is None and min(shape[1:]) < spec.input[1]:
        # Smaller pictures make smaller maps.
        crop = min(shape[1:])
        spec = named_net(group.net, classes, group.switches, crop, shape[0])
    net = ConvNet(spec, Draws(prepared.recipe.seed, purpose="start/"))
    state = {name: tensor.detach() for name, tensor in net.state_dict().items()}
    if group.init is not None:
        state |= _taken(group.init, state, spec.learned[-1].key or spec.learned[-1].name)
    divide = prepared.recipe.augment.divide
    return TrainedConvNet(group.net, classes, state, group.switches, crop, shape[0], divide)


def _taken(run: Path, own: dict[str, Tensor], last: str) -> dict[str, Tensor]:
    """Parameters of a finished net; the classifier's only where the classes are as many.

    Raises:
        BadInput: it is no convolutional net, or another one.
    """
    whose, state = _finished(run)
    taken = {}
    for name, tensor in own.items():
        found = state.get(name)
        if found is not None and found.shape == tensor.shape:
            taken[name] = found
        elif not name.startswith(f"{last}."):
            what = "nothing" if found is None else str(tuple(found.shape))
            raise BadInput(f"model.init: {run} ({whose}) has {what} for {name}, this net needs {tuple(tensor.shape)}")
    return taken


def _finished(run: Path) -> tuple[str, Mapping[str, Tensor]]:
    """Name and parameters of a finished run's net, or of a bare state dict: torchvision's AlexNet fits `one-gpu`."""
    if run.is_file() and run.suffix in (".pth", ".pt"):
        try:
            # Tensors alone: nothing in the file is run.
            state = torch.load(run, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
            raise BadInput(f"model.init: {run} is no state dict: {str(error).splitlines()[0]}") from None
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            raise BadInput(f"model.init: {run} holds no state dict (names to tensors)")
        return "a state dict", state
    other = load_model(run).parts.convnet
    if other is None:
        raise BadInput(f"model.init: {run} is no convolutional net")
    return other.name, other.state


def _crop_settings(recipe: Recipe) -> CropSettings:
    group = recipe.augment
    return CropSettings(
        group.crop, group.offsets, group.reflect, group.chunk, group.colour_noise, group.colour, group.colour_until
    )


def _settings(recipe: Recipe, divide: float, steps_per_epoch: int) -> ConvnetSettings:
    train = recipe.train
    stages = tuple(Stage(one.epoch, one.factor, one.layers) for one in train.stages)
    if train.exponential is not None:
        if stages:
            raise BadInput("give train.stages or train.exponential, not both")
        stages = exponential(train.epochs, train.exponential.total, train.exponential.steps)
    return ConvnetSettings(
        steps_per_epoch,
        train.weight_decay,
        train.bias_rate,
        train.layer_rates,
        stages,
        train.rule == "paper",
        divide,
        train.compile,
        average=train.average,
        until_error=train.until_error,
    )


def _plateau(recipe: Recipe, held: int) -> Plateau | None:
    group = recipe.train.plateau
    if group is None:
        return None
    if not held:
        raise BadInput("train.plateau needs pictures to judge by: set train.validation, for example 0.1")
    return Plateau(group.patience, group.divide, group.drops)


def _judged(prepared: Prepared, held: np.ndarray, crop: int) -> Callable[[], Sequence[Crops]]:
    labels = prepared.labels
    assert labels is not None

    def batches() -> Sequence[Crops]:
        found = []
        for start in range(0, len(held), _JUDGED_AT_ONCE):
            chosen = held[start : start + _JUDGED_AT_ONCE]
            pixels = torch.from_numpy(np.ascontiguousarray(centre(prepared.pictures[chosen], crop)))
            shift = torch.zeros(len(chosen), pixels.shape[1])
            found.append(Crops(pixels, shift, labels[torch.from_numpy(chosen)]).to(prepared.device))
        return found

    return batches
