"""Nets that can go on learning from labels: a new last layer on what they know, and training of all their layers from there.

Two kinds, one shape: convolutional nets, and sigmoid nets (an RBM of whole pictures is one without its last layer). Training
pictures are shifted by a few pixels, differently in every epoch, and mirrored where that leaves classes as they are: few
pictures seen again and again unaltered are learned by heart.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from striate.app.load import Parts, TrainedModel
from striate.compute import choose_dtype
from striate.models.classifier import LogisticNet, net_from_rbms
from striate.models.encoder import Encoder
from striate.models.rbm import RBM
from striate.preprocess.crops import Cropper, CropSettings, centre
from striate.train.backprop import BackpropLearner, BackpropSettings
from striate.train.batches import Batches, Labelled
from striate.train.convnet import ConvnetLearner, ConvnetSettings
from striate.train.objectives import softmax_cross_entropy
from striate.train.pictures import CroppedPictures
from striate.train.schedules import ScheduleSettings, schedule

State = Mapping[str, Tensor]
"""A net's parameters by name."""

_BATCH = 50
# Passes over the labels: so many steps, within these bounds.
_STEPS, _LEAST_EPOCHS, _MOST_EPOCHS = 500, 12, 40
# Of the edge, how far training pictures are shifted at most.
_SHIFT = 0.1
# Both on what their nets were trained with: levels less the mean, and preprocessed rows.
_CONVNET_RATE = 0.001
# Share of the past in the running average of a convolutional net's parameters.
_AVERAGE = 0.99
_NET_RATE = 0.05


