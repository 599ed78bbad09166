"""``striate demo``: from the photographs that ship with scikit-image and scikit-learn to learned filters and a report."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = "Import a few photographs, whiten 8x8 patches, train a Gaussian RBM, write the report. About a minute, no network."
EXAMPLE = "striate demo"

_MARK = ".striate-demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="override any key of the recipe demo/patches")
    parser.add_argument("--out", type=Path, default=Path("demo-run"), help="where everything goes (default: demo-run)")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """The whole way through; a demo that was run before is made anew."""
    from striate.app.looking import write_report
    from striate.app.photographs import find_photographs, tiles
    from striate.app.recipe import find_recipe, load_recipe
    from striate.app.training import new_run
    from striate.images import import_images

    out: Path = args.out
    _make_room(out)
    for part in ("photographs", "run"):
        shutil.rmtree(out / part, ignore_errors=True)
    photographs, missing = find_photographs()
    for line in missing:
        screen.warn(line)
    store = out / "photographs"
    counts = import_images(tiles(photographs), store, name="photographs", workers=1)
    screen.say(f"{len(photographs)} photographs, cut into {counts.kept:,} tiles")
    recipe = load_recipe(find_recipe("demo/patches"), [f"data.store={store}", *args.overrides])
    trained = new_run(recipe, out / "run", screen)
    report, looked = write_report(out / "run", tuple(photograph.credit for photograph, _ in photographs))
    return {
        "report": str(report.resolve()),
        "run": str(out / "run"),
        "photographs": len(photographs),
        "tiles": counts.kept,
        "seconds_of_training": round(trained["seconds"], 2),
        **{name: round(share, 4) for name, share in looked.shares.items()},
    }


def _make_room(out: Path) -> None:
    """Only a folder that this verb made is emptied: a folder named `photographs` or `run` may be anyone's."""
    mark = out / _MARK
    if out.is_file() or (out.exists() and any(out.iterdir()) and not mark.exists()):
        raise BadInput(f"{out} holds something that no demo made: name another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    mark.touch()


def show(result: dict[str, Any], screen: Screen) -> None:
    """The main numbers and where the report is."""
    shares = ", ".join(f"{100 * result[name]:.0f}% {name}" for name in ("edge", "point", "noise"))
    screen.say(
        f"{result['photographs']} photographs; filters: {shares} after {result['seconds_of_training']:.0f} s of training"
    )
    screen.say(f"report: {result['report']}")
    screen.say("next, on your own pictures: striate learn FOLDER")
