"""``striate show``: pictures of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Draw what a run learned: filters (with shares of edges, points and noise), curves, reconstructions, the report.\n"
    "With a net's name (paper, source, half, one-gpu, 80sec, ...): its switches beside other nets', its layers and sizes."
)
EXAMPLE = "striate show runs/patches filters"

WHAT = ("filters", "curves", "reconstructions", "activities", "report")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", metavar="RUN|NET", type=Path)
    parser.add_argument("what", nargs="?", choices=WHAT, default="report")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Draw into the run's directory; the result holds paths and shares."""
    if not args.run.exists() and args.run.name == str(args.run):
        from striate.app.profiles import NETS, describe

        if args.run.name in NETS:
            return describe(args.run.name)
    from striate.app import looking

    if args.what == "report":
        path, looked = looking.write_report(args.run)
        return {"report": str(path), **_rounded(looked.shares)}
    if args.what == "filters":
        looked = looking.look(args.run)
        sheets = looking.write_figures(looked)
        return {
            **_rounded(looked.shares),
            "sheet": str(sheets.get("filters-dewhitened", sheets["filters"])),
            "sheets": {name: str(path) for name, path in sheets.items()},
        }
    if args.what == "curves":
        return {"figures": _curves(args.run)}
    return {"figures": [_of_pictures(args.run, args.what)]}


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


def _curves(run_path: Path) -> list[str]:
    from striate.show import figures as draw
    from striate.train.run import read_metrics

    metrics = read_metrics(run_path)
    if not metrics:
        raise BadInput(f"{run_path} has no metrics.jsonl with a line in it: is it a run directory?")
    steps = [line["step"] for line in metrics]
    written = []
    for name in metrics[0].keys() - {"step", "seconds", "epoch"}:
        path = run_path / "figures" / f"curve-{name.replace('_', '-')}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(draw.curve(steps, [line[name] for line in metrics], "step", name.replace("_", " ")))
        written.append(str(path))
    return sorted(written)


def _of_pictures(run_path: Path, what: str) -> str:
    from striate.app import looking
    from striate.show import figures as draw

    looked = looking.look(run_path)
    pictures = looking.sample_pictures(looked, 2000)
    if pictures is None:
        raise BadInput(f"the pictures that {run_path} was trained on are no longer where its recipe says")
    path = run_path / "figures" / f"{what}.png"
    path.parent.mkdir(exist_ok=True)
    parts = looked.model.parts
    if what == "reconstructions" and not parts.rebuilds:
        raise BadInput(f"{run_path} is a net: it has no reconstructions")
    if what == "reconstructions":
        path.write_bytes(looking.reconstructions(looked, pictures[:40]))
    else:
        path.write_bytes(draw.histogram(looking.mean_activities(looked, pictures), "mean activity", log=True))
    return str(path)


def show(result: dict[str, Any], screen: Screen) -> None:
    """Paths and shares for people; tables for a net."""
    if "net" in result:
        _show_net(result, screen)
        return
    if "edge" in result:
        screen.say("  ".join(f"{name} {100 * result[name]:.0f}%" for name in ("edge", "point", "noise")))
    for path in [result.get("report"), *result.get("sheets", {}).values(), *result.get("figures", [])]:
        if path:
            screen.say(path)


def _show_net(result: dict[str, Any], screen: Screen) -> None:
    from rich.table import Table

    if "switches" in result:
        profiles = result["switches"]
        switches = Table(box=None, title="switches (* differs from this net's)")
        for heading in ("switch", *profiles):
            switches.add_column(heading, overflow="fold")
        for key, own in profiles[result["net"]].items():
            cells = [f"{_cell(found[key])}{'' if found[key] == own else ' *'}" for found in profiles.values()]
            switches.add_row(key, *cells)
        screen.say(switches)
    layers = Table(box=None, title=f"{result['net']}: {result['parameters']:,} parameters")
    for heading in ("layer", "output", "parameters", "multiply-adds"):
        layers.add_column(heading, justify="right")
    for one in result["layers"]:
        sizes = "x".join(map(str, one["output"]))
        layers.add_row(one["layer"], sizes, f"{one['parameters']:,}" or "", f"{one['multiply_adds']:,}")
    screen.say(layers)
    screen.say(f"{result['training_gflop']} GFLOP a training picture")


def _cell(value: Any) -> str:
    return (
        "yes"
        if value is True
        else "no"
        if value is False
        else " ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
