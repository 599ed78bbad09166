"""Concept neurons: which unit of a run tells pictures of a concept from others, how well, and what it answers to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.app.load import TrainedModel, load_model
from striate.app.looking import sample_of_run
from striate.app.neuron_page import Wishes, write_page
from striate.app.probing import encode_all, labelled
from striate.app.screen import Screen
from striate.draws import Draws
from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.treatment import Treatment, treat_all
from striate.measure.concept import Concept, judge_concept, score_units
from striate.measure.invariance import Curve, by_pose, invariance
from striate.measure.nuisance import nuisance_accuracies
from striate.measure.stimulus import Spectrum, natural_stimulus, optimal_stimulus
from striate.models.encoder import Encoder
from striate.models.sparse import SparseNet
from striate.models.sparse.trained import TrainedSparseNet, flat, sparse_encoder
from striate.train.checkpoint import write_text

# The paper averages over 10 faces; more make bands worth drawing.
_FOLLOWED = 40
# Training pictures that stand as templates.
_TEMPLATES = 6000
# Of those that a unit answers to most, as many as are averaged to start from.
_AVERAGED = 48


@dataclass(frozen=True)
class Sides:
    """Pictures of a concept and others, treated or as they are.

    Attributes:
        pictures: uint8 (n, c, h, w), those of the concept first.
        positive: bool (n,).
        treated: whether both were treated alike.
        digest: of the stores they are from.
    """

    pictures: np.ndarray
    positive: Tensor
    treated: bool
    digest: str


def two_sides(
    positives: ImageStore, negatives: ImageStore, shape: tuple[int, int, int], treat: bool, limit: int | None, seed: int = 0
) -> Sides:
    """Read both stores, as a model of pictures of a shape wants them.

    Raises:
        BadInput: pictures of another shape.
    """
    if limit is not None and limit < 1:
        raise BadInput(f"--limit must be at least 1, found {limit}")
    parts = [store[: min(len(store), limit or len(store))] for store in (positives, negatives)]
    if treat:
        if shape[1] != shape[2]:
            raise BadInput(f"--treat makes square pictures, this model takes {shape[1]}x{shape[2]}")
        treatment, numbered = Treatment(size=shape[1], seed=seed), 0
        for side, part in enumerate(parts):
            parts[side] = np.repeat(treat_all(part, treatment, numbered), shape[0], axis=1)
            numbered += len(part)
    for store, part in zip((positives, negatives), parts):
        if part.shape[1:] != shape:
            raise BadInput(
                f"{store.path} holds pictures {part.shape[1:]}, this model takes {shape}: import them at that size "
                "(--size, --mode), or let --treat make them alike"
            )
    positive = torch.arange(sum(map(len, parts))) < len(parts[0])
    return Sides(np.concatenate(parts), positive, treat, sides_digest(positives, negatives))


def sides_digest(positives: ImageStore, negatives: ImageStore) -> str:
    """Names the pictures of both sides."""
    return f"{positives.digest[:16]}-{negatives.digest[:16]}"


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


def neurons(
    run: Path,
    sides: Sides,
    screen: Screen,
    layer: str | None = None,
    seed: int = 0,
    poses: tuple[np.ndarray, Tensor] | None = None,
    closely: bool = True,
) -> dict[str, Any]:
    """Judge every layer's units, then look closely at the best unit of one; neurons.json, figures and a page go into the run.

    Args:
        run: a run directory.
        sides: pictures.
        screen: where to speak.
        layer: whose best unit is looked at; by default the highest layer.
        seed: of halves, permutations and random filters.
        closely: follow the best unit over shifts, scales and turns, climb to what it wants, and write the page.
        poses: pictures that show the concept turned out of the plane, and by how much.

    Returns:
        What `striate neurons --json` prints.

    Raises:
        BadInput: too few pictures, no such layer, or no unit that varies.
    """
    model = load_model(run)
    encoder = model.encoder(model.image_shape)
    judged = _judged_layers(encoder, layer)
    found = {name: _judge(encoder, name, sides, screen, seed) for name in judged}
    chosen = found[layer or judged[-1]]
    concept = chosen.concept
    if concept is None:
        raise BadInput(f"no unit of {chosen.layer} ever varies over these pictures: nothing can be measured")
    found_so_far = f"unit {concept.unit} of {chosen.layer}: {100 * concept.accuracy:.1f}%"
    screen.say(f"{found_so_far}; measuring what it is to be held against")
    baselines = _baselines(run, model, encoder, chosen, sides, screen, seed)
    result: dict[str, Any] = {
        "run": str(run),
        "layer": chosen.layer,
        "best_unit": concept.unit,
        "accuracy": round(concept.accuracy, 4),
        "chance": round(concept.chance, 4),
        "held_out": round(concept.held_out, 4),
        "held_out_error": round(concept.held_out_error, 4),
        "luck": round(concept.luck, 4),
        "auc": round(concept.auc, 4),
        "average_precision": round(concept.average_precision, 4),
        "threshold": concept.threshold,
        "units": concept.units,
        "silent": concept.silent,
        "positives": concept.pictures[0],
        "negatives": concept.pictures[1],
        "treated": sides.treated,
        "pictures": sides.digest,
        "random_filters": round(baselines["random filters"], 4),
        "linear_template": round(baselines["best template"], 4),
        "nuisances": {name: round(value, 4) for name, value in nuisance_accuracies(sides.pictures, sides.positive).items()},
        "layers": {name: None if one.concept is None else asdict(one.concept) for name, one in found.items()},
    }
    if "random network" in baselines:
        result["random_network"] = round(baselines["random network"], 4)
    if closely:
        _look(run, model, encoder, chosen, sides, result, poses, screen, seed)
    write_text(run / "neurons.json", json.dumps(result))
    return result


def _look(
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


def _judged_layers(encoder: Encoder, layer: str | None) -> list[str]:
    if layer is not None and layer not in encoder.layers:
        raise BadInput(f"no layer {layer!r}: this model has {', '.join(encoder.layers)}")
    # A stage's filters are linear and pooled at once: what it tells the next one is judged.
    names = [name for name in encoder.layers if name != "pixels" and not name.startswith("filter")]
    return [*names, *([layer] if layer is not None and layer not in names else [])]


def _judge(encoder: Encoder, name: str, sides: Sides, screen: Screen, seed: int) -> Found:
    activities = encode_all(encoder, sides.pictures, name, screen)
    concept = judge_concept(activities, sides.positive, seed)
    return Found(name, concept, activities[:, concept.unit].float() if concept is not None else torch.zeros(len(activities)))


def _baselines(
    run: Path, model: TrainedModel, encoder: Encoder, chosen: Found, sides: Sides, screen: Screen, seed: int
) -> dict[str, float]:
    rows = encode_all(encoder, sides.pictures, "pixels", screen).float()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    count = encoder.dims[chosen.layer]
    random = Draws(seed, purpose="neurons/").normal("filters", (count, rows.shape[1]))
    found = {"random filters": float(score_units(rows @ random.t(), sides.positive).accuracy.max())}
    templates = sample_of_run(run, _TEMPLATES)
    if templates is None:
        screen.warn(f"the pictures that {run} was trained on are gone: templates are taken from the distractors")
        templates = sides.pictures[(~sides.positive).numpy()][:_TEMPLATES]
    patterns = encode_all(encoder, templates, "pixels", screen).float()
    patterns = patterns / patterns.norm(dim=1, keepdim=True).clamp_min(1e-12)
    found["best template"] = float(score_units(rows @ patterns.t(), sides.positive).accuracy.max())
    if model.parts.sparse is not None and chosen.layer != "logits":
        random_encoder = sparse_encoder(model.preprocessor, _random(model.parts.sparse, seed))
        activities = encode_all(random_encoder, sides.pictures, chosen.layer, screen)
        found["random network"] = float(score_units(activities, sides.positive).accuracy.max())
    return found


def _random(trained: TrainedSparseNet, seed: int) -> TrainedSparseNet:
    net = SparseNet(trained.spec, trained.tied_decoder, trained.pool_floor).start(Draws(seed, purpose="neurons/net/"))
    return TrainedSparseNet(trained.spec, net.state(), trained.tied_decoder, trained.pool_floor)


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
    seen = sample_of_run(run, _TEMPLATES)
    seen = sides.pictures if seen is None else seen
    liked = encode_all(encoder, seen, chosen.layer, screen)[:, unit].argsort(descending=True)[:_AVERAGED]
    return Wishes(
        optimal_stimulus(respond, model.preprocessor.dim, norm, seed=seed),
        natural_stimulus(
            respond, model.preprocessor.apply(seen[liked.numpy()]).mean(dim=0), norm, Spectrum.of(some, model.image_shape)
        ),
    )
