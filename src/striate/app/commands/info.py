"""``striate info``: what a store holds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = "What a store holds: counts, classes, size, brightness, and a contact sheet."
EXAMPLE = "striate info pictures"

_SAMPLE = 2000
_SHEET = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("store", metavar="STORE", type=Path)
    parser.add_argument("--sheet", type=Path, help="where the contact sheet goes (default: STORE/contact.png)")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Read the store and draw its contact sheet."""
    import numpy as np

    from striate.images import ImageStore, total_counts
    from striate.images.aside import aside_reasons
    from striate.show.sheets import contact_sheet, save_png

    store = ImageStore(args.store)
    counts = total_counts(args.store)
    labels, numbers = np.unique(store.labels, return_counts=True)
    names = store.class_names
    classes = {(names[i] if 0 <= i < len(names) else str(i)): int(n) for i, n in zip(labels, numbers) if i >= 0}
    result: dict[str, Any] = {
        "store": str(args.store),
        "pictures": len(store),
        "shape": list(store.shape),
        "bytes": int(len(store) * np.prod(store.shape)),
        "labelled": int((store.labels >= 0).sum()),
        "classes": classes,
        "seen": counts.seen,
        "rejected": counts.rejected,
        "duplicates": counts.duplicates,
        "aside": len(aside_reasons(store)),
        "digest": store.digest,
    }
    if len(store):
        sample = store[np.linspace(0, len(store) - 1, min(_SAMPLE, len(store))).astype(int)].astype(np.float32)
        result["mean_level"] = round(float(sample.mean()), 2)
        result["contrast"] = round(float(sample.std(axis=(1, 2, 3)).mean()), 2)
        chosen = store[np.linspace(0, len(store) - 1, min(_SHEET, len(store))).astype(int)]
        sheet = args.sheet or args.store / "contact.png"
        save_png(contact_sheet(chosen), sheet)
        result["sheet"] = str(sheet)
    return result


def show(result: dict[str, Any], screen: Screen) -> None:
    """A table for people."""
    from rich.table import Table

    channels, height, width = result["shape"]
    table = Table(show_header=False, box=None)
    table.add_row("pictures", f"{result['pictures']:,}, {height}x{width} {'RGB' if channels == 3 else 'grey'}")
    table.add_row("on disk", f"{result['bytes'] / 2**20:,.1f} MiB")
    table.add_row("seen", f"{result['seen']:,}: {result['rejected']:,} rejected, {result['duplicates']:,} duplicates set aside")
    if result["aside"]:
        table.add_row("set aside", f"{result['aside']:,} by `clean` or `dedupe`: not shown to labellers, in no split")
    classes = result["classes"]
    shown = ", ".join(f"{name} {count:,}" for name, count in list(classes.items())[:12])
    more = f" and {len(classes) - 12} more" if len(classes) > 12 else ""
    table.add_row("labels", f"{result['labelled']:,} in {len(classes)} classes: {shown}{more}" if classes else "none")
    if "sheet" in result:
        table.add_row("levels", f"mean {result['mean_level']}, contrast (mean standard deviation) {result['contrast']}")
    screen.say(table)
    if "sheet" in result:
        # A line of its own: a table would cut a long path.
        screen.say(f"contact sheet: {result['sheet']}")
