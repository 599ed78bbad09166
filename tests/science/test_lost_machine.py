"""A whole machine killed under a run of replicas: a cluster of Ray's on this one, whose nodes are processes like others."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import crews
import marking
from processes import below, kill_all
from striate.cluster.asynchronous.engine import ray_cluster

pytestmark = pytest.mark.science

STEPS, STEP_S, SHARDS = 1500, 0.01, 6


class Nodes:
    """A head without room for replicas, and two machines with it; all listen on the loopback alone."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        here = {"node_ip_address": "127.0.0.1", "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **here})
        self.others = [self.cluster.add_node(num_cpus=4, node_ip_address="127.0.0.1") for _ in range(2)]

    @staticmethod
    def raylet(node: Any) -> int:
        """The process that all others of a node are begun by."""
        return int(node.all_processes["raylet"][0].process.pid)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Their processes find the learners of `crews` and `marking`."""
    before, here = os.environ.get("PYTHONPATH"), str(Path(crews.__file__).parent)
    # As striate's own: Ray takes its address for the loopback's where it believes that there can be no other machine.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *([before] if before else [])])
    made = Nodes()
    yield made
    made.cluster.shutdown()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


def _at_work(ray: ModuleType, made: crews.Fleet) -> tuple[dict[str, int], dict[int, int]]:
    """Numbers of the processes of replicas, by name, and of shards."""
    replicas = {member.name: ray.get(member.actor.pid.remote()) for member in made.members}
    shards = {number: ray.get(shard.counted.remote())["pid"] for number, shard in enumerate(made.shards.actors)}
    return replicas, shards


@pytest.mark.timeout(400)
def test_what_a_lost_machine_held_comes_back_on_another(nodes: Nodes, tmp_path: Path) -> None:
    """Replicas and shards at one moment: every minibatch is learned from, and none applied twice."""
    with ray_cluster(nodes.cluster.address, 1) as ray:
        made = marking.fleet(
            ray, crews.crew(tmp_path, replicas=4, shards=SHARDS, patience_s=60), STEPS, tmp_path / "log", STEP_S
        )
        for step in range(STEPS // 3):
            made.step(step)
        replicas, shards = _at_work(ray, made)
        at = {node: {one.pid for one in below(nodes.raylet(node))} for node in nodes.others}
        lost = max(
            nodes.others, key=lambda node: (len(at[node] & set(shards.values())), len(at[node] & set(replicas.values())))
        )
        gone = {"replicas": [name for name, pid in replicas.items() if pid in at[lost]]}
        gone |= {"shards": [number for number, pid in shards.items() if pid in at[lost]]}
        assert gone["shards"], "Ray has put no shard on either machine"
        begun, longest = time.monotonic(), 0.0
        kill_all(nodes.raylet(lost))
        for step in range(STEPS // 3, STEPS):
            before = time.monotonic()
            made.step(step)
            longest = max(longest, time.monotonic() - before)
        marks, told = marking.Marks(ray, made, tmp_path / "log"), made.counted()
        replicas, shards = _at_work(ray, made)
        made.close()
    print(f"{gone}, longest step {longest:.1f} s, {time.monotonic() - begun:.1f} s to the end: {told}")
    assert not at[lost] & {*replicas.values(), *shards.values()}
    # Those whose process is missed first are counted as lost; on a busy machine others may have been silent for too long.
    assert told["machines_left"] + told["replicas_lost"] >= len(gone["replicas"])
    marks.check(told["minibatches_redone"])
