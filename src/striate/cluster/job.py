"""A job of many replicas described, and what became of it when it was simulated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from striate.errors import BadInput

Mode = Literal["downpour", "synchronous", "local"]


@dataclass(frozen=True)
class Job:
    """A training job, and the machines it runs on.

    Attributes:
        replicas: copies of the model.
        step_s: seconds of a replica's step (`tile_costs.grid_cost` for one that several processes share).
        batch: pictures in it.
        parameter_bytes: of the model, as they travel.
        mode: `downpour`; `synchronous`, where all wait for the slowest and exchange gradients after every step; `local`, the
            same after `push_every` steps.
        shards: of the parameters.
        pull_every, push_every: steps between.
        update_s: of one shard for one push, queueing apart.
        bandwidth: bytes/s of a replica's connection to the shards, all its machines together; a shard's is the same by default.
        shard_bandwidth: bytes/s; 0: as `bandwidth`.
        latency_s: of a message.
        overlap: whether pulls and pushes go on behind steps.
        jitter: standard deviation of the logarithm of a step's length.
        slow: share of replicas that are slower...
        slower: ... by this factor.
        replica_mtbf_s: mean time between failures of a replica; 0: none fail.
        shard_mtbf_s: of a shard.
        recovery_s: until one that failed works again; a shard then lacks what it took since its last snapshot.
        snapshot_s: between a shard's snapshots.
        warm_start_s: the first replica alone for so long.
        swaps: whether a push is answered with the parameters it led to (`pull_every` then says nothing).
        ahead: pushes' worth of steps that a replica adds up while shards do not answer, before it waits.
        copy_s: of a replica's own time to hand over an update, and again to take in parameters.
        engine_s: of processor time that an exchange takes elsewhere, in whoever carries it.
        processors: of the one machine that everybody is on; 0: everybody has one of their own.
        crowded: how fast each works when all processors are busy, beside one that works alone: memory is shared.
    """

    replicas: int
    step_s: float
    batch: int
    parameter_bytes: float
    mode: Mode = "downpour"
    shards: int = 1
    pull_every: int = 1
    push_every: int = 1
    update_s: float = 0.0
    bandwidth: float = 1e9
    shard_bandwidth: float = 0.0
    latency_s: float = 1e-4
    overlap: bool = True
    jitter: float = 0.0
    slow: float = 0.0
    slower: float = 1.0
    replica_mtbf_s: float = 0.0
    shard_mtbf_s: float = 0.0
    recovery_s: float = 5.0
    snapshot_s: float = 60.0
    warm_start_s: float = 0.0
    swaps: bool = False
    ahead: int = 1
    copy_s: float = 0.0
    engine_s: float = 0.0
    processors: int = 0
    crowded: float = 1.0

    def __post_init__(self) -> None:
        for name in ("replicas", "batch", "shards", "pull_every", "push_every", "ahead"):
            if getattr(self, name) < 1:
                raise BadInput(f"a simulated job's {name} must be at least 1, found {getattr(self, name)}")
        if self.step_s <= 0 or self.bandwidth <= 0:
            raise BadInput("a simulated job needs steps that take time and a network that moves bytes")


@dataclass
class Simulated:
    """What became of a job.

    Attributes:
        seconds: simulated.
        steps: of all replicas together, lost ones apart.
        staleness: updates that others made between a pull and the push that followed, for every push and shard.
        updates: that a shard took.
        waited_s: of all replicas, for pulls and pushes that did not hide, and for one another.
        busy: share of the time that shards were at work.
        lost_steps: of replicas that failed.
        lost_updates: of shards that failed.
        failures: of replicas and shards.
        batch: pictures in a step.
    """

    seconds: float = 0.0
    steps: int = 0
    staleness: list[int] = field(default_factory=list)
    updates: int = 0
    waited_s: float = 0.0
    busy: float = 0.0
    lost_steps: int = 0
    lost_updates: int = 0
    failures: int = 0
    batch: int = 1

    @property
    def images_per_s(self) -> float:
        """Pictures that all replicas learned from, a second."""
        return self.steps * self.batch / self.seconds
