"""Replicas of several processes on Ray: sums that must be exact, and what happens when one of the processes is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import crews
import ganging
from striate.cluster.replica import Pace


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """One engine for all."""
    with crews.engine() as connected:
        yield connected


def alive(pid: int) -> bool:
    """Whether a process runs (and is not only waiting to be buried)."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_every_minibatch_counts_once_in_every_part(ray: ModuleType, tmp_path: Path) -> None:
    """Two gangs of two, three shards: whole numbers, whoever learned from what; every process's bytes are its own part's."""
    made = ganging.fleet(ray, crews.crew(tmp_path, processes=2, shards=3, pace=Pace(3, 2)), 60, 40)
    state = crews.run(made, 60)
    assert torch.equal(state["weight"], torch.full((40,), 60.0))
    told = made.counted()
    assert told["lost"] == told["refused"] == told["replicas_lost"] == 0
    # Both processes of a gang push as often, half of the weights each.
    assert told["pushed_bytes"] == told["pushes"] * 4 * 20
    assert told["border_bytes"] == 2 * 60 * 4
    made.close()


def test_a_gang_that_loses_one_process_is_replaced_as_one_replica(ray: ModuleType, tmp_path: Path) -> None:
    """Killed, and failing: the others of the gang end, leases are handed out again, and the run goes on."""
    said: list[str] = []
    mishaps = {(1, 30): "kill", (0, 60): "kill", (1, 90): "fail"}
    made = ganging.fleet(ray, crews.crew(tmp_path, processes=2), 120, said=said, mishaps=mishaps, folder=str(tmp_path))
    first = [pid for member in made.members for pid in ray.get(member.actor.pids.remote())]
    crews.run(made, 120)
    told = made.counted()
    assert told["replicas_lost"] == 3 and told["minibatches_redone"] >= 3
    weight = made.state()["weight"]
    assert float(weight.min()) >= 120 and float(weight.max()) <= 120 + told["minibatches_redone"]
    reasons = [line.partition("(")[2] for line in said if " was lost " in line]
    assert reasons == [
        f"{why}); another takes its place"
        for why in ("process 1 of 2: its process died", "its process died", "process 1 of 2: no more of this")
    ]
    left = {pid for member in made.members for pid in ray.get(member.actor.pids.remote())}
    assert len(left) == 4
    assert not [pid for pid in first if alive(pid) and pid not in left]
    made.close()
