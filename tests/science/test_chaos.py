"""Asynchronous training under fire: replicas and shards killed at random moments, dozens of times, and what is left of it.

Counting replicas show every loss: each minibatch adds one to every weight (tests/crews.py).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import crews
from striate.draws import generator

pytestmark = pytest.mark.science

KILLS, STEPS, EVERY_S = 24, 6000, 0.3


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """Its processes find the learners of `crews`."""
    with crews.engine() as connected:
        yield connected


@pytest.mark.timeout(900)
def test_dozens_of_kills_lose_what_is_counted_and_hang_nothing(ray: ModuleType, tmp_path: Path) -> None:
    """Two shards, three replicas, a SIGKILL at random about every second: no step takes a minute; applied and lost are all."""
    made = crews.fleet(ray, crews.crew(tmp_path, replicas=3, snapshot_every_s=EVERY_S), STEPS, step_s=0.01)
    random, killed, longest = generator(0, "chaos"), {"replica": 0, "shard": 0}, 0.0
    due, recovered = time.monotonic() + 1, []
    for number in range(STEPS):
        begun = time.monotonic()
        made.step(number)
        longest = max(longest, time.monotonic() - begun)
        if time.monotonic() > due and sum(killed.values()) < KILLS:
            what = "shard" if random.random() < 0.3 else "replica"
            if _kill(ray, made, what, int(random.integers(6))):
                killed[what] += 1
                recovered.append(time.monotonic())
            due = time.monotonic() + 0.5 + random.random()
    state, told = made.state(), made.counted()
    made.close()
    assert longest < 60 and sum(killed.values()) >= KILLS // 2, (longest, killed)
    assert killed["replica"] > 3 and killed["shard"] > 1
    weights = state["weight"]
    # Each once, more where a lost replica's leases were learned from twice, fewer where a shard's last moments are gone.
    lost = _most_lost(killed["shard"], EVERY_S)
    assert STEPS - lost <= float(weights.min()) and float(weights.max()) <= STEPS + told["minibatches_redone"], (told, killed)
    print(
        f"killed {killed}, weights {weights.min():.0f} to {weights.max():.0f} of {STEPS}, {told}, longest step {longest:.1f} s"
    )


def _most_lost(shards: int, every_s: float) -> float:
    """Minibatches that shards can lose: three replicas' at 100 a second at most, between snapshots and in writing one."""
    return shards * 3 * 100 * (every_s + 1.0) + 3 * 20


def _kill(ray: ModuleType, made: crews.Fleet, what: str, which: int) -> bool:
    try:
        if what == "shard":
            pid = ray.get(made.shards.actors[which % len(made.shards.actors)].counted.remote(), timeout=5)["pid"]
        else:
            pid = ray.get(made.members[which % len(made.members)].actor.pid.remote(), timeout=5)
        os.kill(pid, signal.SIGKILL)
    except (ray.exceptions.RayError, ProcessLookupError):
        # It is still coming back from the last time.
        return False
    return True
