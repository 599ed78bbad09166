"""One unit looked at closely: what it does not mind, what it wants, and the page that shows both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.app.load import TrainedModel
from striate.app.looking import sample_of_run
from striate.app.neuron_page import Wishes, write_page
from striate.app.probing import encode_all, labelled
from striate.app.screen import Screen
from striate.app.sides import Sides
from striate.errors import BadInput
from striate.images import ImageStore
from striate.measure.concept import Concept
from striate.measure.invariance import Curve, by_pose, invariance
from striate.measure.stimulus import Spectrum, natural_stimulus, optimal_stimulus
from striate.models.encoder import Encoder
from striate.models.sparse.trained import flat

# The paper averages over 10 faces; more make bands worth drawing.
_FOLLOWED = 40
# Training pictures that it may answer to; of those that it answers to most, as many are averaged to start from.
_SEEN, _AVERAGED = 6000, 48


@dataclass(frozen=True)
class Found:
    """One layer's best unit.

    Attributes:
        layer: its name.
        concept: what its best unit knows; None where no unit varies.
        answers: of the best unit, (pictures,).
    """

    layer: str
    concept: Concept | None
    answers: Tensor


def poses_of(store: ImageStore, shape: tuple[int, int, int]) -> tuple[np.ndarray, Tensor]:
    """Labelled pictures of poses: uint8 (n, c, h, w), and degrees (classes named by numbers) or the labels themselves, (n,).

    Raises:
        BadInput: pictures of another shape, or of fewer than two poses.
    """
    pictures, labels = labelled(store)
    if pictures.shape[1:] != shape:
        raise BadInput(f"{store.path} holds pictures {pictures.shape[1:]}, this model takes {shape}: import them at that size")
    try:
        degrees = [float(name) for name in store.class_names]
    except ValueError:
        degrees = []
    poses = torch.tensor([degrees[label] if label < len(degrees) else float(label) for label in labels])
    if len(poses.unique()) < 2:
        raise BadInput(f"{store.path} holds one pose: import one folder a pose, named by degrees")
    return pictures, poses


def look(
    run: Path,
    model: TrainedModel,
    encoder: Encoder,
    chosen: Found,
    sides: Sides,
    result: dict[str, Any],
    poses: tuple[np.ndarray, Tensor] | None,
    screen: Screen,
    seed: int,
) -> None:
    """The best unit's curves, wishes and page; what was found goes into `result`."""
    concept = chosen.concept
    assert concept is not None
    curves = _curves(encoder, chosen, sides)
    if poses is not None:
        answers = encode_all(encoder, poses[0], chosen.layer, screen)[:, concept.unit].float()
        curves["the unit"]["pose"] = by_pose(answers, poses[1], float(chosen.answers[~sides.positive].mean()))
    result["invariance"] = {kind: {"at": list(one.at), "mean": list(one.mean)} for kind, one in curves["the unit"].items()}
    wishes = _stimuli(run, model, encoder, chosen, sides, screen, seed)
    if wishes is not None:
        result["stimulus"] = {
            "answer": wishes.optimal.answer,
            "starts": list(wishes.optimal.answers),
            "natural": wishes.natural.answer,
            "test_most": float(chosen.answers.max()),
        }
    result["report"] = str(write_page(run, model, sides.pictures, sides.positive, chosen.answers, result, curves, wishes))


def _curves(encoder: Encoder, chosen: Found, sides: Sides) -> dict[str, dict[str, Curve]]:
    """The unit's curves over concept pictures it likes, and those of the pixels: likeness to the picture untransformed."""
    assert chosen.concept is not None
    unit = chosen.concept.unit
    liked = torch.where(sides.positive, chosen.answers, -torch.inf).argsort(descending=True)
    followed = sides.pictures[liked[: min(_FOLLOWED, int(sides.positive.sum()))].numpy()]
    plain = encoder.encode(followed, ["pixels"])["pixels"]

    def answer(pictures: np.ndarray) -> Tensor:
        return encoder.encode(pictures, [chosen.layer])[chosen.layer][:, unit]

    def likeness(pictures: np.ndarray) -> Tensor:
        return torch.cosine_similarity(encoder.encode(pictures, ["pixels"])["pixels"], plain)

    others = float(chosen.answers[~sides.positive].mean())
    return {"the unit": invariance(answer, followed, others), "the pixels": invariance(likeness, followed)}


def _stimuli(
    run: Path, model: TrainedModel, encoder: Encoder, chosen: Found, sides: Sides, screen: Screen, seed: int
) -> Wishes | None:
    """Of models that can be climbed: networks of stages, on the sphere of preprocessed pictures' mean norm."""
    trained = model.parts.sparse
    assert chosen.concept is not None
    if trained is None or chosen.layer == "logits":
        return None
    net, unit = trained.build(), chosen.concept.unit
    some = model.preprocessor.apply(sides.pictures[:: max(1, len(sides.pictures) // 500)])
    norm = float(some.norm(dim=1).mean())

    def respond(rows: Tensor) -> Tensor:
        return flat(net.activities(rows, [chosen.layer])[chosen.layer])[:, unit]

    # What it answers to most of pictures it learned from, which nobody sorted.
    seen = sample_of_run(run, _SEEN)
    seen = sides.pictures if seen is None else seen
    liked = encode_all(encoder, seen, chosen.layer, screen)[:, unit].argsort(descending=True)[:_AVERAGED]
    return Wishes(
        optimal_stimulus(respond, model.preprocessor.dim, norm, seed=seed),
        natural_stimulus(
            respond, model.preprocessor.apply(seen[liked.numpy()]).mean(dim=0), norm, Spectrum.of(some, model.image_shape)
        ),
    )
