"""Who trains a run of replicas, and how they exchange: the settings; and minibatches as the driver's loop sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from striate.cluster.asynchronous.actors import Job


@dataclass(frozen=True)
class Crew:
    """Who trains, and how they exchange.

    Attributes:
        replicas: how many.
        shards: how many.
        rule: the shards', see `striate.cluster.rules`.
        job: every replica's.
        forget: see `Shard`.
        warm_start_steps: minibatches that one replica learns from alone, at the start of the run.
        folder: for the shards' snapshots.
        snapshot_every_s: seconds between them: as much is lost with a shard.
        patience_s: how long a replica may be silent before it is replaced.
        gpus: share of one that a process of a replica takes.
        processes: of each replica.
    """

    replicas: int
    shards: int
    rule: str
    job: Job
    forget: float
    warm_start_steps: int
    folder: Path
    snapshot_every_s: float
    patience_s: float
    gpus: float = 0.0
    processes: int = 1


class Slots:
    """Numbers of minibatches: all that the driver's loop sees of them."""

    def __init__(self, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch

    def starting_at(self, step: int) -> Iterator[int]:
        """From this one on."""
        while True:
            yield step
            step += 1

    def at(self, step: int) -> int:
        """This one."""
        return step
