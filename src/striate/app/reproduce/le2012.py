"""Le et al. 2012: figures 1 to 5 as far as pictures of one concept and others can redraw them, and the controls of its table.

Numbers: `1` the network, `2` what the best unit knows, `3` what it answers to and wants, `4` what it does not mind, `5` the
controls: random filters, fewer stages, without normalisation, without pooling, nothing of the concept in training, the whole
objective at once. Our pictures are stand-ins (the paper: LFW faces and ImageNet), both sides treated alike (docs/sparse.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from striate.app.neurons import neurons
from striate.app.reproduce.finding import Finding
from striate.app.reproduce.stages import Stage, Stages
from striate.app.sides import sides_digest, two_sides
from striate.errors import BadInput
from striate.measure.intervals import mean_interval
from striate.models.sparse import NetSpec, StageSpec
from striate.models.sparse.shapes import costs, sides
from striate.show import Figure, Table
from striate.show import figures as draw
from striate.train.checkpoint import read_json

_RECIPE, _WHOLE = "le2012/fields", "le2012/network"
_SEEDS = (0, 1, 2)
_NAN = float("nan")

# Filters step as far as pools did.
_UNPOOLED = (
    "model.stages=[{size: 12, stride: 4, maps: 16, pool: 1, norm: 5, norm_edges: keep, sharing: tied}, "
    "{size: 6, stride: 4, maps: 512, pool: 1, norm: 3, norm_edges: keep, sharing: tied}, "
    "{size: 3, maps: 600, pool: 1, norm: 0, sharing: tied}]"
)


@dataclass(frozen=True)
class Control:
    """One row of the table.

    Attributes:
        what: in words.
        paper: its accuracy on faces; NaN where it has none.
        stage: how it is trained.
        seeds: how often.
    """

    what: str
    paper: float
    stage: Stage
    seeds: tuple[int, ...] = _SEEDS[:1]


CONTROLS: dict[str, Control] = {
    "network": Control("three stages", 81.7, Stage(_RECIPE, {}, {}), _SEEDS),
    "one-stage": Control("one stage", 71.0, Stage(_RECIPE, {}, {"": ("model.first=1",)}), _SEEDS),
    "two-stages": Control("two stages", _NAN, Stage(_RECIPE, {}, {"": ("model.first=2",)})),
    "no-norm": Control("without contrast normalisation", 78.5, Stage(_RECIPE, {}, {"": ("model.without=[norm]",)}), _SEEDS),
    "no-pool": Control("without pooling", _NAN, Stage(_RECIPE, {}, {"": (_UNPOOLED,)})),
    "plain": Control("no faces in training", 72.5, Stage(_RECIPE, {}, {}, plain=True)),
    "whole": Control("the whole objective, untied", _NAN, Stage(_WHOLE, {}, {})),
}


def _named(name: str, seed: int) -> str:
    return f"{name}-{seed}" if seed else name


def _seeded(stage: Stage, seed: int) -> Stage:
    return replace(stage, overrides={**stage.overrides, "": (*stage.overrides.get("", ()), f"seed={seed}")})


STAGES: dict[str, Stage] = {
    _named(name, seed): _seeded(control.stage, seed) for name, control in CONTROLS.items() for seed in control.seeds
}


def judged(stages: Stages, name: str) -> dict[str, Any]:
    """What `striate neurons` finds in a stage's run; kept there."""
    run = stages.run(name)
    if stages.concept is None:
        raise BadInput("these figures judge units on pictures of a concept: give --positives STORE and --negatives STORE")
    kept = run / "neurons.json"
    if not kept.exists() or read_json(kept).get("pictures") != sides_digest(*stages.concept):
        shape = stages.model(name).image_shape
        # A treatment for our stand-ins, whose files tell them apart; harmless for pictures that are alike already.
        neurons(run, two_sides(*stages.concept, shape, treat=True, limit=None), stages.screen, closely=name == "network")
    return read_json(kept)


def network(stages: Stages) -> Finding:
    """Figure 1: the paper's network, by arithmetic."""
    spec = NetSpec((3, 200, 200), (StageSpec(),) * 3)
    found, taken = sides(spec), costs(spec, 100, operand_bytes=2)
    names = [
        f"stage {n}: {one.seen[1]} -> {one.filtered[1]} -> {one.pooled[1]} -> {one.output[1]}" for n, one in enumerate(found, 1)
    ]
    return Finding(
        "1",
        "Nine layers, receptive fields of 18x18, 8 maps: one billion connections.",
        f"{taken.encoder:,} encoder weights with every stride 1 and nothing padded, as many in decoders; "
        f"{taken.flops / 1e9:.1f} GFLOP a training picture, {taken.parameter_bytes / 2**30:.0f} GiB for parameters and updates",
        abs(taken.encoder / 1.15e9 - 1) < 0.01,
        (
            Figure(
                "Encoder weights of each stage.", draw.amounts(names, [one.weights / 1e6 for one in found], "million weights")
            ),
        ),
    )


