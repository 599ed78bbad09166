"""``striate search``: pictures like this one, like these, or what a unit answers to."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Find the pictures of a store whose features are nearest to those of a picture, or of several (the mean of their\n"
    "directions), or the pictures that a unit answers to most and least. A run's features are encoded once and kept in\n"
    "STORE/features/. Search is exact; --bits and --index faiss are quicker on millions, and say what they miss."
)
EXAMPLE = "striate search runs/patches cifar-train --picture cat.jpg --sheet cats.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("source", metavar="RUN", help="a run, or a features file that `striate encode` made of STORE")
    parser.add_argument("store", metavar="STORE", type=Path, help="the pictures to search")
    parser.add_argument("--picture", metavar="FILE", action="append", default=[], help="a picture to search for; repeatable")
    parser.add_argument("--key", metavar="KEY", action="append", default=[], help="a picture of STORE; repeatable")
    parser.add_argument("--unit", metavar="N", type=int, help="what this unit answers to, most and least")
    parser.add_argument("--layer", help="of the run; by default the last but for a classifier's logits")
    parser.add_argument("--k", type=int, default=24, help="how many pictures (24)")
    parser.add_argument("--metric", default="cosine", help="cosine (the default), l2 or dot")
    parser.add_argument("--sheet", metavar="FILE", type=Path, help="draw what was asked for and found, as PNG")
    parser.add_argument("--run", metavar="RUN", help="with a features file, the run it came from: --picture needs it")
    parser.add_argument("--bits", metavar="N", type=int, help="search codes of so many bits; the features judge what they name")
    parser.add_argument("--index", choices=["exact", "faiss"], default="exact", help="faiss: an index, for millions; not exact")
    parser.add_argument("--device", default="auto", help="where exact search multiplies (default: a GPU if there is one)")
    parser.add_argument("--allow-urls", action="store_true", help="--picture may be an http(s) address, which is fetched")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Search; the result names what was found."""
    from striate.app.finding import find, find_unit, opened

    asked = bool(args.picture or args.key)
    if asked == (args.unit is not None):
        raise BadInput("search for what? expected --picture or --key (or several), or else --unit")
    if args.bits is not None and args.index == "faiss":
        raise BadInput("--bits and --index faiss are two ways to be quick: give one of them")
    if args.unit is not None and (args.bits is not None or args.index == "faiss"):
        raise BadInput("--unit looks at every picture: leave --bits and --index out")
    by_lists = args.index == "faiss"
    search = opened(args.source, args.store, screen, args.layer, args.metric, args.run, args.bits, by_lists, args.device)
    if args.unit is not None:
        return find_unit(search, args.unit, args.k, args.sheet)
    return find(search, args.picture, args.key, args.k, args.sheet, args.allow_urls)


def show(result: dict[str, Any], screen: Screen) -> None:
    """A table for people."""
    from rich.table import Table

    for name, heading in (("found", None), ("least", "least of all:")):
        if name not in result:
            continue
        if heading is not None:
            screen.say(heading)
        table = Table(box=None)
        for title, justify in (("key", "left"), (result["score"], "right"), ("label", "left")):
            table.add_column(title, justify=justify)  # type: ignore[arg-type]
        for one in result[name]:
            table.add_row(one["key"], f"{one['score']:.4g}", one["label"] or "")
        screen.say(table)
    searched = f"{result['searched']:,} pictures by {result['layer']} of {result['name']}"
    if "recall" in result:
        searched += f", through {result['through']}: {100 * result['recall']:.1f}% of a sample's true neighbours are found"
    screen.say(searched)
    if result["sheet"] is not None:
        screen.say(f"sheet: {result['sheet']}")
    screen.say(f"next: {result['next']}")
