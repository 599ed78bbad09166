"""The network itself goes on learning from few labels, no further than held-out labels follow.

The new last layer starts from a logistic regression on the layer below it, so that the net begins by saying what that one says
(Kumar and others 2022); then all layers learn, on shifted and mirrored pictures. Of the way from that start to the end, the
share is kept with which held-out labels are likeliest (Wortsman and others 2022): none of it where training does not help. That
is found out on folds of the labels; the net that is kept learns from all of them, for the same number of passes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.app.classifier_file import classifier_of
from striate.app.classifying import Judged, judged
from striate.app.lessons import Lesson
from striate.app.load import TrainedModel, encoder_file, load_model, save_model
from striate.app.screen import Screen, Task
from striate.app.tunable import State, Taught, Tunable, TunableConvnet, TunableNet
from striate.errors import BadInput
from striate.measure.calibration import temperature
from striate.measure.fewshot import Learned, learn_logistic, scale_of
from striate.measure.folds import FOLDS, folds

FOLDER = "finetuned"
LEAST = 5
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_AT_ONCE = 1000
# Folds are tried until so many labels were held out.
_HELD_OUT = 1000
# Pictures are mirrored in training if the start names so much of what it names rightly as they are rightly when mirrored, too.
_MIRRORED = 0.8


@dataclass(frozen=True)
class Tuned:
    """A network that learned on.

    Attributes:
        model: it, its last layer the classes of the lesson.
        learned: what is said of its logits: no weights of its own, a temperature, and the held-out scores.
        share: of the way from the start to the end of training that was kept; 0 where training did not help.
        mirrored: whether it learned from mirrored pictures, too.
        started, ended: error on the held-out labels before training, and of what was kept.
    """

    model: TrainedModel
    learned: Learned
    share: float
    mirrored: bool
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
    net = tunable(run, classes)
    pictures, labels = train.store[train.positions], torch.from_numpy(train.labels)
    tried = min(FOLDS, -(-_HELD_OUT * FOLDS // len(labels)))
    with screen.progress("fine-tuning", tried + 1, "trainings") as task:
        held, scores, mirror = _tried(net, pictures, labels, folds(train.labels, seed), tried, seed, task)
        best = _likeliest(scores, labels[held])
        state = start = _start(net, pictures, labels, seed)
        if SHARES[best]:
            state = between(start, net.learned(start, Taught(pictures, labels, mirror, seed)), SHARES[best])
            if not is_likelier(net.model(state), net.model(start), pictures, labels):
                state, best = start, 0
        task.advance(1)
    heat = temperature(scores[best], labels[held])
    learned = Learned(torch.eye(classes), torch.zeros(classes), heat, None, held, scores[best])
    started, ended = (float((scores[at].argmax(dim=1) != labels[held]).float().mean()) for at in (0, best))
    return Tuned(net.model(state), learned, SHARES[best], mirror, started, ended)


def _tried(
    net: Tunable, pictures: np.ndarray, labels: Tensor, fold: np.ndarray, tried: int, seed: int, task: Task
) -> tuple[np.ndarray, Tensor, bool]:
    """Which pictures (m,) the first folds hold out, what is said of them at every share, and whether mirrors are allowed."""
    starts = [_start(net, pictures[fold != number], labels[fold != number], seed) for number in range(tried)]
    mirror = _may_mirror(net, starts, pictures, labels, fold)
    scores: list[Tensor] = []
    for number, start in enumerate(starts):
        kept, out = fold != number, fold == number
        end = net.learned(start, Taught(pictures[kept], labels[kept], mirror, seed))
        scores.append(torch.stack([logits(net.model(between(start, end, share)), pictures[out]) for share in SHARES]))
        task.advance(1)
    held = np.concatenate([np.flatnonzero(fold == number) for number in range(tried)])
    order = np.argsort(held)
    return held[order], torch.cat(scores, dim=1)[:, order], mirror


def tunable(run: Path, classes: int) -> Tunable:
    """A run's net with a new last layer.

    Raises:
        BadInput: back-propagation has no net for it.
    """
    model = load_model(run)
    if model.parts.convnet is not None:
        return TunableConvnet(model, classes)
    if model.parts.net is not None or (model.parts.rbms and model.preprocessor.settings.patch is None):
        return TunableNet(model, classes)
    raise BadInput(
        f"{run} is no net, RBM of whole pictures or convolutional net, which finetune goes on training: use --method logistic"
    )


def between(start: State, end: State, share: float) -> State:
    """Parameters so far along the straight way from a start (0) to an end (1)."""
    return {name: torch.lerp(tensor, end[name], share) for name, tensor in start.items()}


def is_likelier(ended: TrainedModel, started: TrainedModel, pictures: np.ndarray, labels: Tensor) -> bool:
    """Whether training made the very labels it learned from likelier: where it diverged it did not, whatever the folds said."""
    after, before = (float(F.cross_entropy(logits(model, pictures), labels)) for model in (ended, started))
    return after < before


def logits(model: TrainedModel, pictures: np.ndarray) -> Tensor:
    """What a net says of pictures, (n, classes)."""
    encoder = model.encoder()
    blocks = np.array_split(pictures, max(1, len(pictures) // _AT_ONCE))
    return torch.cat([encoder.encode(block, ["logits"])["logits"] for block in blocks])


def _start(net: Tunable, pictures: np.ndarray, labels: Tensor, seed: int) -> State:
    """The net with a logistic regression on the layer below the last."""
    below = net.below(pictures)
    scale = scale_of([below.numpy()])
    # Rows keep their lengths: the net has no layer that would scale them.
    learned = learn_logistic((below - scale.mean) / scale.deviation, labels.numpy(), int(labels.max()) + 1, seed)
    weights = learned.weights / scale.deviation
    return net.started(weights, learned.bias - weights @ scale.mean)


def _may_mirror(net: Tunable, starts: list[State], pictures: np.ndarray, labels: Tensor, fold: np.ndarray) -> bool:
    """Whether mirrored pictures are of the same class, as far as held-out ones tell: a d is no b."""
    plain = mirrored = 0
    for number, start in enumerate(starts):
        out, model = fold == number, net.model(start)
        flipped = np.ascontiguousarray(pictures[out][..., ::-1])
        plain += int((logits(model, pictures[out]).argmax(dim=1) == labels[out]).sum())
        mirrored += int((logits(model, flipped).argmax(dim=1) == labels[out]).sum())
    return mirrored >= _MIRRORED * plain


def _likeliest(scores: Tensor, labels: Tensor) -> int:
    """Of scores (m, n, classes), the number of those that labels are likeliest with, each at its own temperature.

    The first ones, unless others are better by more than a standard error of the difference: what is in doubt is left alone.
    """
    losses = torch.stack([F.cross_entropy(own / temperature(own, labels), labels, reduction="none") for own in scores])
    best = int(losses.mean(dim=1).argmin())
    gain = losses[0] - losses[best]
    return best if float(gain.mean()) > float(gain.std()) / len(gain) ** 0.5 else 0


def tune_and_judge(
    run: Path, train: Lesson, test: Lesson | None, class_names: list[str], seed: int, out: Path, screen: Screen
) -> Judged:
    """A fine-tuned network, saved as a model of its own in out/finetuned, judged on other pictures or on those held out."""
    tuned = finetune(run, train, len(class_names), seed, screen)
    learned, model = tuned.learned, tuned.model
    screen.say(_verdict(tuned))
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, model.parts, model.preprocessor, model.image_shape, f"{run.name}-finetuned", class_names)
    scores, truth = learned.held_scores, train.labels[learned.held]
    if test is not None:
        truth = test.labels
        blocks = np.array_split(test.positions, max(1, len(test) // _AT_ONCE))
        scores = torch.cat([logits(model, test.store[block]) for block in blocks])
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


def _verdict(tuned: Tuned) -> str:
    """What came of it, in a line."""
    if tuned.share == 0:
        return (
            f"fine-tuning made held-out labels no likelier (error {100 * tuned.started:.1f}%): "
            "the net is kept as it was, with a logistic regression as its last layer"
        )
    seen = "shifted and mirrored" if tuned.mirrored else "shifted, not mirrored"
    return (
        f"fine-tuned on {seen} pictures, {100 * tuned.share:.0f}% of the way kept: "
        f"error on held-out labels {100 * tuned.started:.1f}% before, {100 * tuned.ended:.1f}% after"
    )
