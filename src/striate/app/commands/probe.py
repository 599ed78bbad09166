"""``striate probe``: are the features any good?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Train multinomial logistic regression on raw pixels and on a run's features; accuracy with 95% intervals.\n"
    "Without --train: a convolutional net's own answers, or those of several mixed, from one view or more."
)
EXAMPLE = "striate probe runs/patches --train cifar-train --test cifar-test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+")
    parser.add_argument("--train", metavar="STORE", type=Path, help="labelled pictures to train on")
    parser.add_argument("--test", metavar="STORE", type=Path, required=True, help="other labelled pictures to judge on")
    parser.add_argument("--layer", help="by default the model's last")
    parser.add_argument(
        "--likelihood", action="store_true", help="measure an RBM's log-likelihood of the test pictures instead"
    )
    parser.add_argument("--chains", type=int, default=100, help="of annealed importance sampling, for --likelihood")
    parser.add_argument("--limit", type=int, help="train on at most so many pictures")
    parser.add_argument("--views", choices=["centre", "ten", "nine"], default="centre", help="of each test picture")
    parser.add_argument("--tune", metavar="STORE", type=Path, help="other labelled pictures to choose a mixture's weights on")
    parser.add_argument("--predictions", metavar="FILE", type=Path, help="write probabilities as Parquet")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Probe; the result holds both accuracies."""
    from striate.app.probing import labelled, probe_run
    from striate.images import ImageStore

    test = ImageStore(args.test)
    if args.train is None:
        from striate.app.answering import answer

        if args.likelihood:
            raise BadInput("--likelihood needs --train: a model is held against the pictures it was trained on")
        return answer(args.runs, test, screen, args.views, args.tune and ImageStore(args.tune), args.predictions)
    if len(args.runs) > 1:
        raise BadInput("with --train one run is probed at a time; without it several convolutional nets are mixed")
    [run_path] = args.runs
    train = ImageStore(args.train)
    if args.likelihood:
        from striate.app.likelihood import likelihood_of_run

        return likelihood_of_run(run_path, train, test, screen, args.chains)
    names = train.class_names or test.class_names
    return probe_run(run_path, labelled(train, args.limit), labelled(test), names, screen, args.layer)


def show(result: dict[str, Any], screen: Screen) -> None:
    """A table for people."""
    from rich.table import Table

    if "log_z" in result:
        screen.say(
            f"log-likelihood {result['value']:.2f} nats a picture ({result['low']:.2f} to {result['high']:.2f}), conservative "
            f"{result['conservative']:.2f}; log Z {result['log_z']:.2f} +- {result['log_z_error']:.2f}, "
            f"{result['effective']:.0f} of {result['runs']} chains effective; {result['n']:,} pictures"
        )
        return
    if "top1_error" in result:
        _show_answers(result, screen)
        return
    table = Table(box=None)
    for heading in ("from", "accuracy", "95% interval", "dimensions", "train", "test"):
        table.add_column(heading)
    for name in ("pixels", "features", "net"):
        if name not in result:
            continue
        found = result[name]
        table.add_row(
            name,
            f"{100 * found['accuracy']:.1f}%",
            f"{100 * found['low']:.1f} to {100 * found['high']:.1f}%",
            f"{found['dim']:,}",
            f"{found['train_size']:,}",
            f"{found['test_size']:,}",
        )
    screen.say(table)
    screen.say(f"next: striate show {result['run']} report")


def _show_answers(result: dict[str, Any], screen: Screen) -> None:
    for run, found in zip(result["runs"], result.get("each", [])):
        screen.say(f"{run}: {_errors(found)}")
    screen.say(f"{_errors(result)}, 95% interval {100 * result['low']:.1f} to {100 * result['high']:.1f}%")
    screen.say(f"{result['count']:,} pictures; {result['protocol']}")
    if result["weights"]:
        screen.say(f"mixed by weights {', '.join(f'{weight:.2f}' for weight in result['weights'])}")


def _errors(found: dict[str, Any]) -> str:
    tops = [f"top-{name[3:-6]} error {100 * found[name]:.2f}%" for name in ("top1_error", "top5_error") if name in found]
    return ", ".join(tops)