def best_unit(stages: Stages) -> Finding:
    """Figure 2: the best unit's activities on both sides."""
    result = judged(stages, "network")
    gain = result["accuracy"] - max(result["random_filters"], result["linear_template"], result["chance"])
    return Finding(
        "2",
        "The best unit tells faces from distractors with 81.7% accuracy; chance is 64.8%, the best linear filter 74.0%.",
        f"{_share(result['accuracy'])} ({_share(result['held_out'])} held out); chance {_share(result['chance'])}, luck "
        f"{_share(result['luck'])}, random filters {_share(result['random_filters'])}, best template "
        f"{_share(result['linear_template'])}, the best nuisance {_share(max(result['nuisances'].values()))}",
        gain > 0,
        (
            _figure(stages, "network", "histogram", "Activities of the best unit."),
            _figure(stages, "network", "roc", "Its curve."),
        ),
    )


def wishes(stages: Stages) -> Finding:
    """Figure 3: the top pictures and the optimal stimulus."""
    result = judged(stages, "network")
    wanted, natural, most = (result["stimulus"][name] for name in ("answer", "natural", "test_most"))
    return Finding(
        "3",
        "The top stimuli are faces, and so is the optimal stimulus.",
        f"the optimal stimulus gets {wanted:.3g}, of pictures with their spectrum {natural:.3g}, the best test picture "
        f"{most:.3g}; look whether they are faces "
        f"(average precision {result['average_precision']:.2f})",
        min(wanted, natural) > most and result["average_precision"] > 0.7,
        (
            _figure(stages, "network", "top", "Top pictures.", pixelated=True),
            _figure(stages, "network", "natural-stimulus", "Optimal stimulus of pictures' spectrum.", pixelated=True),
            _figure(stages, "network", "stimulus", "Optimal stimulus.", pixelated=True),
        ),
    )


def invariances(stages: Stages) -> Finding:
    """Figures 4 and 5: curves over shifts, scales and turns."""
    result = judged(stages, "network")
    kinds = {"shift-right": 0.1, "scale": 1.25, "turn": 10.0}
    kept = {name: _kept(result, name.replace("-", " "), at) for name, at in kinds.items()}
    return Finding(
        "4",
        "The unit is robust to translation, scale and rotation.",
        ", ".join(
            f"{name.replace('-', ' ')} by {at:g} keeps {100 * kept[name]:.0f}% of its answer" for name, at in kinds.items()
        ),
        min(kept.values()) > 0.5,
        tuple(
            _figure(stages, "network", name, name.replace("-", " ")) for name in ("shift-right", "shift-down", "scale", "turn")
        ),
    )


def _kept(result: dict[str, Any], kind: str, at: float) -> float:
    curve = result["invariance"][kind]
    return float(dict(zip(curve["at"], curve["mean"]))[at])


def controls(stages: Stages) -> Finding:
    """The paper's table: controls, held out."""
    asked = {name: one for name, one in CONTROLS.items() if not one.stage.plain or stages.plain is not None}
    held = {name: [judged(stages, _named(name, seed))["held_out"] for seed in one.seeds] for name, one in asked.items()}
    network = judged(stages, "network")
    held |= {
        "random": [network["random_network"]],
        "template": [network["linear_template"]],
        "chance": [network["chance"]],
    }
    rows = {name: (one.what, one.paper) for name, one in asked.items()}
    rows |= {
        "random": ("random filters in the same network", 67.0),
        "template": ("best template", 74.0),
        "chance": ("chance", 64.8),
    }
    names = [f"{what}{f' (paper: {paper})' if paper == paper else ''}" for what, paper in rows.values()]
    spans = [mean_interval(held[name]) for name in rows]
    values = [sum(held[name]) / len(held[name]) for name in rows]
    whole, others = spans[0][0], [value for name, value in zip(rows, values) if name != "network"]
    table = [
        [
            name,
            _share(value),
            f"{_share(low)} to {_share(high)}" if len(held[key]) > 1 else "",
            ", ".join(map(_share, held[key])),
        ]
        for key, name, value, (low, high) in zip(rows, names, values, spans)
    ]
    return Finding(
        "5",
        "Three stages beat one; without contrast normalisation accuracy falls to 78.5%; random filters reach 67.0%.",
        "; ".join(f"{name}: {_share(value)}" for name, value in zip(names, values)),
        all(whole > other for other in others),
        (
            Figure(
                "Accuracy of the best unit, held out; 95% of means of so few seeds.",
                draw.bars(names, values, spans, "accuracy"),
            ),
        ),
        (Table(["network", "mean", "95%", "seeds"], table),),
        [
            {"network": key, "held_out": held[key], "paper": None if paper != paper else paper}
            for key, (_, paper) in rows.items()
        ],
    )


def _figure(stages: Stages, name: str, what: str, caption: str, pixelated: bool = False) -> Figure:
    file: Path = stages.run(name) / "figures" / f"neuron-{what}.png"
    return Figure(caption, file.read_bytes(), pixelated=pixelated)


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"


OF_MODELS: dict[str, Callable[[Stages], Finding]] = {"1": network}
OF_CONCEPTS: dict[str, Callable[[Stages], Finding]] = {"2": best_unit, "3": wishes, "4": invariances, "5": controls}
