"""Who trains a run of replicas, and how they exchange: the settings; and minibatches as the driver's loop sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from striate.cluster.asynchronous.actors import Job, Order
from striate.train.updates import Rates


@dataclass(frozen=True)
class Wanted:
    """How many replicas are wanted.

    Attributes:
        least: before a sitting begins.
        most: as there is room.
    """

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.most}" if self.least == self.most else f"{self.least}:{self.most}"


@dataclass(frozen=True)
class Crew:
    """Who trains, and how they exchange.

    Attributes:
        replicas: how many at most, to begin with.
        shards: how many.
        rule: the shards', see `striate.cluster.rules`.
        job: every replica's.
        forget: see `Shard`.
        warm_start_steps: minibatches that one replica learns from alone, at the start of the run.
        folder: for the shards' snapshots.
        snapshot_every_s: seconds between them: as much is lost with a shard.
        patience_s: how long a replica may be silent before it is replaced.
        gpus: share of one that a process of a replica takes.
        least: replicas that are waited for before the first step; None: all.
        rates: for the shards' rule with so many replicas; None: the job's, however many there are.
        threads: of each of so many replicas, where all are on this machine and share it; None: each has cores of its own, as
            the job says, on whatever machine has room.
        near: whether shards stay on the driver's machine, whose disk has their snapshots.
        processes: of each replica.
        taken: the interval between exchanges that an earlier sitting has taken, as its plan advised; None: none.
        take: told what the plan advises, gives steps from pull to pull and from push to push; None: the job's are as they are.
        every: those, once they are known; None: the job's.
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
    least: int | None = None
    rates: Callable[[int], Rates | None] | None = None
    threads: Callable[[int], int] | None = None
    near: bool = False
    processes: int = 1
    taken: int | None = None
    take: Callable[[int], tuple[int, int]] | None = None
    every: tuple[int, int] | None = None

    @property
    def wanted(self) -> Wanted:
        """To begin with."""
        return Wanted(self.replicas if self.least is None else self.least, self.replicas)

    def order(self, slots: Sequence[int], following: int | None, active: int, fresh: bool) -> Order:
        """These minibatches to one of so many replicas."""
        rates = None if self.rates is None else self.rates(active)
        threads = None if self.threads is None else self.threads(active)
        return Order(slots, following, rates, threads, self.every, fresh)


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
