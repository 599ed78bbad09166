"""``striate doctor``: what hardware, what is fast here, what is missing, how long typical jobs would take."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "What hardware is here, which number format is fast on it, which optional packages are missing and what each is for, and\n"
    "about how long typical jobs would take. Exit code 1 if Striate cannot work here; the last lines say why."
)
EXAMPLE = "striate doctor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments: none."""


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Look around, time products, decoding and memory."""
    from striate import __version__
    from striate.app import checkup
    from striate.compute import choose_device, choose_dtype, product_rates
    from striate.train.run import machine

    device, shape = choose_device(), (1024, 2048, 2048)
    rates = product_rates(str(device), shape)
    auto = "bf16" if choose_dtype("auto", device, shape).itemsize == 2 else "fp32"
    found = checkup.problems(Path.cwd(), device)
    return {
        "striate": __version__,
        **machine(),
        "cores": os.cpu_count(),
        "memory_gb": checkup.memory_gb(),
        "free_memory_gb": checkup.free_memory_gb(),
        "free_disk_gb": checkup.free_disk_gb(Path.cwd()),
        "device": str(device),
        "gflop_s": {name: round(rate, 1) for name, rate in rates.items()},
        "auto_dtype": auto,
        "decoded_per_s": checkup.decoding_rate_per_s(),
        "written_gb_s": checkup.writing_gb_s(),
        "keeps_memory": checkup.keeps_memory(),
        "about_seconds": checkup.job_seconds(rates[auto]),
        "missing": checkup.missing_extras(),
        "problems": found,
        "exit_code": 1 if found else 0,
    }


def show(result: dict[str, Any], screen: Screen) -> None:
    """Lines for people."""
    screen.say(f"Striate {result['striate']}, Python {result['python']}, torch {result['torch']}")
    screen.say(f"{result['processor']}, {result['cores']} cores, {result['threads']} threads, GPU: {result['gpu'] or 'none'}")
    free = result["free_memory_gb"]
    memory = f"{result['memory_gb']:g} GB of memory{f', {free:g} free' if free else ''}; " if result["memory_gb"] else ""
    screen.say(f"{memory}{result['free_disk_gb']:,g} GB free on this disk")
    rates = ", ".join(f"{name} {rate:,.0f} GFLOP/s" for name, rate in result["gflop_s"].items())
    screen.say(f"matrix products on {result['device']}: {rates}; train.dtype=auto takes {result['auto_dtype']}")
    if result["decoded_per_s"]:
        screen.say(f"decoding: {result['decoded_per_s']:,.0f} JPEG photographs of 256 px a second on one core")
    written, keeps = result["written_gb_s"], "kept while training" if result["keeps_memory"] else "given back: no glibc here"
    screen.say(
        f"memory: {written['kept']:g} GB/s written, {written['fresh']:g} GB/s where it is fresh; freed memory is {keeps}"
    )
    screen.say("about how long, on an otherwise idle machine:")
    for job, seconds in result["about_seconds"].items():
        screen.say(f"  {_duration(seconds):>10}  {job}")
    for name, absent in result["missing"].items():
        screen.say(f"not installed: {', '.join(absent['packages'])}, for {absent['purpose'] or name}: {absent['install']}")
    for problem in result["problems"]:
        screen.say(f"PROBLEM: {problem}")
    if not result["problems"]:
        screen.say("all that Striate needs is here; next: striate learn FOLDER")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
