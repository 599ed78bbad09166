"""``striate neurons``: does a unit know a concept?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Find the unit of a run that best tells pictures of a concept from others; measure it beside chance, luck, random\n"
    "filters, templates and what the files give away; show what it answers to, what it wants and what it does not mind."
)
EXAMPLE = "striate neurons runs/le2012 --positives faces --negatives others --treat"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--positives", metavar="STORE", type=Path, required=True, help="pictures of the concept")
    parser.add_argument("--negatives", metavar="STORE", type=Path, required=True, help="pictures without it")
    parser.add_argument("--treat", action="store_true", help="shift, scale, blur and encode all pictures alike, in grey")
    parser.add_argument(
        "--poses", metavar="STORE", type=Path, help="the concept turned out of the plane, one class a pose; taken as they come"
    )
    parser.add_argument("--layer", help="whose best unit to look at; by default the highest layer")
    parser.add_argument("--limit", type=int, help="use at most so many pictures of each side")
    parser.add_argument("--seed", type=int, default=0, help="of the treatment, halves and random filters")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Judge the run's units."""
    from striate.app.load import load_model
    from striate.app.neuron_looks import poses_of
    from striate.app.neurons import neurons
    from striate.app.sides import two_sides
    from striate.images import ImageStore

    shape = load_model(args.run).image_shape
    sides = two_sides(ImageStore(args.positives), ImageStore(args.negatives), shape, args.treat, args.limit, args.seed)
    poses = poses_of(ImageStore(args.poses), shape) if args.poses is not None else None
    return neurons(args.run, sides, screen, args.layer, args.seed, poses)


def show(result: dict[str, Any], screen: Screen) -> None:
    """A table for people."""
    from rich.table import Table

    table = Table(box=None)
    for heading in ("layer", "units", "best unit", "accuracy", "held out", "area"):
        table.add_column(heading, justify="right")
    for name, one in result["layers"].items():
        if one is None:
            table.add_row(name, "", "", "not measurable: no unit varies", "", "")
            continue
        cells = (
            one["units"],
            one["unit"],
            f"{100 * one['accuracy']:.1f}%",
            f"{100 * one['held_out']:.1f}%",
            f"{one['auc']:.3f}",
        )
        table.add_row(name, *map(str, cells))
    screen.say(table)
    against = {"chance": result["chance"], "luck": result["luck"], "random filters": result["random_filters"]}
    if "random_network" in result:
        against["random network"] = result["random_network"]
    against |= {"best template": result["linear_template"], **result["nuisances"]}
    screen.say("held against: " + ", ".join(f"{name} {100 * value:.1f}%" for name, value in against.items()))
    if not result["treated"]:
        screen.say("the pictures are as they came; --treat makes both sides alike but for what they show")
    screen.say(result["report"])
