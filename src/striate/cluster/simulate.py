"""Many replicas, shards, a network and failures, simulated from measured costs: a job on machines that nobody has here.

A replica takes steps, pulls parameters and pushes what it learned; shards take pushes one at a time. Events are simpy's, a
maintained discrete-event library; what is random is keyed by a seed. Protocol: Dean et al. 2012, section 4.1 (Downpour):
replicas do not wait for one another, shards know nothing of one another.

Not simulated: contents. Staleness is counted, what it does to a loss is not.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np

from striate.cluster.clockwork import Processors, engine, step_length
from striate.cluster.job import Job as Job
from striate.cluster.job import Simulated as Simulated
from striate.draws import generator

# Shards that are simulated one by one; more are taken to fare as these do.
_MOST_SHARDS = 16
# An answer that takes such a share of a step is waited for (`striate.cluster.replica`).
_WORTH_WAITING = 0.08


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
        self._processors = Processors(environment, job.processors, job.crowded)
        piece = job.parameter_bytes / job.shards
        # All of a replica's messages share its connection; a shard's are its own.
        self._sent_s = job.parameter_bytes / job.bandwidth
        self._taken_s = piece / (job.shard_bandwidth or job.bandwidth)

    def begin(self) -> None:
        """Start everybody."""
        for number in range(self.job.replicas):
            self.environment.process(self._swapper(number) if self.job.swaps else self._replica(number))
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
            yield self._processors.work(_length(job, random) * factor)
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

    def _swapper(self, number: int) -> Generator[Any, Any, None]:
        """A replica as `striate.cluster.replica` has it where pushes are answered; none fail."""
        job, random = self.job, self.random[number]
        if number:
            yield self.environment.timeout(job.warm_start_s)
        factor = job.slower if number < round(job.slow * job.replicas) else 1.0
        pulled, answer, unsent = [shard.version for shard in self.shards], None, 0
        while True:
            if answer is not None:
                yield answer | self.environment.timeout(_WORTH_WAITING * job.step_s)
                if answer.processed:
                    pulled, answer = answer.value, None
                    yield self._processors.work(job.copy_s)
            yield self._processors.work(_length(job, random) * factor)
            self.found.steps, unsent = self.found.steps + 1, unsent + 1
            if unsent < job.push_every:
                continue
            if answer is not None:
                if not answer.processed:
                    if unsent < job.ahead * job.push_every:
                        continue
                    yield from self._waited(answer)
                pulled = answer.value
                yield self._processors.work(job.copy_s)
            yield self._processors.work(job.copy_s)
            self._processors.work(job.engine_s)
            answer, unsent = self.environment.process(self._swap(pulled)), 0

    def _swap(self, pulled: list[int]) -> Generator[Any, Any, list[int]]:
        """A push, and the versions that come back."""
        yield from self._push(pulled)
        versions = [shard.version for shard in self.shards]
        yield self.environment.timeout(self.job.latency_s + max(self._sent_s, self._taken_s))
        return versions

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
            begun = self.environment.now
            yield self.environment.timeout(self._taken_s)
            yield self._processors.work(self.job.update_s)
            self.busy_s += self.environment.now - begun
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


def better_interval(job: Job, share: float = 0.1) -> int:
    """The least interval of pulls and pushes at which a replica's connection is busy for at most a share of its steps."""
    each_s = 2 * job.parameter_bytes / job.bandwidth
    return max(1, int(np.ceil(each_s / (share * job.step_s))))


def scaled(job: Job, replicas: int) -> Job:
    """The same with another number of replicas."""
    return replace(job, replicas=replicas)
