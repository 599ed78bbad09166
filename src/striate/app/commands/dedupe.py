"""``striate dedupe``: near-duplicates found, grouped, set aside; leakage between sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.app.pooled import add_address_argument, add_workers_argument, pooled
from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Find near-duplicates (re-saved, resized, cropped by a pixel or two, on request mirrored), keep the best of each group\n"
    "and set the others aside; nothing is deleted. The threshold is calibrated on copies of your own pictures. With\n"
    "--against, also tell which pictures another store shares with this one."
)
EXAMPLE = "striate dedupe cifar-train --against cifar-test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("store", metavar="STORE", type=Path)
    parser.add_argument("--against", metavar="STORE", type=Path, action="append", default=[], help="look for twins there too")
    parser.add_argument(
        "--metric",
        choices=["contrast", "l2"],
        default="contrast",
        help="mean removed and norm 1, or the paper's plain distance",
    )
    parser.add_argument("--threshold", type=float, help="largest distance of a pair (default: calibrated)")
    parser.add_argument(
        "--crops", type=float, default=2.0, help="pixels of 32 by which a side may have been cut off (default: 2; 0: none)"
    )
    parser.add_argument("--mirrored", action="store_true", help="mirrored copies are duplicates too")
    parser.add_argument("--features", metavar="RUN", type=Path, help="compare a run's features instead of pictures")
    parser.add_argument("--layer", help="of that run (default: the last)")
    parser.add_argument(
        "--index", choices=["exact", "faiss"], default="exact", help="beyond tens of millions: an index, not exact"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dry-run", action="store_true", help="report only, set nothing aside")
    parser.add_argument("--undo", action="store_true", help="take back what this verb set aside")
    add_address_argument(parser)
    add_workers_argument(parser)
    parser.add_argument("--page", type=Path, help="where the report goes (default: STORE/duplicates.html)")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Find, group, set aside, report."""
    from torch import get_num_threads

    from striate.app.duplicates import find_duplicates, set_aside, summary, write_page
    from striate.images import ImageStore
    from striate.images.work import one_by_one

    stores = [ImageStore(path) for path in (args.store, *args.against)]
    if args.undo:
        (stores[0].path / "aside" / "duplicates.parquet").unlink(missing_ok=True)
        return {"store": str(args.store), "aside": 0, "undone": True}
    if args.threshold is not None and args.threshold <= 0:
        raise BadInput(f"--threshold must be above 0, found {args.threshold}")
    if not 0 <= args.crops <= 4:
        raise BadInput(f"--crops is from 0 to 4 pixels (of 32), found {args.crops}")
    if args.address is not None and args.device not in ("auto", "cpu"):
        raise BadInput(f"--device {args.device} is this machine's: a cluster compares on its processors, leave one of them out")
    features = None
    if args.features is not None:
        from striate.app.features import features_of

        features = features_of(args.features, stores, args.layer, screen)
    with pooled(args.address, args.workers, get_num_threads()) as each:
        found = find_duplicates(
            stores,
            screen,
            metric=args.metric,
            threshold=args.threshold,
            crops=args.crops,
            mirrored=args.mirrored,
            device=each.device if each else args.device,
            features=features,
            index=args.index,
            each=each or one_by_one,
        )
    result = {"store": str(args.store), **summary(found)}
    result["aside"] = 0 if args.dry_run else set_aside(found)
    result["page"] = str(write_page(found, args.page or args.store / "duplicates.html"))
    return result


def show(result: dict[str, Any], screen: Screen) -> None:
    """A few lines for people."""
    if "undone" in result:
        screen.say(f"nothing of {result['store']} is set aside as a near-duplicate any more")
        return
    why = ""
    if "calibration" in result:
        missed = result["calibration"]["copies_missed"]
        why = f": {1 - missed:.1%} of copies made of {result['calibration']['sample']:,} of your pictures lie within"
    screen.say(f"threshold {result['threshold']}{why}")
    screen.say(
        f"{result['pairs']:,} pairs in {result['groups']:,} groups (the largest of {result['largest_group']}), "
        f"{result['pairs_with_different_labels']:,} pairs with different labels, {result['seconds']} s"
    )
    for name, one in result.get("leakage", {}).items():
        screen.say(
            f"{one['pictures']:,} of {one['of']:,} pictures of {name} have a twin in {result['store']} "
            f"({one['share']:.2%}, {one['low']:.2%} to {one['high']:.2%})"
        )
    screen.say(f"{result['aside']:,} pictures set aside; look at them: {result['page']}")
    screen.say(f"next: striate label {result['store']}")
