"""``striate doctor``: what hardware, what is fast here, what is missing."""

from __future__ import annotations

import argparse
import importlib.util
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = "What hardware is here, which number format is fast on it, and which optional packages are missing."
EXAMPLE = "striate doctor"

_OPTIONAL = {"av": "videos: pip install 'striate[video]'", "tensorboard": "TensorBoard events: pip install tensorboard"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments: none."""


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Look around and time a product in each format."""
    from striate.compute import choose_device, choose_dtype, product_rates
    from striate.train.run import machine

    device = choose_device()
    rates = product_rates(str(device), (1024, 2048, 2048))
    missing = {name: what for name, what in _OPTIONAL.items() if importlib.util.find_spec(name) is None}
    chosen = "bf16" if choose_dtype("auto", device, (1024, 2048, 2048)).itemsize == 2 else "fp32"
    return {
        **machine(),
        "memory_gb": memory_gb(),
        "device": str(device),
        "gflop_s": {name: round(rate, 1) for name, rate in rates.items()},
        "auto_dtype": chosen,
        "missing": missing,
    }


def memory_gb() -> float | None:
    """Memory of this machine in units of 2^30 bytes, where the system tells it."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def show(result: dict[str, Any], screen: Screen) -> None:
    """Lines for people."""
    memory = f"{result['memory_gb']:g} GB of memory, " if result["memory_gb"] else ""
    screen.say(f"{result['processor']}, {result['threads']} threads, {memory}GPU: {result['gpu'] or 'none'}")
    screen.say(f"Python {result['python']}, torch {result['torch']}")
    rates = ", ".join(f"{name} {rate:,.0f} GFLOP/s" for name, rate in result["gflop_s"].items())
    screen.say(f"matrix products on {result['device']}: {rates}; train.dtype=auto takes {result['auto_dtype']}")
    for name, what in result["missing"].items():
        screen.say(f"not installed: {name} ({what})")
