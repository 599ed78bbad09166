"""``striate clean``: set pictures aside that show nothing worth a label."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Set mostly white and single-coloured pictures aside, with their reasons; nothing is deleted. Line drawings too, on\n"
    "request. Labelling, splitting and exporting pass over what is set aside; training does not."
)
EXAMPLE = "striate clean pictures --drawings 0.3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("store", metavar="STORE", type=Path)
    parser.add_argument("--white", type=float, default=0.9, help="largest share of white pixels (default: 0.9; 1 allows all)")
    parser.add_argument("--flat", type=float, default=4.0, help="least standard deviation of levels (default: 4; 0 allows all)")
    parser.add_argument(
        "--drawings", type=float, default=1.0, help="largest score of drawn pictures, 0 to 1 (default: 1, all; 0.3 is a start)"
    )
    parser.add_argument("--undo", action="store_true", help="take back what this verb set aside")
    parser.add_argument("--sheet", type=Path, help="where the sheet of them goes (default: STORE/aside/plain.png)")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Score every picture, and draw those set aside."""
    from striate.app.cleaning import clean
    from striate.images import ImageStore
    from striate.show.sheets import contact_sheet, save_png

    store = ImageStore(args.store)
    if args.undo:
        (store.path / "aside" / "plain.parquet").unlink(missing_ok=True)
        return {"store": str(args.store), "pictures": len(store), "aside": 0, "reasons": {}}
    found = clean(store, screen, white=args.white, flat=args.flat, drawings=args.drawings)
    reasons: dict[str, int] = {}
    for row in found:
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    result: dict[str, Any] = {"store": str(args.store), "pictures": len(store), "aside": len(found), "reasons": reasons}
    if found:
        sheet = args.sheet or store.path / "aside" / "plain.png"
        order = sorted(found, key=lambda row: row["reason"])[:400]
        save_png(contact_sheet(store[[row["position"] for row in order]]), sheet)
        result["sheet"] = str(sheet)
    return result


def show(result: dict[str, Any], screen: Screen) -> None:
    """A few lines for people."""
    screen.say(f"{result['aside']:,} of {result['pictures']:,} pictures set aside")
    for reason, count in sorted(result["reasons"].items(), key=lambda pair: -pair[1]):
        screen.say(f"  {count:,} {reason}")
    if "sheet" in result:
        screen.say(f"look at them: {result['sheet']}")
    screen.say(f"next: striate dedupe {result['store']}")
