"""What the benchmarks share: interleaved medians, so that a machine that slows down slows everything alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def interleaved(calls: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, float]:
    """Seconds a call of each, medians over rounds; in every round each is called once, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warm_up + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def row(measure: str, value: float, unit: str, bar: str, peers: dict[str, float] | None = None) -> dict[str, object]:
    """One line of a benchmark's table."""
    rounded = {name: float(f"{peer:.4g}") for name, peer in (peers or {}).items()}
    return {"measure": measure, "value": float(f"{value:.4g}"), "unit": unit, "peers": rounded, "bar": bar}
