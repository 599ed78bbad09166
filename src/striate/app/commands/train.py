"""``striate train``: run a recipe."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput

if TYPE_CHECKING:
    from rich.table import Table

    from striate.app.replicas import Asked
    from striate.app.screen import Screen
    from striate.cluster.asynchronous.crew import Wanted

SUMMARY = "Run a recipe into a run directory: checkpoints, curves, filters over time, and the trained model."
EXAMPLE = "striate train demo/patches data.store=pictures model.hidden=400"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="a YAML file, or the name of a recipe that ships with Striate"
    )
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="override any key, for example train.epochs=5")
    parser.add_argument("--size", help="small, gpu or paper, where the recipe has sizes")
    parser.add_argument("--run", type=Path, help="the run directory (default: runs/NAME)")
    parser.add_argument("--init", type=Path, help="start a new run from the weights of this one")
    add_shared_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the recipe as it would be run, and stop")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of recipes, and stop")


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of every verb that trains: how many processes, and where their time goes."""
    parser.add_argument(
        "--processes", type=count, default=1, metavar="K", help="processes that share the work; with --replicas, of each"
    )
    parser.add_argument(
        "--replicas",
        type=replicas,
        metavar="K",
        help="train K copies that exchange what they learn (Ray); 2:8: at least 2, at most 8, as there is room",
    )
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="of the Ray cluster that replicas run on, or auto (default: local, this machine)"
    )
    parser.add_argument("--restarts", type=int, default=0, metavar="N", help="go on so often if one is lost")
    parser.add_argument("--profile", action="store_true", help="show where each process's time goes (RBMs)")


def replicas_asked(args: argparse.Namespace) -> Asked | None:
    """How many replicas, and where; None for none."""
    if args.replicas is None:
        if args.address is not None:
            raise BadInput("--address is of a Ray cluster for replicas: give --replicas K, too")
        return None
    if args.profile:
        raise BadInput("--profile is for --processes: metrics.jsonl and run.json tell where the time of replicas goes")
    from striate.app.replicas import Asked

    # As for the verbs that work through a store; it is what replicas do without an address.
    address = None if args.address == "local" else args.address
    return Asked(args.replicas.most, address, args.replicas.least, args.processes)


def replicas(text: str) -> Wanted:
    """A number of replicas, or from how many to how many."""
    from striate.app.crew_files import parse_wanted

    try:
        return parse_wanted(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a number of replicas from 1, or LEAST:MOST as 2:8, found {text!r}"
        ) from None


def count(text: str) -> int:
    """A number of processes."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of processes from 1, found {text!r}")
    return int(text)


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Train; the result holds the last metrics and the run's path."""
    from striate.app.recipe import Recipe, find_recipe, load_recipe

    if args.schema:
        return {"schema": Recipe.model_json_schema()}
    if args.recipe is None:
        raise BadInput("name a recipe: striate train RECIPE data.store=STORE")
    recipe = load_recipe(find_recipe(args.recipe), args.overrides, args.size)
    if args.dry_run:
        return {"recipe": recipe.model_dump(mode="json")}
    from striate.app.together import together
    from striate.app.training import new_run, resume_run
    from striate.cluster.torchrun import restarted

    with together(args.run or Path("runs") / recipe.name, screen, recipe.cluster.timeout_s) as place:
        if restarted() and (place.run / "run.json").exists():
            return resume_run(place.run, place.screen, share=place.share, profile=args.profile)
        asked = replicas_asked(args)
        return new_run(recipe, place.run, place.screen, args.init, place.share, args.profile, asked)


def show(result: dict[str, Any], screen: Screen) -> None:
    """The end of a training, or what was asked for instead of one."""
    if "schema" in result:
        screen.say(json.dumps(result["schema"], indent=1))
    elif "recipe" in result:
        from striate.app.yaml import dump_yaml

        screen.say(dump_yaml(result["recipe"]))
    else:
        show_training(result, screen)


def show_training(result: dict[str, Any], screen: Screen) -> None:
    """What a finished training printed, and the command that usually follows."""
    names = ("reconstruction_error", "hidden_activity", "loss", "error", "best_validation_error")
    shown = ", ".join(f"{name.replace('_', ' ')} {result[name]:.4g}" for name in names if name in result)
    if shown:
        screen.say(f"{result['steps']:,} steps in {result['wall_s']:.0f} s: {shown}")
    if "profile" in result:
        screen.say(profile_table(result["profile"]))
    screen.say(f"next: striate show {result['run']} report")


def profile_table(profile: Sequence[Mapping[str, float]]) -> Table:
    """Seconds of each process in each part of its steps, and what it received."""
    from rich.table import Table

    table = Table("process", *(name for name in profile[0] if name != "received_bytes"), "received", box=None)
    for rank, one in enumerate(profile):
        seconds = [f"{value:.2f} s" for name, value in one.items() if name != "received_bytes"]
        table.add_row(str(rank), *seconds, f"{one['received_bytes'] / 1e6:,.1f} MB")
    return table
