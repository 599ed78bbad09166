"""``striate encode``: features of a whole store."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.app.pooled import add_address_argument, add_workers_argument, pooled

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Put every picture of a store through a model and keep a layer's features, with keys that join them to the pictures.\n"
    "The name says the format: .parquet, .npy (with .keys.txt and .about.json beside it) or .safetensors.\n"
    "Interrupted or killed, the same command goes on where it was."
)
EXAMPLE = "striate encode runs/patches cifar-train -o features.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", metavar="RUN", help="a run directory, an encoder.safetensors, or timm:NAME[@FILE]")
    parser.add_argument("store", metavar="STORE", type=Path, help="the pictures")
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, required=True, help="features.parquet, .npy or .safetensors")
    parser.add_argument("--layer", help="by default the last, but for a classifier's logits")
    parser.add_argument("--half", action="store_true", help="float16: half the bytes (.npy and .safetensors)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N; auto (the default) is the first GPU, if any")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    add_address_argument(parser)
    add_workers_argument(parser)


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Encode; the result says what is in the file."""
    from torch import get_num_threads

    from striate.app.encoders import store_for
    from striate.app.features import encode_store
    from striate.compute import keep_memory

    keep_memory()
    store = store_for(args.run, args.store)
    started = time.perf_counter()
    with pooled(args.address, args.workers, get_num_threads(), args.device) as each:
        features = encode_store(
            args.run,
            store,
            args.out,
            screen,
            layer=args.layer,
            device=each.device if each else args.device,
            overwrite=args.overwrite,
            half=args.half,
            each=each,
        )
    about = features.about
    return {
        "out": str(args.out),
        "count": len(features),
        "dim": features.dim,
        **{name: about[name] for name in ("layer", "dtype", "name", "model", "store")},
        "bytes": args.out.stat().st_size,
        "seconds": round(time.perf_counter() - started, 3),
        "run": args.run,
        "pictures": str(args.store),
    }


def show(result: dict[str, Any], screen: Screen) -> None:
    """Two lines for people."""
    screen.say(
        f"{result['out']}: {result['count']:,} pictures x {result['dim']:,} features of {result['layer']} ({result['name']}), "
        f"{result['dtype']}, {result['bytes'] / 2**20:,.1f} MiB, {result['seconds']:.1f} s"
    )
    screen.say(f"next: striate search {result['run']} {result['pictures']}")
