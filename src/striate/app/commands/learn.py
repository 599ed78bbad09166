"""``striate learn``: the main job. A folder of pictures in; layers of features, a measured answer and a report out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput, Interrupted, StriateError

if TYPE_CHECKING:
    from striate.app.recipe import Recipe
    from striate.app.screen import Screen
    from striate.images import ImageStore

SUMMARY = (
    "Import a folder (or any source, or a store), set exact duplicates aside, train a recipe chosen by the number of\n"
    "pictures, probe where there are labels, and write the report. Run it again to go on where it was."
)
EXAMPLE = "striate learn ~/Pictures"

# With fewer pictures than this, a model of whole pictures memorises them; patches give a thousand samples a picture.
_ENOUGH_FOR_WHOLE = 10_000
_FEW = 1000
_PROBE_TRAIN, _PROBE_TEST = 20_000, 5_000
_LEAST_LABELLED = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("source", metavar="FOLDER", type=Path, help="pictures in any form `striate import` takes, or a store")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="override any key of the recipe")
    parser.add_argument("--out", type=Path, help="where everything goes (default: learned/NAME)")
    parser.add_argument("--test", metavar="STORE", type=Path, help="labelled pictures to judge on (default: a tenth set apart)")
    parser.add_argument("--recipe", help="train this one (default: learn/patches, or learn/whole with --whole)")
    parser.add_argument("--whole", action="store_true", help="learn filters of whole 32x32 pictures (needs 10,000 of them)")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Import, train, probe, report."""
    from striate.app.looking import write_report
    from striate.app.recipe import find_recipe, load_recipe
    from striate.images import ImageStore

    out: Path = args.out or Path("learned") / args.source.resolve().name.split(".")[0]
    store_path = args.source if (args.source / "store.json").exists() else _import(args.source, out / "pictures", screen)
    store = ImageStore(store_path)
    name = args.recipe or _choose(len(store), args.whole, screen)
    run_path = out / "run"
    recipe = load_recipe(find_recipe(name), [f"data.store={store_path}", *args.overrides])
    trained = _train(recipe, run_path, store, screen)
    probed = _probe(args.test, store, run_path, screen)
    report, looked = write_report(run_path)
    return {
        "report": str(report.resolve()),
        "run": str(run_path),
        "store": str(store_path),
        "pictures": len(store),
        "recipe": name,
        "seconds_of_training": round(trained["seconds"], 2),
        **{kind: round(share, 4) for kind, share in looked.shares.items()},
        "probe": probed,
    }


def _import(source: Path, store: Path, screen: Screen) -> Path:
    from striate.images import import_images

    try:
        with screen.progress("importing", None, "pictures") as task:
            counts = import_images(source, store, progress=task.advance)
    except KeyboardInterrupt:
        raise Interrupted("import stopped; what was committed is safe: run the same command again to go on") from None
    screen.say(
        f"{counts.seen:,} seen = {counts.kept:,} kept + {counts.rejected:,} rejected + {counts.duplicates:,} exact duplicates"
    )
    if counts.kept + counts.duplicates == 0:
        raise StriateError(f"none of the {counts.seen} files could be used: {store / 'rejected.parquet'} says why")
    return store


def _choose(count: int, whole: bool, screen: Screen) -> str:
    if whole:
        if count < _ENOUGH_FOR_WHOLE:
            raise BadInput(f"--whole needs {_ENOUGH_FOR_WHOLE:,} pictures or more, there are {count:,}: leave it out")
        return "learn/whole"
    if count < _FEW:
        screen.say(f"only {count:,} pictures: the features will be those of few scenes; more pictures make better ones")
    return "learn/patches"


def _train(recipe: Recipe, run_path: Path, store: ImageStore, screen: Screen) -> dict[str, Any]:
    """Begin, or go on with what is there, if it is of the same pictures and settings."""
    from striate.app.training import new_run, resume_run, run_recipe
    from striate.train.checkpoint import read_json

    if not (run_path / "run.json").exists():
        return new_run(recipe, run_path, screen)
    told, known = _settings(recipe), _settings(run_recipe(run_path))
    other = [key for key in told if told[key] != known.get(key) and told[key] != "auto"]
    if other:
        changes = ", ".join(f"{key} was {known.get(key)}, now {told[key]}" for key in other)
        raise BadInput(f"{run_path} was begun with other settings ({changes}): give the same, or another folder with --out")
    if read_json(run_path / "run.json")["store_digest"] != store.digest:
        raise BadInput(
            f"{store.path} has other pictures than when {run_path} began: remove {run_path} to learn from all of them, "
            "or name another folder with --out"
        )
    return resume_run(run_path, screen, store.path)


def _settings(recipe: Recipe) -> dict[str, object]:
    """Every setting by its dotted key, but for the place of the pictures."""
    flat: dict[str, object] = {}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        else:
            flat[prefix] = value

    walk("", recipe.model_dump(mode="json"))
    del flat["data.store"]
    return flat


def _probe(test: Path | None, store: ImageStore, run_path: Path, screen: Screen) -> dict[str, Any] | None:
    """Judge the features where there are labels: on a test store, or on a tenth of the pictures set apart from the probe."""
    import numpy as np

    from striate.app.probing import labelled, probe_run
    from striate.draws import generator
    from striate.images import ImageStore

    positions = np.flatnonzero(store.labels >= 0)
    if len(positions) < _LEAST_LABELLED or len(np.unique(store.labels[positions])) < 2:
        screen.say("no labels (or too few) to probe with: the report shows filters, reconstructions and curves")
        return None
    positions = generator(0, "probe-split").permutation(positions)
    if test is not None:
        train = positions[:_PROBE_TRAIN]
        judged = labelled(ImageStore(test))
    else:
        held = min(_PROBE_TEST, len(positions) // 10)
        train = positions[held : held + _PROBE_TRAIN]
        judged = (store[np.sort(positions[:held])], store.labels[np.sort(positions[:held])])
    train = np.sort(train)
    return probe_run(run_path, (store[train], store.labels[train]), judged, store.class_names, screen)


def show(result: dict[str, Any], screen: Screen) -> None:
    """The main numbers and where the report is."""
    shares = ", ".join(f"{100 * result[name]:.0f}% {name}" for name in ("edge", "point", "noise"))
    screen.say(f"filters: {shares}")
    if result["probe"]:
        pixels, features = result["probe"]["pixels"], result["probe"]["features"]
        screen.say(
            f"named rightly: {100 * features['accuracy']:.1f}% from features, {100 * pixels['accuracy']:.1f}% from raw pixels "
            f"({features['train_size']:,} labelled pictures)"
        )
    screen.say(f"report: {result['report']}")
