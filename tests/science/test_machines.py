"""Machines that come to a cluster and leave it while a run goes on: Ray's own processes for each, all on this one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import crews
import ganging
from striate.cluster.asynchronous.crew import Wanted
from striate.cluster.asynchronous.engine import ray_cluster
from striate.cluster.asynchronous.member import Stage

pytestmark = pytest.mark.science


@pytest.fixture
def cluster(ready: None) -> Iterator[Any]:
    """A head with room for one replica."""
    yield from _of_a_head(num_cpus=1)


@pytest.fixture
def machines(ready: None) -> Iterator[Any]:
    """A head with room for none."""
    yield from _of_a_head(num_cpus=0)


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Its processes find the learners of `crews`.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(crews.__file__).parent), os.environ.get("PYTHONPATH", "")]))


def _of_a_head(num_cpus: int) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": num_cpus, "include_dashboard": False})
    yield made
    made.shutdown()


class Going:
    """A fleet that takes its steps, and how many it has taken."""

    def __init__(self, made: crews.Fleet) -> None:
        self._made, self.steps = made, 0

    def until(self, reached: Callable[[], bool]) -> None:
        """As long as something has not come to be."""
        while not reached():
            self._made.step(self.steps)
            self.steps += 1


@pytest.mark.timeout(600)
def test_machines_that_come_are_used_and_those_that_leave_end_nothing(cluster: Any, tmp_path: Path) -> None:
    """One to three replicas, two machines more, one less: minibatches of the machine that left are learned from again."""
    said: list[str] = []
    with ray_cluster(cluster.address, 1) as ray:
        crew = crews.crew(tmp_path, replicas=3, least=1, shards=2, near=True)
        made = crews.fleet(ray, crew, 1_000_000, step_s=0.01, said=said)
        going = Going(made)
        until = going.until

        def here() -> int:
            return len(made.members.at(Stage.HERE))

        until(lambda: going.steps == 50)
        assert here() == 1 and len(made.members.at(Stage.WAITING)) == 2
        first = cluster.add_node(num_cpus=1)
        until(lambda: here() == 2)
        cluster.add_node(num_cpus=1)
        until(lambda: here() == 3)
        cluster.remove_node(first)
        until(lambda: here() == 2 and bool(made.members.at(Stage.WAITING)))
        until(lambda: made.members.losses.gone + made.members.losses.failed > 0)
        made.members.want(Wanted(1, 1))
        until(lambda: len(made.members) == 1)
        told, visits = made.counted(), made.members.visits.told()
        weight = made.state()["weight"]
        made.close()
    assert (told["machines_left"], told["replicas_lost"], told["lost"]) == (1, 0, 0)
    assert sorted(str(one["how"]) for one in visits) == ["None", "its machine left", "left"]
    assert [line for line in said if "has joined" in line] and any("its machine left" in line for line in said)
    # What the lost one had not pushed is missing or was done again; what is out is at most two leases of the one that is there.
    steps = going.steps
    assert steps <= float(weight.min()) + 20 and float(weight.max()) <= steps + told["minibatches_redone"] + 2 * 256


@pytest.mark.timeout(600)
def test_a_gang_has_left_with_the_machine_of_its_second_process(machines: Any, tmp_path: Path) -> None:
    """A gang of two on two machines: the second's goes, another comes, and nothing has failed."""
    first, second = machines.add_node(num_cpus=1), machines.add_node(num_cpus=1)
    with ray_cluster(machines.address, 1) as ray:
        crew = crews.crew(tmp_path, replicas=1, shards=2, processes=2, near=True)
        made = ganging.fleet(ray, crew, 1_000_000)
        [member] = made.members
        assert set(member.nodes) == {first.node_id, second.node_id}
        going = Going(made)
        going.until(lambda: going.steps == 50)
        machines.remove_node(first if member.nodes[1] == first.node_id else second)
        # Who is lost is asked for again, and waits for room that comes only now.
        while member.lives == 1:
            made._take(made.members.work())
        machines.add_node(num_cpus=1)
        going.until(lambda: member.lives == 2 and not member.fresh)
        told, visits = made.counted(), made.members.visits.told()
        made.close()
    assert (told["machines_left"], told["replicas_lost"]) == (1, 0)
    assert [one["how"] for one in visits] == ["its machine left", None]
