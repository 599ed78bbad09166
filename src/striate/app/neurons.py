"""Concept neurons: which unit of a run tells pictures of a concept from others, how well, and what it answers to."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from striate.app.load import TrainedModel, load_model
from striate.app.looking import sample_pictures_of
from striate.app.probing import encode_all
from striate.app.screen import Screen
from striate.draws import Draws
from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.treatment import Treatment, treat_all
from striate.measure.concept import Concept, curve, judge_concept, score_units
from striate.measure.invariance import Curve, invariance
from striate.measure.nuisance import nuisance_accuracies
from striate.measure.stimulus import Stimulus, optimal_stimulus
from striate.models.encoder import Encoder
from striate.models.sparse import SparseNet
from striate.models.sparse.trained import TrainedSparseNet, flat, sparse_encoder
from striate.show import Figure, Report, Section, Table, contact_sheet, png_bytes, render
from striate.show import figures as draw
from striate.train.checkpoint import write_text

_TOP = 48
# The paper averages over 10 faces; more make bands worth drawing.
_FOLLOWED = 40
# Training pictures that stand as templates.
_TEMPLATES = 6000


@dataclass(frozen=True)
class Sides:
    """Pictures of a concept and others, treated or as they are.

    Attributes:
        pictures: uint8 (n, c, h, w), those of the concept first.
        positive: bool (n,).
        treated: whether both were treated alike.
    """

    pictures: np.ndarray
    positive: Tensor
    treated: bool


def two_sides(
    positives: ImageStore, negatives: ImageStore, shape: tuple[int, int, int], treat: bool, limit: int | None, seed: int = 0
) -> Sides:
    """Read both stores, as a model of pictures of a shape wants them.

    Raises:
        BadInput: pictures of another shape.
    """
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
    return Sides(np.concatenate(parts), positive, treat)


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


def neurons(run: Path, sides: Sides, screen: Screen, layer: str | None = None, seed: int = 0) -> dict[str, Any]:
    """Judge every layer's units, then look closely at the best unit of one; neurons.json, figures and a page go into the run.

    Args:
        run: a run directory.
        sides: pictures.
        screen: where to speak.
        layer: whose best unit is looked at; by default the highest layer.
        seed: of halves, permutations and random filters.

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
    screen.say(f"unit {concept.unit} of {chosen.layer}: {_share(concept.accuracy)}; measuring what it is to be held against")
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
        "random_filters": round(baselines["random filters"], 4),
        "linear_template": round(baselines["best template"], 4),
        "nuisances": {name: round(value, 4) for name, value in nuisance_accuracies(sides.pictures, sides.positive).items()},
        "layers": {name: None if one.concept is None else asdict(one.concept) for name, one in found.items()},
    }
    if "random network" in baselines:
        result["random_network"] = round(baselines["random network"], 4)
    curves = _curves(encoder, chosen, sides)
    result["invariance"] = {kind: {"at": list(one.at), "mean": list(one.mean)} for kind, one in curves["the unit"].items()}
    stimulus = _stimulus(model, chosen, sides, seed)
    if stimulus is not None:
        result["stimulus"] = {
            "answer": stimulus.answer,
            "starts": list(stimulus.answers),
            "test_most": float(chosen.answers.max()),
        }
    result["report"] = str(_write(run, model, chosen, sides, result, curves, stimulus))
    write_text(run / "neurons.json", json.dumps(result))
    return result


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
    templates = sample_pictures_of(run, model, _TEMPLATES)
    if templates is None:
        screen.warn(f"the pictures that {run} was trained on are gone: templates are taken from the distractors")
        templates = sides.pictures[(~sides.positive).numpy()][:_TEMPLATES]
    patterns = encode_all(encoder, templates, "pixels", screen).float()
    patterns = patterns / patterns.norm(dim=1, keepdim=True).clamp_min(1e-12)
    found["best template"] = float(score_units(rows @ patterns.t(), sides.positive).accuracy.max())
    if model.parts.sparse is not None:
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


def _stimulus(model: TrainedModel, chosen: Found, sides: Sides, seed: int) -> Stimulus | None:
    """Of models that can be climbed: networks of stages, on the sphere of preprocessed pictures' mean norm."""
    trained = model.parts.sparse
    assert chosen.concept is not None
    if trained is None:
        return None
    net, unit = trained.build(), chosen.concept.unit
    norm = float(model.preprocessor.apply(sides.pictures[:500]).norm(dim=1).mean())

    def respond(rows: Tensor) -> Tensor:
        return flat(net.activities(rows, [chosen.layer])[chosen.layer])[:, unit]

    return optimal_stimulus(respond, model.preprocessor.dim, norm, seed=seed)