@dataclass(frozen=True)
class Taught:
    """Pictures to learn from.

    Attributes:
        pictures: uint8 (n, c, h, w).
        labels: int64 (n,).
        mirror: whether a mirrored picture is of the same class.
        seed: of order, shifts and mirrors.
    """

    pictures: np.ndarray
    labels: Tensor
    mirror: bool
    seed: int

    @property
    def epochs(self) -> int:
        """Passes over so many pictures."""
        return min(_MOST_EPOCHS, max(_LEAST_EPOCHS, _STEPS // self.steps_per_epoch))

    @property
    def batch_size(self) -> int:
        """Pictures a step."""
        return min(_BATCH, len(self.labels))

    @property
    def steps_per_epoch(self) -> int:
        """As many full batches as there are."""
        return len(self.labels) // self.batch_size

    def cropped(self, edge: int | None) -> CroppedPictures:
        """Crops: from the pictures where they are larger than the net's (square) edge, else from pictures with a border."""
        height, width = self.pictures.shape[-2:]
        # Crops are square: pictures that are not, and are taken whole, are mirrored only.
        crop = height if edge is None and height == width else edge
        border = max(1, round(_SHIFT * crop)) if crop == min(height, width) else 0
        sides = ((0, 0), (0, 0), (border, border), (border, border))
        wide = np.pad(self.pictures, sides, mode="edge")
        cropper = Cropper(CropSettings(crop, reflect=self.mirror), len(wide), wide.shape[1:], self.seed)
        return CroppedPictures(lambda chosen: wide[chosen], self.labels, np.arange(len(wide)), cropper, workers=0)


class Tunable(Protocol):
    """A net whose last layer is to be the classes of a lesson."""

    def below(self, pictures: np.ndarray) -> Tensor:
        """What enters the last layer, (n, d)."""
        ...

    def started(self, weights: Tensor, bias: Tensor) -> State:
        """The net as it is, with another last layer: (classes, d) and (classes,)."""
        ...

    def learned(self, start: State, taught: Taught) -> State:
        """The net after training all its layers from there."""
        ...

    def model(self, state: State) -> TrainedModel:
        """The net with these parameters, as a model to keep."""
        ...


def falling(rate: float, steps: int) -> Any:
    """A rate that rises over the first steps, so that the start is not shaken, and falls along a cosine to nearly nothing."""
    settings = ScheduleSettings(rate, "cosine", hold=0.0, warmup_steps=max(1, steps // 20), initial_momentum=0.9)
    return schedule(settings, steps)


class TunableConvnet:
    """A convolutional net."""

    def __init__(self, model: TrainedModel, classes: int) -> None:
        assert model.parts.convnet is not None
        self._model, self._net = model, replace(model.parts.convnet, classes=classes)
        self._encoder: Encoder = model.encoder()
        last = self._net.spec.learned[-1]
        self._key = last.key or last.name

    def below(self, pictures: np.ndarray) -> Tensor:
        """What enters the last layer, (n, d)."""
        layer = self._encoder.layers[-2]
        return self._encoder.encode(pictures, [layer])[layer]

    def started(self, weights: Tensor, bias: Tensor) -> State:
        """The net as it is, with another last layer."""
        return dict(self._net.state) | {f"{self._key}.weight": weights, f"{self._key}.bias": bias}

    def learned(self, start: State, taught: Taught) -> State:
        """All layers, each at the same rate."""
        net = replace(self._net, state={name: tensor.clone() for name, tensor in start.items()}).build()
        edge = self._net.spec.input[1]
        steps = taught.epochs * taught.steps_per_epoch
        learner = ConvnetLearner(
            net,
            torch.from_numpy(np.ascontiguousarray(centre(self._model.preprocessor.mean.numpy(), edge))),
            ConvnetSettings(steps_per_epoch=taught.steps_per_epoch, divide=self._net.divide, average=_AVERAGE),
            falling(_CONVNET_RATE, steps),
            seed=taught.seed,
            dtype=choose_dtype("auto", "cpu"),
        )
        for batch in itertools.islice(Batches(taught.cropped(edge), taught.batch_size, taught.seed).starting_at(0), steps):
            learner.step(batch)
        return {name: tensor.detach().clone().contiguous() for name, tensor in learner.parameters().items()}

    def model(self, state: State) -> TrainedModel:
        """The net with these parameters."""
        return replace(self._model, parts=Parts(convnet=replace(self._net, state=state)))


def _headless(rbms: Sequence[RBM], classes: int) -> LogisticNet:
    return net_from_rbms(rbms, torch.zeros(classes, len(rbms[-1].weights)), torch.zeros(classes))


class TunableNet:
    """Sigmoid layers under the last one: a net's, or a stack of RBMs'."""

    def __init__(self, model: TrainedModel, classes: int) -> None:
        self._model = model
        # Its last layer is put on by `started`.
        self._net = model.parts.net or _headless(model.parts.rbms, classes)

    def below(self, pictures: np.ndarray) -> Tensor:
        """What enters the last layer, (n, d)."""
        rows = self._model.preprocessor.apply(pictures)
        return [rows / self._net.input_scale, *self._net.hidden(rows)][-1]

    def started(self, weights: Tensor, bias: Tensor) -> State:
        """The net as it is, with another last layer."""
        net = LogisticNet((*self._net.weights[:-1], weights), (*self._net.biases[:-1], bias), self._net.input_scale)
        return net.state()

    def learned(self, start: State, taught: Taught) -> State:
        """All layers, each at the same rate."""
        net = LogisticNet.restore(start)
        steps = taught.epochs * taught.steps_per_epoch
        learner = BackpropLearner(
            net.weights,
            net.biases,
            softmax_cross_entropy,
            BackpropSettings(),
            falling(_NET_RATE, steps),
            input_scale=net.input_scale,
            seed=taught.seed,
            dtype=choose_dtype("auto", "cpu", (taught.batch_size, net.sizes[0], net.sizes[1])),
        )
        crops = Batches(taught.cropped(None), taught.batch_size, taught.seed)
        for batch in itertools.islice(crops.starting_at(0), steps):
            learner.step(Labelled(self._model.preprocessor.apply(batch.pixels), batch.labels))
        return LogisticNet(tuple(learner.weights), tuple(learner.biases), net.input_scale).state()

    def model(self, state: State) -> TrainedModel:
        """The net with these parameters."""
        return replace(self._model, parts=Parts(net=LogisticNet.restore(state)))
