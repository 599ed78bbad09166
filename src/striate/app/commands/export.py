"""``striate export``: publish a labelled set, or hand a trained model to others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.app.screen import Screen

MODEL_FORMATS = ("huggingface", "onnx", "program", "safetensors")
_FOR_MODELS = ("layer", "check", "size", "tolerance")
_FOR_STORES = ("classes", "wordnet")

SUMMARY = (
    "Of a STORE: publish a split (or, without one, all that is labelled) with a dataset card: counts, criteria, labellers,\n"
    "agreement, licence, sources. Formats: cifar-binary, cifar-python, folders, huggingface, webdataset; `striate import`\n"
    "reads each back.\n"
    "Of a RUN: the trained model with its preprocessing inside, pictures in, features out. Formats: onnx (one file), program\n"
    "(torch.export's .pt2), safetensors (a folder with a card), huggingface (a folder for the Hub). Each is held against the\n"
    "run on real pictures before it gets its name."
)
EXAMPLE = "striate export runs/patches patches.onnx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    from striate.images.exports import FORMATS

    parser.add_argument("source", metavar="STORE|RUN", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path, help="a file or folder that is not there yet")
    parser.add_argument(
        "--format",
        choices=sorted({*FORMATS, *MODEL_FORMATS}),
        help="default: huggingface for a store; for a run what OUT ends in (.onnx, .pt2)",
    )
    parser.add_argument("--licence", default="unknown", help="for the card (default: unknown)")
    parser.add_argument("--title", help="for the card (default: the folder's or the recipe's name)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    of_store = parser.add_argument_group("of a store")
    of_store.add_argument("--classes", metavar="FILE", type=Path, help="the file of classes, for the card's criteria")
    of_store.add_argument("--wordnet", metavar="DIR", type=Path, help="WordNet's database, for `hyponyms: true`")
    of_run = parser.add_argument_group("of a run")
    of_run.add_argument(
        "--layer", action="append", help="whose features it gives; may be repeated (default: the last, and a net's logits)"
    )
    of_run.add_argument("--size", metavar="PX|HxW", help="of the pictures, for models of patches (default: those trained on)")
    of_run.add_argument("--check", metavar="STORE", type=Path, help="pictures to check on (default: the run's own)")
    of_run.add_argument("--tolerance", type=float, help="the largest relative difference from the run (default: 1e-4)")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Write it."""
    if (args.source / "store.json").exists():
        return _publish(args, screen)
    return _export(args, screen)


def _export(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    from striate.app.exporting.checking import TOLERANCE
    from striate.app.exporting.formats import FORMATS, export_model, format_of
    from striate.app.exporting.trained import trained

    form = args.format or format_of(args.out)
    _refuse(args, form, MODEL_FORMATS, _FOR_STORES, "a run")
    if args.layer and FORMATS[form].is_folder:
        raise BadInput(f"--layer does not go with --format {form}, which holds all layers")
    subject = trained(args.source, args.layer or (), _size(args.size), args.licence, args.title)
    screen.say(f"{subject.name}: writing and checking {form}")
    tolerance = TOLERANCE if args.tolerance is None else args.tolerance
    return export_model(subject, args.out, form, args.check, args.overwrite, tolerance)


def _publish(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    import numpy as np

    from striate.app.publishing import labels_of, published
    from striate.images import ImageStore
    from striate.images.exports import FORMATS, export
    from striate.images.splits import Split, read_split

    form = args.format or "huggingface"
    _refuse(args, form, tuple(FORMATS), _FOR_MODELS, "a store")
    store = ImageStore(args.source)
    split = read_split(store)
    if split is None:
        found = labels_of(store, args.classes, args.wordnet)
        sets = {"train": np.flatnonzero(found.labels >= 0)}
        split = Split(sets, found.labels, found.class_names, found.superclasses, {})
        screen.warn(f"no split was drawn: all {len(sets['train']):,} labelled pictures go into one set")
    title = args.title or args.out.name
    whole = published(store, split, args.classes, args.licence, title, args.wordnet)
    export(whole, args.out, form, args.overwrite)
    sizes = {name: len(positions) for name, positions in split.sets.items()}
    return {
        "store": str(args.source),
        "out": str(args.out),
        "format": form,
        "classes": len(split.class_names),
        "sets": sizes,
    }


def _refuse(args: argparse.Namespace, form: str, formats: tuple[str, ...], others: tuple[str, ...], what: str) -> None:
    """Refuse formats and options of the other kind."""
    if form not in formats:
        raise BadInput(f"{args.source} is {what}: its formats are {', '.join(formats)}, found {form}")
    for name in others:
        if getattr(args, name) is not None:
            raise BadInput(f"{args.source} is {what}: --{name} does not go with one")


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    edges = text.split("x")
    if len(edges) > 2 or not all(edge.isdecimal() and int(edge) for edge in edges):
        raise BadInput(f"--size {text}: expected pixels, such as 64, or height and width, such as 48x64")
    return int(edges[0]), int(edges[-1])


def show(result: dict[str, Any], screen: Screen) -> None:
    """A line or two for people."""
    if "run" in result:
        _show_model(result, screen)
        return
    sizes = ", ".join(f"{count:,} in {name}" for name, count in result["sets"].items())
    screen.say(f"{result['out']}: {sizes}, {result['classes']} classes, as {result['format']}; its card is README.md")
    screen.say(f"next: striate import {result['out']} STORE")


def _show_model(result: dict[str, Any], screen: Screen) -> None:
    form = f"ONNX, opset {result['opset']}" if "opset" in result else result["format"]
    layers = ", ".join(f"{name} ({dim:,})" for name, dim in result["layers"].items())
    shape = ", ".join(str(edge) for edge in result["image_shape"])
    checked = result["checked"]
    screen.say(f"{result['out']}: {form}, {result['bytes'] / 1e6:.1f} MB; uint8 pictures (n, {shape}) to {layers}")
    screen.say(
        f"checked on {checked['pictures']} {checked['of']}: the largest relative difference from the run is "
        f"{checked['largest_relative_difference']:.1e} (its own rounding: {checked['rounding_of_the_run']:.1e})"
    )
    screen.say(f'next: python -c "{_first_use(result)}"')


def _first_use(result: dict[str, Any]) -> str:
    """A line of Python that opens what was written."""
    name = repr(result["out"])
    if result["format"] == "onnx":
        return f"import onnxruntime; print([one.name for one in onnxruntime.InferenceSession({name}).get_outputs()])"
    if result["format"] == "program":
        return f"import torch; print(torch.export.load({name}))"
    return f"import striate; print(striate.load({name}).dims)"
