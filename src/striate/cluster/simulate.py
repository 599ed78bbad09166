"""Many replicas, shards, a network and failures, simulated from measured costs: a job on machines that nobody has here.

A replica takes steps, pulls parameters and pushes what it learned; shards take pushes one at a time. Events are simpy's, a
maintained discrete-event library; what is random is keyed by a seed. Protocol: Dean et al. 2012, section 4.1 (Downpour):
replicas do not wait for one another, shards know nothing of one another.

Not simulated: contents. Staleness is counted, what it does to a loss is not.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, Literal

import numpy as np

from striate.draws import generator
from striate.errors import BadInput

Mode = Literal["downpour", "synchronous", "local"]
# Shards that are simulated one by one; more are taken to fare as these do.
_MOST_SHARDS = 16


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

    def __post_init__(self) -> None:
        for name in ("replicas", "batch", "shards", "pull_every", "push_every"):
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


def simulate(job: Job, seconds: float, seed: int = 0, settle_s: float = 0.0) -> Simulated:
    """Run a job for so many simulated seconds.

    Args:
        job: what runs.
        seconds: that are counted.
        seed: of what is random.
        settle_s: before these: queues need a while until they are as long as they will be.

    Raises:
        BadInput: simpy is not installed.
    """
    simpy = engine()
    found = Simulated(seconds=seconds, batch=job.batch)
    environment = simpy.Environment()
    if job.mode == "downpour":
        world = _Downpour(environment, job, found, seed)
        world.begin()
    else:
        environment.process(_in_step(environment, job, found, seed))
    before = 0.0
    if settle_s:
        environment.run(until=settle_s)
        vars(found).update(vars(Simulated(seconds=seconds, batch=job.batch)))
        before = world.busy_s if job.mode == "downpour" else 0.0
    environment.run(until=settle_s + seconds)
    if job.mode == "downpour":
        found.busy = (world.busy_s - before) / (seconds * len(world.shards))
    return found


class _Shard:
    """A queue that pushes stand in."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue
        self.version = self.kept = 0
        self.down = False


class _Downpour:
    """Replicas and shards that wait for nobody."""

    def __init__(self, environment: Any, job: Job, found: Simulated, seed: int) -> None:
        simpy = engine()
        self.environment, self.job, self.found = environment, job, found
        self.shards = [_Shard(simpy.Resource(environment, 1)) for _ in range(min(job.shards, _MOST_SHARDS))]
        self.random = [generator(seed, "replica", number) for number in range(job.replicas)]
        self.failing = generator(seed, "failures")
        self.busy_s = 0.0
        piece = job.parameter_bytes / job.shards
        # All of a replica's messages share its connection; a shard's are its own.
        self._sent_s = job.parameter_bytes / job.bandwidth
        self._taken_s = piece / (job.shard_bandwidth or job.bandwidth)

    def begin(self) -> None:
        """Start everybody."""
        for number in range(self.job.replicas):
            self.environment.process(self._replica(number))
        if self.job.shard_mtbf_s:
            for shard in self.shards:
                self.environment.process(self._failing_shard(shard))

    def _replica(self, number: int) -> Generator[Any, Any, None]:
        environment, job, found, random = self.environment, self.job, self.found, self.random[number]
        if number:
            yield environment.timeout(job.warm_start_s)
        factor = job.slower if number < round(job.slow * job.replicas) else 1.0
        fails_at = self._next_failure()
        pulled = [shard.version for shard in self.shards]
        pulling = pushing = None
        step = unsent = 0
        while True:
            if step % job.pull_every == 0:
                if pulling is not None and not pulling.processed:
                    yield from self._waited(pulling)
                pulling = environment.process(self._pull(pulled))
                # The first parameters must be there; later ones are used when they are.
                if not job.overlap or step == 0:
                    yield from self._waited(pulling)
            yield environment.timeout(_length(job, random) * factor)
            step += 1
            unsent += 1
            found.steps += 1
            if environment.now > fails_at:
                found.failures += 1
                found.lost_steps += unsent
                found.steps -= unsent
                unsent = step = 0
                yield environment.timeout(job.recovery_s)
                fails_at = self._next_failure()
                continue
            if step % job.push_every == 0:
                if pushing is not None and not pushing.processed:
                    yield from self._waited(pushing)
                pushing = environment.process(self._push(list(pulled)))
                unsent = 0
                if not job.overlap:
                    yield from self._waited(pushing)

    def _next_failure(self) -> float:
        mean = self.job.replica_mtbf_s
        return self.environment.now + self.failing.exponential(mean) if mean else float("inf")

    def _waited(self, event: Any) -> Generator[Any, Any, None]:
        begun = self.environment.now
        yield event
        self.found.waited_s += self.environment.now - begun

    def _pull(self, pulled: list[int]) -> Generator[Any, Any, None]:
        yield self.environment.timeout(self.job.latency_s)
        versions = [shard.version for shard in self.shards]
        yield self.environment.timeout(max(self._sent_s, self._taken_s))
        pulled[:] = versions

    def _push(self, pulled: list[int]) -> Generator[Any, Any, None]:
        yield self.environment.timeout(self.job.latency_s + max(0.0, self._sent_s - self._taken_s))
        yield self.environment.all_of(
            [self.environment.process(self._take(shard, version)) for shard, version in zip(self.shards, pulled)]
        )

    def _take(self, shard: _Shard, pulled: int) -> Generator[Any, Any, None]:
        with shard.queue.request() as turn:
            yield turn
            yield self.environment.timeout(self._taken_s + self.job.update_s)
            self.busy_s += self._taken_s + self.job.update_s
            self.found.staleness.append(shard.version - pulled)
            shard.version += 1
            self.found.updates += 1

    def _failing_shard(self, shard: _Shard) -> Generator[Any, Any, None]:
        """Snapshots, and a failure now and then that takes the shard back to the last one."""
        job, environment = self.job, self.environment
        fails_at = environment.now + self.failing.exponential(job.shard_mtbf_s)
        while True:
            wait = min(job.snapshot_s, max(0.0, fails_at - environment.now))
            yield environment.timeout(wait)
            if environment.now < fails_at:
                shard.kept = shard.version
                continue
            self.found.failures += 1
            self.found.lost_updates += shard.version - shard.kept
            with shard.queue.request() as turn:
                yield turn
                yield environment.timeout(job.recovery_s)
            shard.kept = shard.version
            fails_at = environment.now + self.failing.exponential(job.shard_mtbf_s)


