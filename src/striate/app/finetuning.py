"""The network itself goes on learning from few labels: its lower layers slowly, a new last layer faster, stopped early.

A fifth of the labels (of each class) is held out: the parameters that do best on it are kept, and its predictions give the
temperature. The new last layer starts from the logistic regression that `fewshot` fits on the layer below it, so that the net
begins by saying what that one says.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.app.classifier_file import classifier_of
from striate.app.classifying import Judged, judged
from striate.app.lessons import Lesson
from striate.app.load import Parts, TrainedModel, encoder_file, load_model, save_model
from striate.app.screen import Screen
from striate.errors import BadInput
from striate.measure.calibration import temperature
from striate.measure.fewshot import Learned
from striate.measure.folds import folds
from striate.measure.logistic import fit_logistic
from striate.models.classifier import LogisticNet, net_from_rbms
from striate.preprocess.crops import centre
from striate.train import Rates
from striate.train.backprop import BackpropLearner, BackpropSettings
from striate.train.batches import Batches, Labelled, LabelledRows, MemoryRows
from striate.train.convnet import ConvnetLearner, ConvnetSettings
from striate.train.objectives import softmax_cross_entropy
from striate.train.pictures import Crops

FOLDER = "finetuned"
LEAST = 5
_AT_ONCE = 1000
_STRENGTHS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
_EPOCHS = 30
_PATIENCE = 6
_BATCH = 50
# Of the top layer's rate, what layers below it get: they know more of pictures than few labels can tell.
_BELOW = 0.3
# Early stopping keeps the start where these are too bold. On pixel levels less the mean, as the CIFAR-10 nets were trained.
_CONVNET_RATE = 0.001
_NET_RATE = 0.02
S = TypeVar("S")


@dataclass(frozen=True)
class Tuned:
    """A network that learned on.

    Attributes:
        model: it, its last layer the classes of the lesson.
        learned: what is said of its logits: no weights of its own, a temperature, and the held-out scores.
        started, ended: error on the held-out labels before and after.
    """

    model: TrainedModel
    learned: Learned
    started: float
    ended: float


def finetune(run: Path, train: Lesson, classes: int, seed: int, screen: Screen) -> Tuned:
    """Go on learning from labels.

    Raises:
        BadInput: fewer than five labels of a class, or a model that back-propagation has no net for.
    """
    fewest = int(np.bincount(train.labels, minlength=classes)[np.unique(train.labels)].min())
    if fewest < LEAST or len(np.unique(train.labels)) < classes:
        raise BadInput(
            f"finetune holds a fifth of each class's labels out and needs {LEAST} of every class, found {fewest} of one: "
            "label more, or use --method logistic"
        )
    model = load_model(run)
    out = folds(train.labels, seed) == 0
    pictures, labels = train.store[train.positions], torch.from_numpy(train.labels)
    if model.parts.convnet is not None:
        tuned, started, ended = _convnet(model, pictures, labels, out, classes, seed, screen)
    elif model.parts.net is not None or (model.parts.rbms and model.preprocessor.settings.patch is None):
        tuned, started, ended = _net(model, pictures, labels, out, classes, seed, screen)
    else:
        raise BadInput(
            f"{run} is no net, RBM of whole pictures or convolutional net, which finetune goes on training: "
            "use --method logistic"
        )
    scores = tuned.encoder().encode(pictures[out], ["logits"])["logits"]
    heat = temperature(scores, labels[torch.from_numpy(out)])
    learned = Learned(torch.eye(classes), torch.zeros(classes), heat, None, np.flatnonzero(out), scores)
    return Tuned(tuned, learned, started, ended)


def tune_and_judge(
    run: Path, train: Lesson, test: Lesson | None, class_names: list[str], seed: int, out: Path, screen: Screen
) -> Judged:
    """A fine-tuned network, saved as a model of its own in out/finetuned, judged on other pictures or on those held out."""
    tuned = finetune(run, train, len(class_names), seed, screen)
    learned, model = tuned.learned, tuned.model
    screen.say(f"fine-tuned: error on held-out labels {100 * tuned.started:.1f}% before, {100 * tuned.ended:.1f}% after")
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, model.parts, model.preprocessor, model.image_shape, f"{run.name}-finetuned", class_names)
    scores, truth = learned.held_scores, train.labels[learned.held]
    if test is not None:
        truth, encoder = test.labels, model.encoder()
        blocks = np.array_split(test.positions, max(1, len(test) // _AT_ONCE))
        scores = torch.cat([encoder.encode(test.store[block], ["logits"])["logits"] for block in blocks])
    about = {
        "layer": "logits",
        "model": hashlib.sha256(encoder_file(folder).read_bytes()).hexdigest()[:16],
        "name": f"{run.name}-finetuned",
        "store": train.store.digest,
        "method": "finetune",
        "class_names": class_names,
        "labels": len(train),
        "seed": seed,
    }
    found = judged("finetune", learned, scores, truth, len(train))
    return replace(found, classifier=classifier_of(learned, train.labels, None, about))


def _head(features: Tensor, labels: Tensor, classes: int, out: np.ndarray) -> tuple[Tensor, Tensor]:
    """Weights and bias of the last layer, at the strength that held-out labels are likeliest with."""
    held = torch.from_numpy(out)
    fitted, best, least = None, None, float("inf")
    for l2 in _STRENGTHS:
        fitted = fit_logistic(features[~held], labels[~held], classes, l2, start=fitted, iterations=25, floor=0.2)
        loss = float(F.cross_entropy(fitted.scores(features[held]), labels[held]))
        if loss < least:
            best, least = fitted, loss
    assert best is not None
    return best.weights, best.bias


def _net(
    model: TrainedModel, pictures: np.ndarray, labels: Tensor, out: np.ndarray, classes: int, seed: int, screen: Screen
) -> tuple[TrainedModel, float, float]:
    rows = model.preprocessor.apply(pictures)
    kept = torch.from_numpy(~out)
    if model.parts.net is not None:
        net = model.parts.net
        below = net.hidden(rows)[-1] if len(net.weights) > 1 else rows / net.input_scale
        weights, bias = _head(below, labels, classes, out)
        net = LogisticNet((*net.weights[:-1], weights), (*net.biases[:-1], bias), net.input_scale)
    else:
        below = rows
        for rbm in model.parts.rbms:
            below = rbm.hidden_mean(below)
        net = net_from_rbms(model.parts.rbms, *_head(below, labels, classes, out))
    size = min(_BATCH, int(kept.sum()))
    learner = BackpropLearner(
        net.weights,
        net.biases,
        softmax_cross_entropy,
        BackpropSettings(weight_decay=1e-4, rates=(_BELOW,) * (len(net.weights) - 1) + (1.0,)),
        lambda step: Rates(_NET_RATE, 0.9),
        input_scale=net.input_scale,
        seed=seed,
    )
    batches = Batches(LabelledRows(MemoryRows(rows), labels, np.flatnonzero(~out)), size, seed)
    held = Labelled(rows[torch.from_numpy(out)], labels[torch.from_numpy(out)])

    def state() -> tuple[list[Tensor], list[Tensor]]:
        return [tensor.clone() for tensor in learner.weights], [tensor.clone() for tensor in learner.biases]

    def loss() -> tuple[float, float]:
        return _judge(learner.outputs(held.rows), held.labels)

    (weights_, biases_), started, ended = _until_worse(learner, batches, state, loss, screen)
    tuned = LogisticNet(tuple(weights_), tuple(biases_), net.input_scale)
    return replace(model, parts=Parts(net=tuned)), started, ended


def _convnet(
    model: TrainedModel, pictures: np.ndarray, labels: Tensor, out: np.ndarray, classes: int, seed: int, screen: Screen
) -> tuple[TrainedModel, float, float]:
    kept = torch.from_numpy(~out)
    start = model.parts.convnet
    assert start is not None
    spec = start.spec
    last = spec.learned[-1]
    encoder = model.encoder()
    seen = encoder.encode(pictures, ["pixels"])["pixels"].view(-1, *spec.input)
    before = spec.layers[[layer.name for layer in spec.layers].index(last.name) - 1].name
    with torch.no_grad():
        below = start.build().activities(seen, (before,))[before].flatten(1)
    weights, bias = _head(below, labels, classes, out)
    key = last.key or last.name
    state = {name: tensor.clone() for name, tensor in start.state.items()}
    state |= {f"{key}.weight": weights, f"{key}.bias": bias}
    start = replace(start, classes=classes, state=state)
    net = start.build()
    size = min(_BATCH, int(kept.sum()))
    crop = spec.input[1]
    learner = ConvnetLearner(
        net,
        torch.from_numpy(np.ascontiguousarray(centre(model.preprocessor.mean.numpy(), crop))),
        ConvnetSettings(
            steps_per_epoch=max(1, int(kept.sum()) // size),
            rates={layer.name: _BELOW for layer in spec.learned[:-1]},
            divide=start.divide,
        ),
        lambda step: Rates(_CONVNET_RATE, 0.9),
        seed=seed,
    )
    pixels = torch.from_numpy(np.ascontiguousarray(centre(pictures, crop)))
    crops = Crops(pixels, torch.zeros(len(pixels), pixels.shape[1]), labels)
    batches = Batches(_TakenCrops(crops, np.flatnonzero(~out)), size, seed)
    held = torch.from_numpy(out)

    def state_now() -> dict[str, Tensor]:
        return {name: tensor.detach().clone().contiguous() for name, tensor in learner.parameters().items()}

    def loss() -> tuple[float, float]:
        with torch.no_grad():
            return _judge(torch.cat([net(rows) for rows in seen[held].split(500)]), labels[held])

    best, started, ended = _until_worse(learner, batches, state_now, loss, screen)
    return replace(model, parts=Parts(convnet=replace(start, state=best))), started, ended


@dataclass(frozen=True)
class _TakenCrops:
    """Whole crops in memory, by position among those learned from."""

    crops: Crops
    positions: np.ndarray
    in_memory = True

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, positions: np.ndarray, epoch: int = 0) -> Crops:
        chosen = torch.from_numpy(self.positions[positions])
        return Crops(*(part[chosen] for part in self.crops))


def _judge(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Cross-entropy and error of held-out labels."""
    return float(F.cross_entropy(scores, labels)), float((scores.argmax(dim=1) != labels).float().mean())


def _until_worse(
    learner: Any, batches: Batches[Any], state: Callable[[], S], judge: Callable[[], tuple[float, float]], screen: Screen
) -> tuple[S, float, float]:
    """Train until held-out loss has not fallen for some epochs; what did best, and its error before and after."""
    least, first = judge()
    best, error, since = state(), first, 0
    steps = batches.starting_at(0)
    with screen.progress("fine-tuning", _EPOCHS, "epochs") as task:
        for _ in range(_EPOCHS):
            for batch in itertools.islice(steps, batches.steps_per_epoch):
                learner.step(batch)
            loss, wrong = judge()
            task.advance(1, held_out=f"{loss:.3f}")
            if loss < least:
                least, error, best, since = loss, wrong, state(), 0
            else:
                since += 1
                if since == _PATIENCE:
                    break
    return best, first, error
