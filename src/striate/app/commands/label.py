"""``striate label``: a local page on which people gather, label and verify classes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Label pictures on a local page, a class at a time: keep, reject or ask, by keyboard or mouse, several people at once,\n"
    "each with a name. Every answer is in STORE/labels.sqlite before it is acknowledged. A second person verifies; the review\n"
    "page shows agreement, error rates with intervals, and labels that a model doubts.\n\n"
    "Classes are the store's search terms, or what a file lists:\n\n"
    "    classes:\n"
    "      ship: {terms: [boat], hyponyms: true, include: Any craft that floats., exclude: Submarines under water.}\n"
    "      people: {plural: true, superclass: animals}"
)
EXAMPLE = "striate label pictures --classes classes.yaml --features runs/patches"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("store", metavar="STORE", type=Path)
    parser.add_argument("--classes", metavar="FILE", type=Path, help="classes, their terms and criteria (YAML)")
    parser.add_argument("--wordnet", metavar="DIR", type=Path, help="WordNet's database, for `hyponyms: true`")
    parser.add_argument("--sheet", metavar="FILE", type=Path, help="instructions for the labellers (Markdown)")
    parser.add_argument("--features", metavar="RUN", type=Path, help="a run whose features order the pictures")
    parser.add_argument("--layer", help="of that run (default: the last)")
    parser.add_argument(
        "--verify", metavar="SHARE", type=float, default=1.0, help="share of kept pictures seen by a second person (default: 1)"
    )
    parser.add_argument("--verify-rejected", metavar="SHARE", type=float, default=0.2, help="of rejected ones (default: 0.2)")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    parser.add_argument("--port", type=int, default=8765, help="default: 8765; 0: any that is free")
    parser.add_argument("--no-clean", action="store_true", help="do not set empty pictures aside first")
    parser.add_argument("--summary", action="store_true", help="print counts, agreement and error rates; start no server")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Serve until interrupted; the result is where everything stands."""
    from striate.app.cleaning import clean_if_new
    from striate.app.labelling.classes import classes_of, read_classes
    from striate.app.labelling.ledger import Ledger
    from striate.app.labelling.session import Session
    from striate.images import ImageStore

    for name, share in (("--verify", args.verify), ("--verify-rejected", args.verify_rejected)):
        if not 0 <= share <= 1:
            raise BadInput(f"{name} is a share from 0 to 1, found {share}")
    store = ImageStore(args.store)
    classes = read_classes(args.classes, args.wordnet) if args.classes else classes_of(store)
    if args.summary:
        with Ledger(store.path, writing=False) as ledger:
            return _result(Session(store, classes, ledger, (args.verify, args.verify_rejected)))
    if not args.no_clean:
        clean_if_new(store, screen)
    with Ledger(store.path) as ledger:
        session = Session(store, classes, ledger, (args.verify, args.verify_rejected))
        for one in classes:
            if session.progress(one.name)["found"] == 0:
                screen.warn(f"no picture of {args.store} was found under a term of {one.name!r}: {', '.join(one.terms[:8])}")
        _serve(args, session, screen)
        return _result(session)


def _serve(args: argparse.Namespace, session: Any, screen: Screen) -> None:
    from striate.app.labelling.pages import Pages, read_sheet
    from striate.app.labelling.scoring import Scoring
    from striate.app.web import server

    token = server.new_token()
    pages = Pages(session, read_sheet(args.sheet))
    listening = server.listen(args.host, args.port)
    with Scoring(session, args.features, args.layer, screen):
        server.say_address(listening, args.host, token, screen)
        screen.say("Ctrl-C ends it; every answer that was acknowledged is safe")
        server.serve(server.application(pages.routes(), token, args.host), listening)


def _result(session: Any) -> dict[str, Any]:
    import dataclasses

    from striate.app.labelling.review import review_class, review_labellers

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        return None if isinstance(value, float) and value != value else value

    found = session.verdicts()
    classes = [plain(dataclasses.asdict(review_class(session.ledger, name, session.review, found))) for name in session.classes]
    labellers = [plain(dataclasses.asdict(one)) for one in review_labellers(session.ledger)]
    return {"store": str(session.store.path), "decisions": session.ledger.count, "classes": classes, "labellers": labellers}


def show(result: dict[str, Any], screen: Screen) -> None:
    """A table for people."""
    from rich.table import Table

    table = Table(box=None)
    for heading in ("class", "kept", "verified", "rejected", "disputed", "kappa", "wrong among kept (95%)"):
        table.add_column(heading)
    for one in result["classes"]:
        errors, kappa = one["errors"], one["kappa"]["value"]
        wrong = f"{errors['value']:.1%} ({errors['low']:.1%} to {errors['high']:.1%})" if errors["n"] else "-"
        counts = [f"{one[key]:,}" for key in ("kept", "verified", "rejected", "disputed")]
        table.add_row(one["name"], *counts, "-" if kappa is None else f"{round(kappa, 2) + 0:.2f}", wrong)
    screen.say(table)
    screen.say(f"{result['decisions']:,} decisions; next: striate split {result['store']}")
