"""``striate resume``: go on with a run that was stopped."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.app.commands.train import add_shared_arguments, replicas_asked, show_training

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Go on with a run exactly where it was: same batches, same random numbers, same parameters as if never stopped.\n"
    "For a new run from a run's weights, use `striate train RECIPE --init RUN`."
)
EXAMPLE = "striate resume runs/patches"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory")
    add_shared_arguments(parser)
    parser.add_argument("--store", type=Path, help="where the run's pictures are now, if they were moved")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Train on; the result is train's."""
    from striate.app.together import together
    from striate.app.training import resume_run, run_recipe
    from striate.cluster.parallel import DEFAULT_TIMEOUT_S

    # Where the run is on the first process's machine alone, it is sent to the others when they have met.
    known = (args.run / "recipe.yaml").is_file()
    with together(args.run, screen, run_recipe(args.run).cluster.timeout_s if known else DEFAULT_TIMEOUT_S) as place:
        asked = replicas_asked(args)
        return resume_run(place.run, place.screen, args.store, place.share, args.profile, asked)


def show(result: dict[str, Any], screen: Screen) -> None:
    """As for train."""
    show_training(result, screen)
