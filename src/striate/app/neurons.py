"""Concept neurons: which unit of a run tells pictures of a concept from others, how well, and what it answers to."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.app.load import TrainedModel, load_model
from striate.app.looking import sample_of_run
from striate.app.neuron_looks import Found, look
from striate.app.probing import encode_all
from striate.app.screen import Screen
from striate.app.sides import Sides
from striate.draws import Draws
from striate.errors import BadInput
from striate.measure.concept import judge_concept, score_units
from striate.measure.nuisance import nuisance_accuracies
from striate.models.encoder import Encoder
from striate.models.sparse import SparseNet
from striate.models.sparse.trained import TrainedSparseNet, sparse_encoder
from striate.train.checkpoint import write_text

# Training pictures that stand as templates.
_TEMPLATES = 6000


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
        look(run, model, encoder, chosen, sides, result, poses, screen, seed)
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
