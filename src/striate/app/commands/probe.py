"""``striate probe``: are the features any good?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = "Train multinomial logistic regression on raw pixels and on a run's features; accuracy with 95% intervals."
EXAMPLE = "striate probe runs/patches --train cifar-train --test cifar-test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--train", metavar="STORE", type=Path, required=True, help="labelled pictures to train on")
    parser.add_argument("--test", metavar="STORE", type=Path, required=True, help="other labelled pictures to judge on")
    parser.add_argument("--layer", help="by default the model's last")
    parser.add_argument("--limit", type=int, help="train on at most so many pictures")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Probe; the result holds both accuracies."""
    from striate.app.probing import labelled, probe_run
    from striate.images import ImageStore

    train, test = ImageStore(args.train), ImageStore(args.test)
    names = train.class_names or test.class_names
    return probe_run(args.run, labelled(train, args.limit), labelled(test), names, screen, args.layer)


def show(result: dict[str, Any], screen: Screen) -> None:
    """A table for people."""
    from rich.table import Table

    table = Table(box=None)
    for heading in ("from", "accuracy", "95% interval", "dimensions", "train", "test"):
        table.add_column(heading)
    for name in ("pixels", "features", "net"):
        if name not in result:
            continue
        found = result[name]
        table.add_row(
            name,
            f"{100 * found['accuracy']:.1f}%",
            f"{100 * found['low']:.1f} to {100 * found['high']:.1f}%",
            f"{found['dim']:,}",
            f"{found['train_size']:,}",
            f"{found['test_size']:,}",
        )
    screen.say(table)
    screen.say(f"next: striate show {result['run']} report")
