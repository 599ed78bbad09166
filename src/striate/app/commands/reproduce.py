"""``striate reproduce``: a paper's figures beside its findings."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.app.reproduce import Finding, Paper
    from striate.app.reproduce.stages import Stages
    from striate.app.screen import Screen
    from striate.images import ImageStore

SUMMARY = (
    "Redraw a paper's figures on a store of pictures: train what they need, measure what the paper sees in each, and say\n"
    "whether it agrees. What is trained and measured is kept in the folder: a second call goes on where the first was."
)
EXAMPLE = "striate reproduce krizhevsky2009 --store cifar-train --test cifar-test --figure 3.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("paper", metavar="PAPER", help="krizhevsky2009, le2012 or krizhevsky2012")
    parser.add_argument("--store", type=Path, required=True, help="pictures to redraw the figures on (the paper: CIFAR-10)")
    parser.add_argument("--test", type=Path, help="other labelled pictures, for the figures that judge features")
    parser.add_argument("--positives", type=Path, help="le2012: pictures of a concept, faces for example")
    parser.add_argument("--negatives", type=Path, help="le2012: pictures without it")
    parser.add_argument("--plain", type=Path, help="le2012: the training pictures without those of the concept, for a control")
    parser.add_argument("--figure", action="append", help="only this one, for example 1.3; may be given again")
    parser.add_argument(
        "--size",
        choices=["small", "cpu", "gpu", "paper"],
        default="small",
        help="small: half an hour of two cores; cpu: the recipes as they stand, two hours; gpu, paper: more units and epochs",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of every recipe")
    parser.add_argument("--out", type=Path, help="where everything goes (default: reproduced/PAPER-SIZE)")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Redraw; the result lists each figure with the paper's finding and ours."""
    from striate.app.reproduce import PAPERS
    from striate.app.reproduce.stages import Stages
    from striate.images import ImageStore

    if args.paper not in PAPERS:
        raise BadInput(f"no paper {args.paper!r}: there is {', '.join(PAPERS)}")
    paper = PAPERS[args.paper]
    for number in args.figure or []:
        if number not in paper.figures:
            raise BadInput(f"no figure {number!r} of {args.paper} here: there are {', '.join(paper.figures)}")
    store = ImageStore(args.store)
    test = ImageStore(args.test) if args.test is not None else None
    if (args.positives is None) != (args.negatives is None):
        raise BadInput("--positives and --negatives go together: pictures of a concept, and others")
    plain = ImageStore(args.plain) if args.plain is not None else None
    concept = (ImageStore(args.positives), ImageStore(args.negatives)) if args.positives is not None else None
    left_out = {*(paper.judged if test is None else ()), *(paper.of_concepts if concept is None else ())}
    numbers = args.figure or [number for number in paper.figures if number not in left_out]
    if test is None and any(number in paper.judged for number in numbers):
        raise BadInput(f"figures {', '.join(paper.judged)} judge features on other pictures: give --test STORE")
    if concept is None and any(number in paper.of_concepts for number in numbers):
        raise BadInput(f"figures {', '.join(paper.of_concepts)} judge units on a concept: give --positives and --negatives")
    if any(number in paper.of_pictures for number in numbers):
        _check_enough(store)
    out = args.out or Path("reproduced") / f"{args.paper}-{args.size}"
    begun = time.monotonic()
    found = _figures(paper, numbers, Stages(paper.stages, out, store, test, args.size, screen, tuple(args.set), concept, plain))
    seconds = time.monotonic() - begun
    path = _write(paper, found, store, args.size, seconds, out)
    return {
        "report": str(path.resolve()),
        "seconds": round(seconds, 1),
        "figures": [
            {"figure": finding.figure, "paper": finding.paper, "ours": finding.ours, "agrees": finding.agrees}
            | ({"rows": list(finding.rows)} if finding.rows else {})
            for finding in found
        ],
    }


def _check_enough(store: ImageStore) -> None:
    if len(store) <= int(store.shape[0] * store.shape[1] * store.shape[2] * 2 / 3):
        raise BadInput(f"{store.path} holds {len(store):,} pictures: whitening needs more than two thirds of their dimensions")


def _figures(
    paper: Paper,
    numbers: list[str],
    stages: Stages,
) -> list[Finding]:
    from striate.app.reproduce.krizhevsky2009 import Pictures

    store, screen = stages.store, stages.screen
    pictures = None
    found = []
    for number in numbers:
        if number in paper.of_pictures:
            if pictures is None:
                screen.say(f"covariance of {len(store):,} pictures")
                pictures = Pictures.of(store)
            finding = paper.of_pictures[number](pictures)
        else:
            finding = {**paper.of_models, **paper.judged, **paper.of_concepts}[number](stages)
        screen.say(f"figure {number}: {'agrees' if finding.agrees else 'DOES NOT AGREE'}: {finding.ours}")
        found.append(finding)
    return found


def _write(paper: Paper, found: list[Finding], store: ImageStore, size: str, seconds: float, out: Path) -> Path:
    from striate.files import write_whole
    from striate.show import Report, Section, Table, render
    from striate.train.run import machine

    sections = [
        Section(
            f"Figure {finding.figure}",
            f"Paper: {finding.paper} Ours: {finding.ours}. {'Agrees.' if finding.agrees else 'Does not agree.'}",
            finding.pictures,
            finding.tables,
        )
        for finding in found
    ]
    rows = [["pictures", f"{store.path.name}, {len(store):,}"], ["size", size], ["this call took", f"{seconds:.0f} s"]]
    rows += [[name, str(value)] for name, value in machine().items()]
    sections.append(Section("How it was made", "", (), [Table(["", ""], rows)]))
    headline = [(f"{sum(finding.agrees for finding in found)} of {len(found)}", "figures agree")]
    page = render(Report(paper.title, f"on {len(store):,} pictures of {store.path.name}", headline, sections))
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "report.html", lambda temporary: temporary.write_text(page, encoding="utf-8"))
    (out / "figures").mkdir(exist_ok=True)
    for finding in found:
        for number, figure in enumerate(finding.pictures):
            name = f"figure-{finding.figure}{'' if len(finding.pictures) == 1 else '-' + str(number + 1)}.png"
            (out / "figures" / name).write_bytes(figure.png)
    return out / "report.html"


def show(result: dict[str, Any], screen: Screen) -> None:
    """Where the report is; the figures were told one by one."""
    agreeing = sum(figure["agrees"] for figure in result["figures"])
    screen.say(f"{agreeing} of {len(result['figures'])} figures agree; report: {result['report']}")
