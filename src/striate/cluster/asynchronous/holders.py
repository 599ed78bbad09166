"""The shards of a fleet: begun with a learner's parameters, called, counted, and read into the learner again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from torch import Tensor, cat, from_numpy

from striate.cluster.asynchronous.calling import RayDoor
from striate.cluster.asynchronous.crew import Crew
from striate.cluster.asynchronous.loads import Loads
from striate.cluster.asynchronous.shard_actor import Beginning, ShardActor
from striate.cluster.by_process import shards_by_process
from striate.cluster.flat import Flat
from striate.cluster.rules import RULES
from striate.cluster.server import Doors


class Holders:
    """All shards.

    Args:
        ray: connected.
        crew: see there.
        whole: the driver's own copy of the learner.
        flat: its parameters, in the order of the processes that hold them.
        sizes: what of it is whose, where a replica is several processes.

    Attributes:
        cuts: their parts of the parameters.
        actors: their processes; none before they have begun.
        held: minibatches that the shard with the fewest has had, as last counted.
    """

    def __init__(self, ray: ModuleType, crew: Crew, whole: Any, flat: Flat, sizes: Sequence[int]) -> None:
        self._ray, self._crew, self._whole, self._flat = ray, crew, whole, flat
        # As the learner has them, and checkpoints.
        self._plain = Flat(whole.exchanged())
        self._sizes, self._owned = sizes, shards_by_process(flat, sizes, crew.shards)
        self.cuts = [cut for own in self._owned for cut in own]
        self.actors: list[Any] = []
        self.loads, self.held = Loads(len(self.cuts)), 0

    def by_process(self) -> tuple[list[list[Any]], list[list[slice]]]:
        """Every process's own shards, and their parts of what it exchanges."""
        left, start = iter(self.actors), 0
        actors, cuts = [], []
        for own, size in zip(self._owned, self._sizes):
            actors.append([next(left) for _ in own])
            cuts.append([slice(cut.start - start, cut.stop - start) for cut in own])
            start += size
        return actors, cuts

    def begin(self, state: Mapping[str, Tensor]) -> None:
        """With the learner's parameters of now, and what a saved state says that the rule remembers."""
        crew, values, memories = self._crew, self._flat.gather(self._flat.new()), self._memories_of(state)
        actor, begun = self._ray.remote(ShardActor).options(**self._options()), []
        for number, cut in enumerate(self.cuts):
            folder = crew.folder / f"{number}"
            folder.mkdir(parents=True, exist_ok=True)
            rows, rounds = self._flat.rows(cut), crew.job.pace.rounds
            self.actors.append(actor.remote(Beginning(crew.rule, rows, crew.forget, rounds, folder, crew.snapshot_every_s)))
            own = None if memories is None else [memory[cut].numpy() for memory in memories]
            begun.append(self.actors[-1].begin.remote(values[cut].numpy(), own))
        self._ray.get(begun)
        self._doors = Doors([RayDoor(shard) for shard in self.actors], self.cuts, "driver")

    def _options(self) -> dict[str, Any]:
        options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
        if not self._crew.near:
            return options
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Machines come and go; this one has the run directory, and the snapshots in it.
        here = self._ray.get_runtime_context().get_node_id()
        return {**options, "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=True)}

    def _memories_of(self, state: Mapping[str, Tensor]) -> list[Tensor] | None:
        """What the shards' rule is to remember: the learner's own memory, or what another crew had kept."""
        rule = RULES[self._crew.rule]
        if rule.memories and self._shares_memory:
            return [self._flat.gather(self._flat.new(), self._own_memories())]
        kept = [f"exchange.{self._crew.rule}.{number}" for number in range(rule.memories)]
        if kept and all(name in state and len(state[name]) == self._flat.size for name in kept):
            return [self._plain.reordered(state[name], self._flat) for name in kept]
        return None

    @property
    def _shares_memory(self) -> bool:
        own = getattr(self._whole, "own_rule", None)
        return own == self._crew.rule and all(one.memory is not None for one in self._flat.parameters)

    def _own_memories(self) -> list[Tensor]:
        return [one.memory for one in self._flat.parameters if one.memory is not None]

    def pull(self) -> None:
        """Their values into the driver's copy."""
        pulled = self._doors.pull(None).get()
        assert pulled.values is not None
        self._flat.scatter(pulled.values)
        self._whole.refresh()

    def take_memories(self) -> dict[str, Tensor]:
        """What the rule remembers: into the learner where it is its own, else by names of checkpoints."""
        parts = self._ray.get([shard.memories.remote() for shard in self.actors])
        joined = [cat([from_numpy(part.copy()) for part in parts]) for parts in zip(*parts)]
        if joined and self._shares_memory:
            self._flat.scatter(joined[0], self._own_memories())
            return {}
        kept = [self._flat.reordered(memory, self._plain) for memory in joined]
        return {f"exchange.{self._crew.rule}.{number}": memory for number, memory in enumerate(kept)}

    def expect(self, names: Sequence[str]) -> None:
        """Rounds wait for these."""
        if self._crew.job.pace.rounds:
            self._ray.get([shard.expect.remote(list(names)) for shard in self.actors])

    def counted(self) -> tuple[dict[str, int], Counter[int]]:
        """Updates, pushes refused, repeated and lost of all together, and how often each staleness was."""
        told = self._ray.get([shard.counted.remote() for shard in self.actors])
        self.loads.add([one["load"] for one in told])
        # What a shard has refused it would refuse again.
        self.held = min((one["steps"] + one["refused_steps"] for one in told), default=0)
        staleness: Counter[int] = Counter()
        for one in told:
            staleness.update({int(value): count for value, count in one["staleness"].items()})
        return {name: sum(one[name] for one in told) for name in ("refused", "repeated", "lost", "updates")}, staleness

    def exchange_s(self) -> tuple[float, float, float]:
        """Seconds of a pull and a push of everything, as seen from here, and of an update in all shards together."""
        pulls, pushes, zeros = [], [], self._flat.new().numpy()
        for _ in range(3):
            begun = time.monotonic()
            self._doors.pull(None).get()
            pulled = time.monotonic()
            self._ray.get([shard.weigh.remote(zeros[cut]) for shard, cut in zip(self.actors, self.cuts)])
            pulls.append(pulled - begun)
            pushes.append(time.monotonic() - pulled)
        update_s = self._ray.get([shard.update_s.remote() for shard in self.actors])
        return min(pulls), min(pushes), sum(update_s)

    def close(self) -> None:
        """End all."""
        for shard in self.actors:
            self._ray.kill(shard)
