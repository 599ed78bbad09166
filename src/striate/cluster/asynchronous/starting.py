"""Replicas' processes asked for and ended, and the machines that they are on.

On a cluster each is asked for as a placement group: Ray gives it room when there is some, now or when a machine comes, and says
which machine that is. What waits for room is also what Ray's autoscaler starts machines for.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol

from striate.cluster.asynchronous.actors import ReplicaActor
from striate.cluster.asynchronous.causes import cause
from striate.cluster.asynchronous.crew import Crew
from striate.cluster.asynchronous.gang import Gang, GangProcess, Told
from striate.cluster.asynchronous.holders import Holders
from striate.errors import BadInput, StriateError


class Lost(StriateError):
    """A replica's process, or its machine, is gone, or could not do what it was asked to.

    Args:
        why: in a few words.
        mistake: whether it could not even begin.
    """

    def __init__(self, why: str, mistake: bool = False) -> None:
        super().__init__(why)
        self.mistake = mistake


class Starting(Protocol):
    """Where replicas come from, as whoever leads them sees it: see `Starter`."""

    def begin(self, name: str) -> Any: ...  # noqa: D102
    def placed(self, name: str) -> tuple[str, ...] | None: ...  # noqa: D102
    def machine(self, node: str) -> str: ...  # noqa: D102
    def machine_left(self, nodes: Sequence[str]) -> bool: ...  # noqa: D102
    def ready(self, references: list[Any], within_s: float) -> list[Any]: ...  # noqa: D102
    def answer(self, reference: Any) -> Any: ...  # noqa: D102
    def end(self, name: str, actor: Any) -> None: ...  # noqa: D102


class Starter:
    """Begins replicas of a name, hears them, ends them.

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
        self._others: dict[str, list[Any]] = {}

    def begin(self, name: str) -> Any:
        """The process that is the replica to the driver; it may have to wait for room."""
        crew = self._crew
        if crew.threads is None:
            seat = {"CPU": crew.job.threads, **({"GPU": crew.gpus} if crew.gpus else {})}
            # Half a gang would hold its processors and wait for ever; and neighbours talk at every step.
            self._groups[name] = self._ray.util.placement_group([seat] * crew.processes, strategy="PACK")
        if crew.processes == 1:
            told = (self._bring, self._ticket(), self._rows, self._shards.actors, self._shards.cuts, crew.job)
            return self._process(ReplicaActor, name, 0).remote(name, *told)
        gang = (Told(name, self._bring, *self._shards.by_process(), crew.job), self._ticket(), self._rows)
        # They begin at the same time; the first finds the others.
        others = [self._process(GangProcess, name, rank).remote(rank, *gang) for rank in range(1, crew.processes)]
        self._others[name] = others
        return self._process(Gang, name, 0).remote(*gang, others)

    def _process(self, kind: type, name: str, rank: int) -> Any:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        options: dict[str, Any] = {"num_gpus": self._crew.gpus, "max_restarts": 0, "num_cpus": 0}
        if name in self._groups:
            options["num_cpus"] = self._crew.job.threads
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self._groups[name], rank)
        return self._ray.remote(kind).options(**options)

    def placed(self, name: str) -> tuple[str, ...] | None:
        """The machines of its processes, by rank and by their names in Ray; None while there is no room."""
        if name not in self._groups:
            return (str(self._ray.get_runtime_context().get_node_id()),)
        told = self._ray.util.placement_group_table(self._groups[name])
        seats = told["bundles_to_node_id"]
        return tuple(str(seats[rank]) for rank in range(self._crew.processes)) if told["state"] == "CREATED" else None

    def machine(self, node: str) -> str:
        """What people call it."""
        for one in self._ray.nodes():
            if one["NodeID"] == node:
                return str(one["NodeManagerHostname"])
        return socket.gethostname()

    def machine_left(self, nodes: Sequence[str]) -> bool:
        """Whether any of these is not there any more."""
        return bool(nodes) and not {one["NodeID"] for one in self._ray.nodes() if one["Alive"]}.issuperset(nodes)

    def ready(self, references: list[Any], within_s: float) -> list[Any]:
        """Those whose answer is there, or comes within a time."""
        found, _ = self._ray.wait(references, num_returns=1, timeout=within_s)
        if found:
            # And whoever else has answered by now.
            found, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        return list(found)

    def answer(self, reference: Any) -> Any:
        """It.

        Raises:
            Lost: there will be none.
            BadInput: the process found something that no other will find otherwise.
        """
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.ActorDiedError as error:
            if "BadInput" in str(error):
                raise BadInput(cause(error)) from None
            raise Lost(cause(error), "creation task" in str(error)) from None
        except (self._ray.exceptions.RayError, StriateError) as error:
            raise Lost(cause(error)) from None

    def end(self, name: str, actor: Any) -> None:
        """End a replica with all its processes, and give back its room."""
        for process in [actor, *self._others.pop(name, [])]:
            self._ray.kill(process)
        if name in self._groups:
            self._ray.util.remove_placement_group(self._groups.pop(name))
