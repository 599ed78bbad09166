"""``striate serve``: look at a run and a collection in a browser."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.app.exploring.subject import Subject
    from striate.app.screen import Screen
    from striate.images import ImageStore

SUMMARY = (
    "Open a page in a browser, of this machine alone: how a run goes, its filters and what excites each, a map of a\n"
    "collection, pictures like any of its or yours, which classes are confused, duplicates and labels. Without STORE: of\n"
    "the pictures that the run was trained on, where they are still there."
)
EXAMPLE = "striate serve runs/patches pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory, also one that is training, or an encoder file")
    parser.add_argument(
        "store", metavar="STORE", type=Path, nargs="?", help="a collection (default: what the run learned from)"
    )
    parser.add_argument("--layer", help="whose features make the map and find similar pictures (default: the last)")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    parser.add_argument("--port", type=int, default=8766, help="default: 8766; 0: any that is free")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Serve until interrupted."""
    subject = _subject(args)
    if subject.has_store and subject.has_model:
        subject.check_layer()
        subject.check_fit()
    _serve(args, subject, screen)
    return {"run": str(args.run), "store": str(subject.store.path) if subject.has_store else None}


def _subject(args: argparse.Namespace) -> Subject:
    from striate.app.exploring.subject import Subject
    from striate.images import ImageStore

    if not args.run.exists():
        raise BadInput(f"{args.run} does not exist: give a run directory (`striate train` makes one)")
    if (args.run / "store.json").exists():
        raise BadInput(f"{args.run} is an image store; expected the run first: striate serve RUN {args.run}")
    if args.run.is_dir() and not any((args.run / name).exists() for name in ("run.json", "encoder.safetensors")):
        raise BadInput(f"{args.run} is no run: it has neither run.json nor encoder.safetensors")
    if args.store is not None:
        store, why = ImageStore(args.store), ""
    else:
        store, why = _store_of_run(args.run)  # type: ignore[assignment]
    return Subject(args.run, store, why, args.layer)


def _store_of_run(run: Path) -> tuple[ImageStore | None, str]:
    """The pictures that a run learned from, or why they are not to be had."""
    from striate.app.recipe import check_recipe
    from striate.app.yaml import read_yaml
    from striate.images import ImageStore

    file = run / "recipe.yaml"
    if not file.exists():
        return None, "No collection was given, and this run does not say which it learned from: striate serve RUN STORE."
    recipe = check_recipe(read_yaml(file), "recipe.yaml")
    if recipe.data.store is None:
        return (
            None,
            "No collection was given, and this run learned from photographs that come with libraries: striate serve RUN STORE.",
        )
    try:
        return ImageStore(recipe.data.store), ""
    except BadInput as error:
        return None, f"The pictures that this run learned from are not there ({error}). Give others: striate serve RUN STORE."


def _serve(args: argparse.Namespace, subject: Subject, screen: Screen) -> None:
    from striate.app.exploring.site import Site
    from striate.app.web import server

    token = server.new_token()
    site = Site(subject)
    listening = server.listen(args.host, args.port)
    server.say_address(listening, args.host, token, screen)
    screen.say("Ctrl-C ends it")
    try:
        server.serve(server.application(site.routes(), token, args.host), listening)
    finally:
        site.close()


def show(result: dict[str, Any], screen: Screen) -> None:
    """What comes next."""
    store = result["store"] or "STORE"
    screen.say(f"next: striate search {result['run']} {store} --unit 0, or striate classify {result['run']} {store}")
