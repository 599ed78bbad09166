"""``striate bench``: measure this machine against the bars, with peers in the same run."""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = "Measure one claim, or all: ours, the floor, and peers in the same run. Needs a checkout (benchmarks/)."
EXAMPLE = "striate bench cd-step --quick"

# name -> what it claims; the file is benchmarks/NAME.py with underscores
NAMES = {
    "cd-step": "a CD-1 step beside its bare matrix products",
    "cd-peers": "CD-1 images/s beside scikit-learn, rbms, learnergy and plain torch",
    "parallel-cd": "contrastive divergence shared by processes: speed, bytes, drift, beside a model of its costs",
    "async-sgd": "replicas that exchange asynchronously: speed, traffic, updates, recovery",
    "simulator": "what the simulator and the models of costs predict beside what is measured here",
    "chaos": "a hundred kills of replicas and shards in a run: what it learns beside undisturbed ones, what is lost, recovery",
    "patch-rbms": "26 patch RBMs side by side beside one after another",
    "backprop-step": "a step of fine-tuning beside its bare products and torch's own autograd",
    "grbm-options": "what each option gives a Gaussian RBM whose likelihood is known",
    "local-layer": "a locally connected layer's step beside ways to write it in plain torch",
    "autoencoder": "a whole step of a sparse autoencoder beside its bare products; on a GPU, a billion connections",
    "tiles": "two processes that share a sparse autoencoder's places beside one",
    "cluster-data": "import, statistics, encoding and near-duplicates by Ray's workers: speed, same bytes",
    "lrn": "response normalisation in AlexNet's step beside torch's own and none",
    "convnet": "AlexNet's training step beside the same net of torch's own layers",
    "feed": "256-pixel JPEG photographs to augmented crops, one core, beside the decoders alone",
    "import": "importing JPEG files beside a plain Pillow loop",
    "whitening": "streamed whitening statistics beside the bare product",
    "duplicates": "near-duplicates of CIFAR-10 beside FAISS and imagededup, and planted copies found",
    "encode": "encoding a store beside the model's bare forward passes",
    "search": "exact and Hamming search beside the bare product and FAISS",
    "page": "the page of a run and 60,000 pictures: first paint, the map's frames a second",
    "first-report": "from a folder of 5,000 photographs to a report, with the commands a newcomer types",
    "labelling": "the labelling page's speed, decisions that a model's order saves, wrong labels found beside cleanlab",
    "memory": "peak memory on a store ten times larger than the limit",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="one of those listed without a name")
    parser.add_argument("--all", action="store_true", help="every one of them")
    parser.add_argument("--quick", action="store_true", help="a version of each that takes under a minute")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/MACHINE/NAME.json")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Run benchmarks; without a name, list them."""
    if args.name is None and not args.all:
        return {"benchmarks": NAMES}
    if args.name is not None and args.name not in NAMES:
        nearest = difflib.get_close_matches(args.name, NAMES, 1, 0.5)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(NAMES)}"
        raise BadInput(f"no benchmark {args.name!r}: {hint}")
    folder = Path(__file__).resolve().parents[4] / "benchmarks"
    if not folder.is_dir():
        raise BadInput("benchmarks are part of a checkout, not of the installed package: clone the project and run there")
    from striate.train.run import machine

    sys.path.insert(0, str(folder))
    rows: list[dict[str, Any]] = []
    for name in NAMES if args.all else [args.name]:
        screen.say(f"measuring {name}: {NAMES[name]}")
        # `import` is a keyword: its file ends in an underscore.
        module = importlib.import_module("import_" if name == "import" else name.replace("-", "_"))
        measured = module.rows(args.quick)
        rows += measured
        if args.save:
            _save(folder / "results", name, machine(), measured)
    return {"machine": machine(), "rows": rows}


def _save(results: Path, name: str, described: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    label = described["gpu"] or f"{described['processor']} {described['threads']} threads"
    folder = results / re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"machine": described, "rows": rows}, indent=1) + "\n")


def show(result: dict[str, Any], screen: Screen) -> None:
    """The table for people."""
    from rich.table import Table

    table = Table(box=None)
    if "benchmarks" in result:
        for name, claim in result["benchmarks"].items():
            table.add_row(name, claim)
        screen.say(table)
        return
    for heading in ("measure", "value", "bar", "in the same run"):
        table.add_column(heading, overflow="fold")
    for row in result["rows"]:
        peers = ", ".join(f"{name} {value:g}" for name, value in row["peers"].items())
        table.add_row(row["measure"], f"{row['value']:g} {row['unit']}", row["bar"], peers)
    screen.say(table)
