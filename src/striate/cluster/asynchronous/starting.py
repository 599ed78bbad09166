"""Replicas begun and ended: each one process of Ray's, or a gang that is placed as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from striate.cluster.asynchronous.actors import ReplicaActor
from striate.cluster.asynchronous.crew import Crew
from striate.cluster.asynchronous.gang import Gang, GangProcess, Told
from striate.cluster.asynchronous.holders import Holders


class Starter:
    """Begins replicas of a name.

    Args:
        ray: connected.
        crew: see there.
        bring: makes a replica's workbench in its process.
        ticket: a reference to what that needs.
        rows: a reference to prepared pictures, or None.
        shards: begun.
    """

    def __init__(
        self,
        ray: ModuleType,
        crew: Crew,
        bring: Callable[..., Any],
        ticket: Callable[[], Any],
        rows: Any,
        shards: Holders,
    ) -> None:
        self._ray, self._crew, self._bring, self._ticket, self._rows, self._shards = ray, crew, bring, ticket, rows, shards
        self._groups: dict[str, Any] = {}

    def begin(self, name: str) -> Any:
        """The process that is the replica to the driver."""
        crew, options = self._crew, self._options()
        if crew.processes > 1:
            return self._gang(name, options)
        told = (self._bring, self._ticket(), self._rows, self._shards.actors, self._shards.cuts, crew.job)
        return self._ray.remote(ReplicaActor).options(**options).remote(name, *told)

    def _options(self) -> dict[str, Any]:
        return {"num_cpus": self._crew.job.threads, "num_gpus": self._crew.gpus, "max_restarts": 0}

    def _gang(self, name: str, options: dict[str, Any]) -> Any:
        """All its processes, which begin at the same time; the first one finds the others."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        crew = self._crew
        needs = {"CPU": crew.job.threads, "GPU": crew.gpus}
        # Half a gang would hold its processors and wait for ever; and neighbours talk at every step.
        group = self._ray.util.placement_group(
            [{what: share for what, share in needs.items() if share}] * crew.processes, strategy="PACK"
        )
        self._groups[name] = group

        def process(kind: type, rank: int) -> Any:
            seat = PlacementGroupSchedulingStrategy(group, rank)
            return self._ray.remote(kind).options(**options, scheduling_strategy=seat)

        told = Told(name, self._bring, *self._shards.by_process(), crew.job)
        given = (told, self._ticket(), self._rows)
        others = [process(GangProcess, rank).remote(rank, *given) for rank in range(1, crew.processes)]
        return process(Gang, 0).remote(*given, others)

    def end(self, name: str, actor: Any) -> None:
        """End a replica, with all its processes."""
        self._ray.kill(actor)
        if name in self._groups:
            self._ray.util.remove_placement_group(self._groups.pop(name))
