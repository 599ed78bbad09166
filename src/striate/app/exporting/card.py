"""What a model is, how it came about and what it was measured to do: as JSON, and as Markdown for people.

Folders and file names of somebody's machine are nobody's business: of every path only the last part is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import torch

from striate.app.exporting.trained import Trained
from striate.app.markdown import cell, quoted
from striate.app.yaml import read_yaml
from striate.errors import BadInput
from striate.images import ImageStore
from striate.train.checkpoint import read_json

_KEPT_OF_RUN = ("created", "ended", "steps", "seconds", "torch", "processor", "gpu")


def card_of(subject: Trained) -> dict[str, Any]:
    """Everything known of a model, as JSON.

    Returns:
        `layers` (name -> dim, shape), `parameters`, `training` (the recipe, steps, machine), `pictures` (digest, count),
        `measures` (what `striate probe` found), beside the notes that other runtimes' files carry.
    """
    channels, height, width = subject.encoder.image_shape
    module = subject.module(subject.encoder.layers)
    shapes = module.shapes()
    layers = {name: {"dim": subject.encoder.dims[name], "shape": list(shapes[name])} for name in subject.encoder.layers}
    return {
        "title": subject.title,
        **subject.notes(),
        "layers": layers,
        "image_shape": [channels, height, width],
        "preprocess": subject.model.description["preprocess"],
        "parameters": _parameters(subject),
        "bytes": subject.file.stat().st_size,
        "training": _training(subject.source),
        "pictures": _pictures(subject.source),
        "measures": _measures(subject.source),
    }


def _parameters(subject: Trained) -> int:
    """Numbers that were learned: all tensors but preprocessing's."""
    from safetensors import safe_open

    with safe_open(subject.file, "pt") as opened:
        names = [name for name in opened.keys() if not name.startswith("preprocess.")]  # noqa: SIM118 (not a mapping)
        return sum(torch.Size(opened.get_slice(name).get_shape()).numel() for name in names)


def _training(run: Path) -> dict[str, Any]:
    if not (run / "recipe.yaml").exists():
        return _earlier(run).get("training", {})
    described = read_json(run / "run.json") if (run / "run.json").exists() else {}
    kept = {name: described[name] for name in _KEPT_OF_RUN if described.get(name) is not None}
    return {"recipe": without_folders(read_yaml(run / "recipe.yaml")), **kept}


def without_folders(value: Any) -> Any:
    """The same with the last part alone of whatever looks like a path."""
    if isinstance(value, Mapping):
        return {key: without_folders(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(one) for one in value]
    return PurePath(value).name if isinstance(value, str) and "/" in value else value


def _pictures(run: Path) -> dict[str, Any]:
    if not (run / "run.json").exists():
        return _earlier(run).get("pictures", {})
    found: dict[str, Any] = {"digest": read_json(run / "run.json").get("store_digest")}
    try:
        store = ImageStore(read_yaml(run / "recipe.yaml")["data"]["store"])
    # A store that has gone leaves its digest.
    except (BadInput, KeyError, TypeError, OSError):
        return found
    return {**found, "count": len(store), "shape": list(store.shape)} if store.digest == found["digest"] else found


def _measures(run: Path) -> dict[str, Any]:
    if not (run / "probe.json").exists():
        return _earlier(run).get("measures", {})
    found = read_json(run / "probe.json")
    return {name: without_folders(value) for name, value in found.items() if name not in ("run", "confusion")}


def _earlier(folder: Path) -> dict[str, Any]:
    """The card of an export that is exported again."""
    return read_json(folder / "card.json") if (folder / "card.json").exists() else {}


def markdown(card: Mapping[str, Any], model_file: str) -> str:
    """The card as people read it, with the header that Hugging Face reads."""
    classifier = "logits" in card["layers"]
    shape = ", ".join(str(edge) for edge in card["image_shape"])
    last = next(name for name in reversed(card["layers"]) if name != "logits")
    lines = [
        "---",
        f"license: {quoted(card['licence'])}",
        "library_name: striate",
        f"pipeline_tag: {'image-classification' if classifier else 'image-feature-extraction'}",
        "tags: [striate, image-features]",
        "---",
        f"# {cell(card['title'])}",
        "",
        f"Trained from the recipe {cell(card['name'])}: {card['parameters']:,} parameters. Licence: {cell(card['licence'])}. "
        f"Exported by Striate {card['striate']}.",
        "",
        "![Its filters](filters.png)",
        "",
        "```python",
        "import striate",
        'encoder = striate.load("path/to/this/folder")',
        f'features = encoder.encode(pictures)["{encoded(classifier, last)}"]  # pictures: uint8 (n, {shape})',
        "```",
        "",
        f"All of it is in `{model_file}`, in which no code is.",
        "",
        "## Pictures",
        "",
        f"It takes {cell(card['preprocessing'])}. This happens inside: give it levels as they are.",
        *_trained_on(card["pictures"]),
        "",
        "## Layers",
        "",
        "| layer | features | shape |",
        "|---|---|---|",
        *(
            f"| {cell(name)} | {one['dim']:,} | {' x '.join(str(edge) for edge in one['shape'])} |"
            for name, one in card["layers"].items()
        ),
        "",
        *_classes(card["class_names"]),
        *_measured(card["measures"]),
        *_recipe(card["training"]),
    ]
    return "\n".join(lines) + "\n"


def encoded(classifier: bool, last: str) -> str:
    """The layer that `encode` gives unless told otherwise."""
    return "logits" if classifier else last


def _trained_on(pictures: Mapping[str, Any]) -> list[str]:
    if not pictures.get("digest"):
        return []
    count = f"{pictures['count']:,} pictures" if "count" in pictures else "pictures"
    return ["", f"It was trained on {count} whose store has the digest `{pictures['digest']}`."]


def _classes(names: list[str]) -> list[str]:
    return ["## Classes", "", ", ".join(cell(name) for name in names) + ".", ""] if names else []


def _measured(measures: Mapping[str, Any]) -> list[str]:
    rows = [(name, measures[name]) for name in ("pixels", "features", "net") if isinstance(measures.get(name), Mapping)]
    if not rows:
        return ["## Measures", "", "None yet: `striate probe` makes them.", ""]
    return [
        "## Measures",
        "",
        "| from | accuracy | 95% interval | trained on | judged on |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {100 * one['accuracy']:.1f}% | {100 * one['low']:.1f} to {100 * one['high']:.1f}% "
            f"| {one['train_size']:,} | {one['test_size']:,} |"
            for name, one in rows
        ),
        "",
    ]


def _recipe(training: Mapping[str, Any]) -> list[str]:
    if not training:
        return []
    facts = ", ".join(f"{name} {cell(value)}" for name, value in training.items() if name != "recipe")
    recipe = training.get("recipe", {})
    shown = {name: recipe[name] for name in ("preprocess", "model") if name in recipe}
    text = json.dumps(shown, indent=1, ensure_ascii=False).replace("```", "'''")
    return [
        "## Training",
        "",
        f"{facts}." if facts else "",
        "",
        "```json",
        text,
        "```",
        "",
        "The whole recipe is in `card.json`.",
    ]
