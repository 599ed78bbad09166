"""``striate resume``: go on with a run that was stopped."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.app.commands.train import show_training

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
    parser.add_argument("--store", type=Path, help="where the run's pictures are now, if they were moved")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Train on; the result is train's."""
    from striate.app.together import together
    from striate.app.training import resume_run

    with together(args.run, screen) as place:
        return resume_run(place.run, place.screen, args.store, place.share)


def show(result: dict[str, Any], screen: Screen) -> None:
    """As for train."""
    show_training(result, screen)