def _in_step(environment: Any, job: Job, found: Simulated, seed: int) -> Generator[Any, Any, None]:
    """All replicas step together, and exchange after every so many steps: as long as the slowest takes."""
    random = [generator(seed, "replica", number) for number in range(job.replicas)]
    failing = generator(seed, "failures")
    between = 1 if job.mode == "synchronous" else job.push_every
    exchange = 0.0
    if job.replicas > 1:
        exchange = 2 * (job.replicas - 1) / job.replicas * job.parameter_bytes / job.bandwidth + 2 * job.latency_s
    slow = round(job.slow * job.replicas)
    fails_at = _first_of_all(job, failing, environment.now)
    while True:
        spans = [
            sum(_length(job, one) for _ in range(between)) * (job.slower if number < slow else 1.0)
            for number, one in enumerate(random)
        ]
        longest = max(spans)
        yield environment.timeout(longest + exchange + job.update_s)
        found.waited_s += sum(longest - one for one in spans) + job.replicas * (exchange + job.update_s)
        if environment.now > fails_at:
            # One lost process stops all, who go back to the last exchange.
            found.failures += 1
            found.lost_steps += between * job.replicas
            yield environment.timeout(job.recovery_s)
            fails_at = _first_of_all(job, failing, environment.now)
            continue
        found.steps += between * job.replicas
        found.updates += 1


def _first_of_all(job: Job, failing: np.random.Generator, now: float) -> float:
    return now + failing.exponential(job.replica_mtbf_s / job.replicas) if job.replica_mtbf_s else float("inf")


def _length(job: Job, random: np.random.Generator) -> float:
    return step_length(job.step_s, job.jitter, random)


def step_length(mean_s: float, jitter: float, random: np.random.Generator) -> float:
    """Of one step; its mean is the same whatever the jitter."""
    if not jitter:
        return mean_s
    return float(mean_s * np.exp(jitter * random.standard_normal() - jitter**2 / 2))


def engine() -> ModuleType:
    """The library of events.

    Raises:
        BadInput: it is not installed.
    """
    try:
        import simpy
    except ImportError:
        raise BadInput("simulating clusters needs an extra: pip install 'striate[ray]'") from None
    module: ModuleType = simpy
    return module


def better_interval(job: Job, share: float = 0.1) -> int:
    """The least interval of pulls and pushes at which a replica's connection is busy for at most a share of its steps."""
    each_s = 2 * job.parameter_bytes / job.bandwidth
    return max(1, int(np.ceil(each_s / (share * job.step_s))))


def scaled(job: Job, replicas: int) -> Job:
    """The same with another number of replicas."""
    return replace(job, replicas=replicas)
