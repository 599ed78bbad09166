"""``striate split``: balanced training and test sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Draw as many pictures of each class for testing, and for training, by a seed. What labellers decided counts, or, where\n"
    "nobody labelled, the labels that pictures came with. Pictures that are set aside take no part; near-duplicates stay on\n"
    "one side."
)
EXAMPLE = "striate split pictures --test 1000 --train 5000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("store", metavar="STORE", type=Path)
    parser.add_argument("--test", type=int, required=True, help="pictures of each class for testing")
    parser.add_argument("--train", type=int, help="of each class for training (default: what the smallest class leaves)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--classes", metavar="FILE", type=Path, help="the file of classes: their order and superclasses")
    parser.add_argument("--wordnet", metavar="DIR", type=Path, help="WordNet's database, for `hyponyms: true`")
    parser.add_argument("--verified", action="store_true", help="only labels that a second person confirmed")
    parser.add_argument("--with-aside", action="store_true", help="also pictures that are set aside")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Draw, and keep it in the store's folder."""
    from striate.app.publishing import labels_of
    from striate.images import ImageStore
    from striate.images.aside import groups_of, looked_at
    from striate.images.splits import Split, draw_split, write_split

    store = ImageStore(args.store)
    found = labels_of(store, args.classes, args.wordnet, args.verified, args.with_aside)
    if looked_at(store, "duplicates") < len(store):
        screen.warn(
            f"nobody looked for near-duplicates: run `striate dedupe {args.store}` first, or they may lie on both sides"
        )
    sets = draw_split(found.labels, groups_of(store), found.class_names, args.test, args.train, args.seed)
    details = {"seed": args.seed, "labels": found.origin, "verified": args.verified}
    file = write_split(store, Split(sets, found.labels, found.class_names, found.superclasses, details))
    return {
        "store": str(args.store),
        "split": str(file),
        "classes": len(found.class_names),
        "superclasses": len(set(found.superclasses.values())),
        "labelled": int((found.labels >= 0).sum()),
        **{name: len(positions) for name, positions in sets.items()},
    }


def show(result: dict[str, Any], screen: Screen) -> None:
    """A few lines for people."""
    screen.say(
        f"{result['train']:,} for training and {result['test']:,} for testing, of {result['labelled']:,} labelled pictures in "
        f"{result['classes']} classes"
    )
    screen.say(f"next: striate export {result['store']} OUT --format huggingface")
