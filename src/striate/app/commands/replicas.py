"""``striate replicas``: who trains a run at this moment, and how many of them are wanted."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Show the replicas of a run that is being trained, or change how many there are while it goes: others join from the\n"
    "parameters of the moment, or those who came last finish what they have, and leave."
)
EXAMPLE = "striate replicas runs/le2012 4"
_PATIENCE_S = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    from striate.app.commands.train import replicas

    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory that `striate train --replicas` is training")
    parser.add_argument("wanted", metavar="K", nargs="?", type=replicas, help="so many from now on, or LEAST:MOST")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Change the number, if one is given; the result is how the run stands."""
    from striate.app.crew_files import changed, stands

    found = stands(args.run) if args.wanted is None else changed(args.run, args.wanted, _PATIENCE_S)
    return {"run": str(args.run), **found}


def show(result: dict[str, Any], screen: Screen) -> None:
    """A table for people."""
    from rich.table import Table

    if "replicas" not in result:
        screen.say(f"{result['run']} has only just begun: nobody is there yet")
        return
    table = Table("replica", "stage", "machine", "images/s", "waits for shards", box=None)
    for one in result["replicas"]:
        rate, waits = one["images_per_s"], one["waiting_share"]
        table.add_row(
            str(one["place"]),
            one["stage"],
            one["machine"] or "",
            "" if rate is None else f"{rate:,.0f}",
            "" if waits is None else f"{100 * waits:.0f}%",
        )
    screen.say(table)
    if not result.get("heard", True):
        screen.warn("asked, but the run has not answered yet: it may be saving a checkpoint")
    screen.say(f"{result['wanted']} wanted at step {result['step']:,}; next: striate serve {result['run']}")
