"""The page of a concept neuron: histogram, curve, top pictures, optimal stimulus, invariances."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from striate.app.load import TrainedModel
from striate.measure.concept import curve
from striate.measure.invariance import Curve
from striate.measure.stimulus import Stimulus
from striate.show import Figure, Report, Section, Table, contact_sheet, png_bytes, render
from striate.show import figures as draw
from striate.train.checkpoint import write_text


@dataclass(frozen=True)
class Wishes:
    """What a unit wants.

    Attributes:
        optimal: of all pictures of a norm: the paper's.
        natural: of those whose spectrum is that of pictures.
    """

    optimal: Stimulus
    natural: Stimulus


# As many as the paper shows.
_TOP = 48
# Moments of the ascent.
_SHOWN = 8


def write_page(
    run: Path,
    model: TrainedModel,
    pictures: np.ndarray,
    positive: Tensor,
    answers: Tensor,
    result: dict[str, Any],
    curves: Mapping[str, Mapping[str, Curve]],
    wishes: Wishes | None,
) -> Path:
    """Draw what was measured into a run's figures/ and neurons.html.

    Args:
        run: the run directory.
        model: its model.
        pictures: that were judged, uint8 (n, c, h, w).
        positive: which show the concept, bool (n,).
        answers: of the unit, (n,).
        result: as `striate neurons --json` prints it.
        curves: by what answers (the unit, the pixels) and by transformation.
        wishes: what the unit wants, where it can be climbed to.

    Returns:
        The page.
    """
    figures = run / "figures"
    figures.mkdir(exist_ok=True)
    inside, outside = (answers[side].numpy() for side in (positive, ~positive))
    top = answers.argsort(descending=True)[:_TOP].numpy()
    drawn = {
        "neuron-histogram": draw.two_histograms(inside, outside, ("the concept", "others"), result["threshold"], "activity"),
        "neuron-roc": draw.roc(*curve(answers, positive)),
        "neuron-top": png_bytes(contact_sheet(pictures[top], 12)),
    }
    for kind in curves["the unit"]:
        there = {name: one[kind] for name, one in curves.items() if kind in one}
        lines = {name: (one.at, one.mean, one.low, one.high) for name, one in there.items()}
        drawn[f"neuron-{kind.replace(' ', '-')}"] = draw.banded(lines, kind, "answer, of the picture as it is")
    if wishes is not None:
        for name, way in (("stimulus", wishes.optimal.frames), ("natural-stimulus", wishes.natural.frames)):
            drawn[f"neuron-{name}"] = png_bytes(contact_sheet(_as_pictures(model, _some(way)), _SHOWN))
            (figures / f"neuron-{name}.gif").write_bytes(_animation(_as_pictures(model, way)))
    for name, data in drawn.items():
        (figures / f"{name}.png").write_bytes(data)
    page = run / "neurons.html"
    write_text(page, render(_report(model, result, drawn)))
    return page


def _some(frames: Sequence[Tensor]) -> list[Tensor]:
    return [frames[round(at)] for at in np.linspace(0, len(frames) - 1, _SHOWN)]


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
        ("the best of some thousand training pictures as templates", result["linear_template"]),
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
            "All of the way: figures/neuron-stimulus.gif. Most of that sphere is detail that no picture has. Over pictures "
            "with the spectrum of pictures, from the mean of the training pictures that it answers to most, 30 steps reach "
            f"{said['natural']:.3g}."
        )
        sections.append(
            Section(
                "What it wants",
                text,
                [
                    Figure("The way to its optimal stimulus, the last.", drawn["neuron-stimulus"], pixelated=True, wide=True),
                    Figure(
                        "The way over pictures with the spectrum of pictures.",
                        drawn["neuron-natural-stimulus"],
                        pixelated=True,
                        wide=True,
                    ),
                ],
            )
        )
    kinds = [name for name in drawn if name.removeprefix("neuron-") in ("shift-right", "shift-down", "scale", "turn", "pose")]
    text = "Means over concept pictures that the unit likes, with quartiles; 1: its answer to them as they are; 0: to others."
    sections.append(Section("Invariance", text, [Figure(name.removeprefix("neuron-"), drawn[name]) for name in kinds]))
    headline = [(_share(result["held_out"]), "told apart, held out"), (_share(result["chance"]), "by chance")]
    return Report(f"A neuron of {model.description['name']}", count, headline, sections)


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"
