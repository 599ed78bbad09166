"""``striate import``: pictures of any format into a store."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.app.pooled import add_address_argument, pooled
from striate.errors import Interrupted, StriateError

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Bring pictures into a store of fixed-size pictures: folders, tar and WebDataset, Parquet, IDX (MNIST), CIFAR,\n"
    "tiny_images.bin, .npy/.npz, videos. Bad files are counted and named; an interrupted import goes on where it was."
)
EXAMPLE = "striate import ~/Pictures pictures --size 64"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("source", metavar="SOURCE", type=Path, help="a folder, archive or file of pictures")
    parser.add_argument("store", metavar="STORE", type=Path, help="the store's directory; added to if it exists")
    parser.add_argument("--size", type=parse_size, help="side, or HEIGHTxWIDTH, in pixels (default: 32, or the arrays' own)")
    parser.add_argument("--fit", choices=["crop", "stretch"], default="crop", help="centre crop, or ignore the aspect ratio")
    parser.add_argument("--mode", choices=["rgb", "grey"], help="default: rgb, or what the source's arrays are")
    parser.add_argument("--limit", type=int, help="stop after this many pictures of the source")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many pictures of the source first")
    parser.add_argument(
        "--treat",
        metavar="SEED",
        type=int,
        help="shift, scale, blur and encode all pictures alike (--mode grey): docs/sparse.md",
    )
    parser.add_argument(
        "--workers", type=int, help="processes that decode (default: one a core, of the cluster with --address)"
    )
    add_address_argument(parser)
    parser.add_argument("--every", type=int, default=1, help="videos: one frame in this many; 0: the middle frame of each file")
    parser.add_argument(
        "--tiny-order", choices=["columns", "rows"], default="columns", help="tiny_images.bin: order of a plane"
    )
    parser.add_argument(
        "--jpeg", metavar="QUALITY", type=int, help="keep pictures as JPEG, for convolutional nets: --size 256 --jpeg 90"
    )
    parser.add_argument(
        "--devkit", metavar="DIR", type=Path, help="ImageNet's development kit: labels for a folder of validation pictures"
    )
    parser.add_argument("--max-pixels", type=int, default=100_000_000, help="pictures promising more are rejected undecoded")
    parser.add_argument("--min-side", type=int, default=8, help="pictures with a shorter side are rejected (default: 8 pixels)")


def parse_size(text: str) -> tuple[int, int]:
    """``64`` or ``48x64`` (height by width)."""
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: expected for example 64, or 48x64 (height x width)")
    return int(parts[0]), int(parts[-1])


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Import; the result counts what became of every picture of the source."""
    from striate.images import import_images
    from striate.images.store import read_rows

    try:
        elsewhere = args.workers if args.address else None
        with pooled(args.address, elsewhere) as each, screen.progress("importing", None, "pictures") as task:
            counts = import_images(
                args.source,
                args.store,
                size=args.size,
                fit=args.fit,
                mode=args.mode,
                limit=args.limit,
                workers=args.workers,
                every=args.every,
                tiny_order=args.tiny_order,
                max_pixels=args.max_pixels,
                min_side=args.min_side,
                quality=args.jpeg,
                treat=args.treat,
                skip=args.skip,
                devkit=args.devkit,
                progress=task.advance,
                each=each,
            )
    except KeyboardInterrupt:
        raise Interrupted("import stopped; what was committed is safe: run the same command again to go on") from None
    reasons: dict[str, int] = {}
    rejected = read_rows(args.store, "rejected")
    for reason, source in zip(rejected["reason"].to_pylist(), rejected["source"].to_pylist()):
        if source == str(args.source.resolve()):
            kind = str(reason).split(":")[0]
            reasons[kind] = reasons.get(kind, 0) + 1
    if counts.kept + counts.duplicates == 0:
        listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        raise StriateError(
            f"none of the {counts.seen} files of {args.source} could be used ({listed}): "
            f"{args.store / 'rejected.parquet'} names them"
        )
    for name in _empty_classes(args.source):
        screen.warn(f"class folder {name!r} holds no file: no picture will have its label")
    return {**dataclasses.asdict(counts), "reasons": reasons, "store": str(args.store)}


def _empty_classes(source: Path) -> list[str]:
    """Folders without a file, beside others that have some."""
    folders = sorted(one for one in source.iterdir() if one.is_dir()) if source.is_dir() else []
    empty = [one.name for one in folders if not any(file.is_file() for file in one.rglob("*"))]
    return empty if len(empty) < len(folders) else []


def show(result: dict[str, Any], screen: Screen) -> None:
    """A few lines for people."""
    screen.say(
        f"{result['seen']:,} seen = {result['kept']:,} kept + {result['rejected']:,} rejected + "
        f"{result['duplicates']:,} duplicates ({result['added']:,} added now)"
    )
    for reason, count in sorted(result["reasons"].items(), key=lambda pair: -pair[1]):
        screen.say(f"  rejected {count:,}: {reason}")
    screen.say(f"next: striate info {result['store']}")
