"""``striate classify``: a classifier from few labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Learn a classifier from the labelled pictures of a store, on a run's features and beside raw pixels; judge and keep it.\n"
    "  striate classify RUN STORE [--per-class K] [--test STORE]       learn, judge, keep RUN/classifier-METHOD.safetensors\n"
    "  striate classify RUN STORE --curve [--test STORE]               accuracy against labels a class\n"
    "  striate classify RUN STORE --predict OTHER -o FILE              learn, and name the pictures of another store\n"
    "  striate classify RUN --use CLASSIFIER --predict OTHER -o FILE   name them by a classifier that was kept"
)
EXAMPLE = "striate classify runs/patches cifar-train --per-class 20 --test cifar-test --abstain-error 0.05"
METHODS = ("logistic", "means", "finetune")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("store", metavar="STORE", type=Path, nargs="?", help="labelled pictures to learn from")
    parser.add_argument(
        "--per-class", metavar="K", type=int, help="learn from K labels a class, drawn by --seed; else from all"
    )
    parser.add_argument("--test", metavar="STORE", type=Path, help="judge on these; else on labelled pictures left over")
    parser.add_argument("--method", default="logistic", help=f"one or several of {', '.join(METHODS)}, with commas between")
    parser.add_argument("--layer", help="by default the last but for a classifier's")
    parser.add_argument("--classes", metavar="FILE", type=Path, help="the file of classes that labellers worked from")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--to", metavar="FOLDER", type=Path, help="where to keep everything; by default the run")
    curve = parser.add_argument_group("learning curve")
    curve.add_argument("--curve", action="store_true", help="accuracy at 1, 2, 5, 10, ... labels a class")
    curve.add_argument("--counts", metavar="K,K,...", help="labels a class, in place of 1, 2, 5, 10, 20, 50, 100, ...")
    curve.add_argument("--seeds", type=int, default=5, help="draws of labels a point")
    use = parser.add_argument_group("predictions")
    use.add_argument("--predict", metavar="STORE", type=Path, help="name the pictures of this store")
    use.add_argument(
        "-o", "--out", metavar="FILE", type=Path, help="Parquet: key, class, probability, abstained, probabilities"
    )
    use.add_argument("--overwrite", action="store_true", help="replace FILE")
    use.add_argument("--use", metavar="CLASSIFIER", type=Path, help="a classifier that was kept, in place of STORE")
    use.add_argument("--abstain", metavar="P", type=float, help="give no answer below this probability")
    use.add_argument("--abstain-error", metavar="E", type=float, help="abstain such that answers are wrong at most this often")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Learn or read a classifier, judge it, predict."""
    _check(args)
    from striate.app.classifier_file import read_classifier
    from striate.app.features import store_for
    from striate.app.predicting import abstaining, predict

    other = store_for(args.run, args.predict) if args.predict else None
    if args.use is not None:
        assert other is not None
        classifier, result = read_classifier(args.use), {"run": str(args.run), "classifier": str(args.use)}
        rule = abstaining(classifier, args.abstain, args.abstain_error)
        return {**result, **predict(args.run, classifier, other, args.out, rule, screen)}
    return _learn(args, screen, other)


def _learn(args: argparse.Namespace, screen: Screen, other: Any) -> dict[str, Any]:
    from striate.app.classified import Wish, classify_run
    from striate.app.features import store_for
    from striate.app.predicting import abstaining, predict

    store = store_for(args.run, args.store)
    test = store_for(args.run, args.test) if args.test else None
    methods = tuple(args.method.split(","))
    wish = Wish(methods, args.per_class, args.layer, args.seed, args.abstain, args.abstain_error)
    out = _folder(args)
    if args.curve:
        from striate.app.learning_curve import draw_curve

        return draw_curve(args.run, store, test, wish, _counts(args.counts), args.seeds, out, screen, args.classes)
    result, first = classify_run(args.run, store, test, wish, out, screen, args.classes)
    if other is not None:
        assert first.classifier is not None
        rule = abstaining(first.classifier, args.abstain, args.abstain_error)
        model = out / "finetuned" if methods[0] == "finetune" else args.run
        result |= predict(model, first.classifier, other, args.out, rule, screen)
    return result


