"""``striate export``: publish a labelled set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Publish a split (or, without one, all that is labelled) with a dataset card: counts, criteria, labellers, agreement,\n"
    "licence, sources. Formats: cifar-binary, cifar-python, folders, huggingface, webdataset; `striate import` reads each\n"
    "back."
)
EXAMPLE = "striate export pictures ships-and-cats --format huggingface --licence cc-by-4.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    from striate.images.exports import FORMATS

    parser.add_argument("store", metavar="STORE", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path, help="a folder that is not there yet")
    parser.add_argument("--format", choices=sorted(FORMATS), default="huggingface", help="default: huggingface")
    parser.add_argument("--licence", default="unknown", help="for the card (default: unknown)")
    parser.add_argument("--title", help="for the card (default: the folder's name)")
    parser.add_argument("--classes", metavar="FILE", type=Path, help="the file of classes, for the card's criteria")
    parser.add_argument("--wordnet", metavar="DIR", type=Path, help="WordNet's database, for `hyponyms: true`")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Write it."""
    import numpy as np

    from striate.app.publishing import labels_of, published
    from striate.images import ImageStore
    from striate.images.exports import export
    from striate.images.splits import Split, read_split

    store = ImageStore(args.store)
    split = read_split(store)
    if split is None:
        found = labels_of(store, args.classes, args.wordnet)
        sets = {"train": np.flatnonzero(found.labels >= 0)}
        split = Split(sets, found.labels, found.class_names, found.superclasses, {})
        screen.warn(f"no split was drawn: all {len(sets['train']):,} labelled pictures go into one set")
    title = args.title or args.out.name
    whole = published(store, split, args.classes, args.licence, title, args.wordnet)
    export(whole, args.out, args.format, args.overwrite)
    sizes = {name: len(positions) for name, positions in split.sets.items()}
    return {
        "store": str(args.store),
        "out": str(args.out),
        "format": args.format,
        "classes": len(split.class_names),
        "sets": sizes,
    }


def show(result: dict[str, Any], screen: Screen) -> None:
    """A line or two for people."""
    sizes = ", ".join(f"{count:,} in {name}" for name, count in result["sets"].items())
    screen.say(f"{result['out']}: {sizes}, {result['classes']} classes, as {result['format']}; its card is README.md")
    screen.say(f"next: striate import {result['out']} STORE")