def _write(
    run: Path,
    model: TrainedModel,
    chosen: Found,
    sides: Sides,
    result: dict[str, Any],
    curves: dict[str, dict[str, Curve]],
    stimulus: Stimulus | None,
) -> Path:
    figures = run / "figures"
    figures.mkdir(exist_ok=True)
    inside, outside = (chosen.answers[side].numpy() for side in (sides.positive, ~sides.positive))
    top = chosen.answers.argsort(descending=True)[:_TOP].numpy()
    drawn = {
        "neuron-histogram": draw.two_histograms(inside, outside, ("the concept", "others"), result["threshold"], "activity"),
        "neuron-roc": draw.roc(*curve(chosen.answers, sides.positive)),
        "neuron-top": png_bytes(contact_sheet(sides.pictures[top], 12)),
    }
    for kind in curves["the unit"]:
        lines = {name: (one[kind].at, one[kind].mean, one[kind].low, one[kind].high) for name, one in curves.items()}
        drawn[f"neuron-{kind.replace(' ', '-')}"] = draw.banded(lines, kind, "answer, of the picture as it is")
    if stimulus is not None:
        drawn["neuron-stimulus"] = png_bytes(contact_sheet(_as_pictures(model, [stimulus.row]), 1))
        (figures / "neuron-stimulus.gif").write_bytes(_animation(_as_pictures(model, stimulus.frames)))
    for name, data in drawn.items():
        (figures / f"{name}.png").write_bytes(data)
    page = run / "neurons.html"
    write_text(page, render(_report(model, result, drawn)))
    return page


def _as_pictures(model: TrainedModel, rows: Sequence[Tensor]) -> np.ndarray:
    """Rows as pictures uint8 (n, c, h, w), each over its own range: a unit's wish has no levels of its own."""
    pictures = model.preprocessor.invert(torch.stack(list(rows)))
    low, high = pictures.flatten(1).amin(dim=1), pictures.flatten(1).amax(dim=1)
    spread = (high - low).clamp_min(1e-12)
    return ((pictures - low[:, None, None, None]) / spread[:, None, None, None] * 255).round().byte().numpy()


def _animation(frames: np.ndarray) -> bytes:
    """A GIF of pictures, four times as large; the last one stays."""
    shown = [Image.fromarray(frame[0] if len(frame) == 1 else frame.transpose(1, 2, 0)) for frame in frames]
    large = [one.resize((4 * one.width, 4 * one.height), Image.Resampling.NEAREST) for one in shown]
    buffer = io.BytesIO()
    large[0].save(buffer, "GIF", save_all=True, append_images=large[1:], duration=[60] * (len(large) - 1) + [1500], loop=0)
    return buffer.getvalue()


def _report(model: TrainedModel, result: dict[str, Any], drawn: dict[str, bytes]) -> Report:
    against = [
        ("everything called the larger side", result["chance"]),
        ("the best unit of as many for permuted labels", result["luck"]),
        ("the best of as many random filters", result["random_filters"]),
        *([("the same network with random filters", result["random_network"])] if "random_network" in result else []),
        (f"the best of {_TEMPLATES:,} training pictures as templates", result["linear_template"]),
        *((f"{name} alone", value) for name, value in result["nuisances"].items()),
        *((f"the best unit of {name}", one["accuracy"]) for name, one in result["layers"].items() if one is not None),
    ]
    treated = (
        "Every picture of both sides was treated alike: grey, shifted, scaled, blurred, JPEG, same brightness and contrast."
        if result["treated"]
        else "Pictures are as they came: what tells their files apart (see colour and sharpness) may be what the unit found."
    )
    count = f"{result['positives']:,} pictures of the concept, {result['negatives']:,} others."
    protocol = (
        f"Unit {result['best_unit']} of {result['layer']}, best of {result['units']:,}, {result['silent']:,} of them silent. "
        f"{_share(result['accuracy'])} where unit and threshold are chosen on the pictures they are judged by: 20 thresholds, "
        f"the paper's protocol. {_share(result['held_out'])} +- {100 * result['held_out_error']:.1f} where they are chosen on "
        f"one half and judged on the other. Area under the curve {result['auc']:.3f}, average precision "
        f"{result['average_precision']:.3f}. {count} {treated}"
    )
    sections = [
        Section(
            "How well",
            protocol,
            [
                Figure("Activities of the unit; the line is the threshold.", drawn["neuron-histogram"]),
                Figure("True against false positives.", drawn["neuron-roc"]),
            ],
            [Table(["held against", "accuracy"], [[name, _share(value)] for name, value in against])],
        ),
        Section(
            "What it answers to", "", [Figure(f"Its {_TOP} top pictures.", drawn["neuron-top"], pixelated=True, wide=True)]
        ),
    ]
    if "neuron-stimulus" in drawn:
        said = result["stimulus"]
        ends = ", ".join(f"{value:.3g}" for value in said["starts"])
        text = (
            "By gradient ascent from random pictures, on the sphere of preprocessed pictures' mean norm: the unit answers "
            f"{said['answer']:.3g}; the most any test picture gets is {said['test_most']:.3g}. Starts ended at {ends}. "
            "The way there: figures/neuron-stimulus.gif."
        )
        sections.append(
            Section("What it wants", text, [Figure("Its optimal stimulus.", drawn["neuron-stimulus"], pixelated=True)])
        )
    kinds = [name for name in drawn if name.removeprefix("neuron-") in ("shift-right", "shift-down", "scale", "turn")]
    text = "Means over concept pictures that the unit likes, with quartiles; 1: its answer to them as they are; 0: to others."
    sections.append(Section("Invariance", text, [Figure(name.removeprefix("neuron-"), drawn[name]) for name in kinds]))
    headline = [(_share(result["held_out"]), "told apart, held out"), (_share(result["chance"]), "by chance")]
    return Report(f"A neuron of {model.description['name']}", count, headline, sections)


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"
