"""Who trains on which imagined machines, and what became of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from striate.cluster.compress import Packer
from striate.cluster.replica import Pace


@dataclass(frozen=True)
class Machines:
    """What things take.

    Attributes:
        step_s: seconds of a replica's step, on average.
        jitter: standard deviation of the logarithm of a step's length.
        slow: share of replicas that are slower...
        slower: ... by this factor.
        copy_s: seconds in which a replica hands over a whole model's numbers, or takes them in, and does nothing else.
        latency_s: of a message.
        bandwidth: bytes/s of a replica's connection, each way.
        shard_bandwidth: bytes/s of a shard's, each way, which all replicas share; 0: as `bandwidth`.
        update_s: seconds of an update of the whole model; a shard's is its part.
    """

    step_s: float = 1.0
    jitter: float = 0.0
    slow: float = 0.0
    slower: float = 1.0
    copy_s: float = 0.0
    latency_s: float = 0.0
    bandwidth: float = math.inf
    shard_bandwidth: float = 0.0
    update_s: float = 0.0


@dataclass(frozen=True)
class Team:
    """Who trains, and how they exchange: see `striate.cluster.asynchronous.fleet.Crew`.

    Attributes:
        replicas: how many.
        rule: the shards', see `striate.cluster.rules`.
        pace: every replica's.
        gradients: whether replicas send gradients, or changes.
        shards: how many.
        forget: see `Shard`.
        warm_start_steps: minibatches that one replica learns from alone first.
        packer: of pushes.
    """

    replicas: int
    rule: str
    pace: Pace
    gradients: bool = True
    shards: int = 1
    forget: float = 0.0
    warm_start_steps: int = 0
    packer: Packer = field(default_factory=Packer)


@dataclass(frozen=True)
class Look:
    """At the shards' parameters, once.

    Attributes:
        seconds: of the imagined clock.
        steps: minibatches learned from so far.
        value: of whatever was asked for, a loss for example.
    """

    seconds: float
    steps: int
    value: float


@dataclass
class Course:
    """What became of a run.

    Attributes:
        looks: in order; the last one not finite if it went astray, which ends it.
        seconds: until everything was in the shards.
        staleness: of pushes, as shards counted it.
        pulls, pushes: of all replicas.
        moved_bytes: of parameters and updates, to and from all replicas.
        waited_s: of all replicas, for messages and for one another.
    """

    looks: list[Look] = field(default_factory=list)
    seconds: float = 0.0
    staleness: Counter[int] = field(default_factory=Counter)
    pulls: int = 0
    pushes: int = 0
    moved_bytes: int = 0
    waited_s: float = 0.0

    @property
    def mean_staleness(self) -> float:
        """Updates that others made between a pull and its push, on average."""
        return sum(value * count for value, count in self.staleness.items()) / max(self.staleness.total(), 1)

    def reached(self, value: float) -> Look | None:
        """When a value was reached, on straight lines between looks; None if it was not."""
        for before, after in pairwise(self.looks):
            if after.value <= value < before.value:
                share = (before.value - value) / (before.value - after.value)
                return Look(
                    before.seconds + share * (after.seconds - before.seconds),
                    round(before.steps + share * (after.steps - before.steps)),
                    value,
                )
        return None