def _check(args: argparse.Namespace) -> None:
    """Refuse what contradicts itself, before anything is read."""
    if (args.store is None) == (args.use is None):
        raise BadInput("give STORE to learn from, or --use CLASSIFIER that was kept: one of them")
    if (args.predict is None) != (args.out is None):
        raise BadInput("--predict STORE and -o FILE go together: whose pictures to name, and where to write that")
    if args.use is not None and args.predict is None:
        raise BadInput("--use CLASSIFIER needs --predict STORE -o FILE: pictures to name")
    if args.out is not None and args.out.exists() and not args.overwrite:
        raise BadInput(f"{args.out} is there already: choose another name, or --overwrite it")
    if args.abstain is not None and args.abstain_error is not None:
        raise BadInput("--abstain and --abstain-error both say when to give no answer: give one")
    for name in ("abstain", "abstain_error"):
        value = getattr(args, name)
        if value is not None and not 0 < value < 1:
            raise BadInput(f"--{name.replace('_', '-')} is a share between 0 and 1, found {value}")
    if "finetune" in args.method.split(",") and str(args.run).startswith("timm:"):
        raise BadInput(
            "--method finetune goes on training a run of Striate's: of timm's models it takes the features, logistic or means"
        )
    for method in args.method.split(","):
        if method not in METHODS:
            raise BadInput(f"--method is one or several of {', '.join(METHODS)} with commas between, found {method!r}")
    if args.seeds < 1:
        raise BadInput(f"--seeds is a number from 1, found {args.seeds}")


def _counts(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        counts = []
    if not counts or counts[0] < 1:
        raise BadInput(f"--counts is numbers from 1 with commas between, found {text!r}")
    return counts


def _folder(args: argparse.Namespace) -> Path:
    if args.to is None and not args.run.is_dir():
        raise BadInput(f"{args.run} is no run directory to keep a classifier in: say where with --to FOLDER")
    folder: Path = args.to or args.run
    return folder


def show(result: dict[str, Any], screen: Screen) -> None:
    """A table for people, and what usually follows."""
    from rich.table import Table

    if "curve" in result:
        from striate.app.learning_curve import show_curve

        show_curve(result, screen)
        return
    if "methods" in result:
        table = Table(box=None)
        for heading in ("", "accuracy", "95% interval", "calibration error", "before"):
            table.add_column(heading)
        for name, one in result["methods"].items():
            interval = f"{100 * one['low']:.1f} to {100 * one['high']:.1f}%"
            after, before = (f"{100 * one[part]['error']:.1f} points" for part in ("calibration", "calibration_before"))
            table.add_row(name, f"{100 * one['accuracy']:.1f}%", interval, after, before)
        screen.say(table)
        screen.say(f"{result['labels']:,} labels, judged on {result['judged_on']}; report: {result['report']}")
        for name, one in result["methods"].items():
            if "abstain" in one:
                rule = one["abstain"]
                if rule["held_out_coverage"] == 0:
                    screen.say(
                        f"{name}: too few held-out answers to promise that: it gives none; label more, or allow more errors"
                    )
                    continue
                screen.say(
                    f"{name}: answers from probability {rule['threshold']:.3f}: {100 * rule['coverage']:.1f}% of pictures, "
                    f"{100 * rule['error']:.1f}% of answers wrong"
                )
    if "predictions" in result:
        screen.say(f"{result['given']:,} of {result['count']:,} pictures named in {result['predictions']}")
        screen.say("next: striate serve RUN STORE" if "methods" not in result else f"next: striate serve {result['run']}")
        return
    method, kept = next(iter(result["classifiers"].items()))
    model = Path(kept).parent if method == "finetune" else result["run"]
    screen.say(f"next: striate classify {model} --use {kept} --predict STORE -o predictions.parquet")
