"""``striate reproduce``: a paper's figures beside its findings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Redraw a paper's figures on a store and say, figure by figure, whether what is measured agrees with the paper.\n"
    "This version: krizhevsky2009, the figures on data and whitening (1.1 to 1.5, 2.2 to 2.4)."
)
EXAMPLE = "striate reproduce krizhevsky2009 --store cifar-train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("paper", metavar="PAPER", help="krizhevsky2009")
    parser.add_argument("--store", type=Path, required=True, help="pictures to redraw the figures on (the paper: tiny images)")
    parser.add_argument("--figure", help="only this one, for example 1.3")
    parser.add_argument(
        "--size", choices=["small", "gpu", "paper"], default="small", help="these figures are the same at all sizes"
    )
    parser.add_argument("--out", type=Path, help="where the report goes (default: reproduced/PAPER)")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Redraw; the result lists each figure with the paper's finding and ours."""
    from striate.app.reproduce import PAPERS
    from striate.app.reproduce.krizhevsky2009 import Pictures
    from striate.files import write_whole
    from striate.images import ImageStore
    from striate.show import Report, Section, render

    if args.paper not in PAPERS:
        raise BadInput(f"no paper {args.paper!r}: there is {', '.join(PAPERS)}")
    figures = PAPERS[args.paper]
    if args.figure is not None and args.figure not in figures:
        raise BadInput(f"no figure {args.figure!r} of {args.paper} here: there are {', '.join(figures)}")
    store = ImageStore(args.store)
    if len(store) <= int(store.shape[0] * store.shape[1] * store.shape[2] * 2 / 3):
        raise BadInput(f"{args.store} holds {len(store):,} pictures: whitening needs more than two thirds of their dimensions")
    screen.say(f"covariance of {len(store):,} pictures")
    pictures = Pictures.of(store)
    found = []
    for number in [args.figure] if args.figure else figures:
        screen.say(f"figure {number}")
        found.append(figures[number](pictures))
    agreeing = sum(finding.agrees for finding in found)
    sections = [
        Section(
            f"Figure {finding.figure}",
            f"Paper: {finding.paper} Ours: {finding.ours}. {'Agrees.' if finding.agrees else 'Does not agree.'}",
            finding.pictures,
        )
        for finding in found
    ]
    title = "Learning Multiple Layers of Features from Tiny Images (Krizhevsky 2009), redrawn"
    report = Report(
        title, f"on {len(store):,} pictures of {args.store.name}", [(f"{agreeing} of {len(found)}", "figures agree")], sections
    )
    out = args.out or Path("reproduced") / args.paper
    out.mkdir(parents=True, exist_ok=True)
    page = render(report)
    write_whole(out / "report.html", lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return {
        "report": str((out / "report.html").resolve()),
        "figures": [
            {"figure": finding.figure, "paper": finding.paper, "ours": finding.ours, "agrees": finding.agrees}
            for finding in found
        ],
    }


def show(result: dict[str, Any], screen: Screen) -> None:
    """A line a figure."""
    for figure in result["figures"]:
        screen.say(f"figure {figure['figure']}: {'agrees' if figure['agrees'] else 'DOES NOT AGREE'}: {figure['ours']}")
    screen.say(f"report: {result['report']}")
