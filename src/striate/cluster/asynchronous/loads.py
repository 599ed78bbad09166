"""How busy shards are: from what each has counted by its own clock, at two moments. No two machines' clocks are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Load = Mapping[str, float]
# Shorter times than this tell little.
_OVER_S = 1.0


class Loads:
    """Rates of every shard, of late.

    Args:
        count: of shards.
    """

    def __init__(self, count: int) -> None:
        self._before: list[Load] = [{}] * count
        self._rates: list[dict[str, float]] = [{}] * count

    def add(self, told: Sequence[Load]) -> None:
        """What each has counted since it began: `busy_s`, `pushes`, bytes, and `up_s`, the time in which it has."""
        for number, load in enumerate(told):
            before = self._before[number]
            if before.get("up_s", 0.0) > load["up_s"]:
                # It was begun again, and counts from nothing.
                before = {}
            seconds = load["up_s"] - before.get("up_s", 0.0)
            if seconds < _OVER_S:
                continue
            self._rates[number] = {name: (load[name] - before.get(name, 0.0)) / seconds for name in load if name != "up_s"}
            self._before[number] = dict(load)

    def each(self) -> list[dict[str, float]]:
        """Of each: the share of time it was busy, pushes and bytes a second; nothing before the first second."""
        names = {
            "busy_s": "busy",
            "pushes": "pushes_per_s",
            "pushed_bytes": "in_bytes_per_s",
            "pulled_bytes": "out_bytes_per_s",
        }
        return [{names[name]: rate for name, rate in rates.items()} for rates in self._rates]

    def readings(self) -> dict[str, float]:
        """Of all: the busiest one's share, and sums."""
        known = [one for one in self.each() if one]
        if not known:
            return {}
        sums = {f"shards_{name}": sum(one[name] for one in known) for name in known[0] if name != "busy"}
        return {"shards_busy_most": max(one["busy"] for one in known), **sums}
