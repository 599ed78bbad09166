"""The simulator against closed forms: rates without a network, queues that are full, waiting for the slowest, failures."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from striate.cluster.clockwork import Processors, engine
from striate.cluster.simulate import Job, better_interval, simulate
from striate.cluster.tile_costs import GridRates, grid_cost
from striate.cluster.tiles import Grid
from striate.errors import BadInput
from striate.models.sparse import NetSpec, StageSpec

# Nothing but steps: a network without end.
BARE = Job(replicas=4, step_s=0.5, batch=10, parameter_bytes=0.0, latency_s=0.0)


def test_without_a_network_replicas_add_up() -> None:
    """4 x 10 pictures every half second; the last steps of the time are not ended."""
    for mode in ("downpour", "synchronous", "local"):
        found = simulate(replace(BARE, mode=mode), 100.25)
        assert found.steps == 4 * 200 and found.images_per_s == pytest.approx(4 * 10 * 200 / 100.25)
        assert found.waited_s == pytest.approx(0, abs=1e-9)


def test_what_does_not_overlap_is_waited_for() -> None:
    """A step of 1 s, a pull and a push of 0.25 s each: 40 steps in a minute."""
    job = Job(replicas=1, step_s=1.0, batch=1, parameter_bytes=1e9, bandwidth=4e9, latency_s=0.0, overlap=False)
    found = simulate(job, 60.01)
    assert found.steps == 40 and found.waited_s == pytest.approx(20, rel=0.02)
    rare = simulate(replace(job, pull_every=10, push_every=10), 105.01)
    assert rare.steps == 100 and rare.updates == 10


def test_overlapped_exchanges_cost_nothing_until_they_are_longer_than_steps() -> None:
    job = Job(replicas=1, step_s=1.0, batch=1, parameter_bytes=1e9, bandwidth=4e9, latency_s=0.0)
    # The first parameters are waited for: a quarter of a second.
    assert simulate(job, 60.3).steps == 60
    slow = simulate(replace(job, bandwidth=0.5e9), 200.0)
    # Pulls of 2 s, one a step: a step every 2 s.
    assert slow.steps == pytest.approx(100, abs=2)


def test_a_shard_that_is_full_sets_the_pace() -> None:
    """Twenty replicas push every second to a shard that needs 0.1 s each: ten updates a second, and never idle."""
    job = Job(replicas=20, step_s=1.0, batch=1, parameter_bytes=0.0, update_s=0.1, latency_s=0.0, jitter=0.05)
    found = simulate(job, 300)
    assert found.updates == pytest.approx(3000, rel=0.02) and found.busy > 0.98
    assert found.steps == pytest.approx(3000, rel=0.05)
    light = simulate(replace(job, replicas=5), 300)
    assert light.busy == pytest.approx(0.5, rel=0.03) and light.steps == pytest.approx(1500, rel=0.03)


@pytest.mark.parametrize("replicas", [1, 3, 8])
def test_a_push_is_stale_by_one_update_of_every_other_replica(replicas: int) -> None:
    """Equal replicas that wait for their messages: between a pull and its push each of the others pushes once."""
    job = Job(replicas, 1.0, 1, 0.0, latency_s=1e-6, overlap=False, jitter=0.1)
    found = simulate(job, 400)
    assert np.mean(found.staleness[replicas:]) == pytest.approx(replicas - 1, abs=0.05 * replicas)


def test_waiting_for_the_slowest_of_all() -> None:
    """The mean of the largest of 6 log-normal steps, by numerical integration; 2,000 steps, four standard errors."""
    jitter, count, steps = 0.3, 6, 2000
    job = Job(count, 1.0, 1, 0.0, mode="synchronous", latency_s=0.0, jitter=jitter)
    samples = np.exp(jitter * np.random.default_rng(0).standard_normal((400_000, count)) - jitter**2 / 2).max(axis=1)
    expected, spread = samples.mean(), samples.std()
    seconds = steps * expected
    found = simulate(job, seconds)
    assert found.steps / count == pytest.approx(steps, abs=1 + 4 * spread / expected * steps**0.5)
    # Downpour waits for nobody: its rate is that of mean steps.
    free = simulate(replace(job, mode="downpour"), seconds)
    assert free.steps == pytest.approx(count * seconds, rel=0.02)


def test_replicas_that_fail_are_away_as_long_as_recovery_takes() -> None:
    """Availability is MTBF / (MTBF + recovery), less what was not pushed; about 600 failures, four standard errors."""
    job = Job(20, 0.5, 1, 0.0, latency_s=0.0, replica_mtbf_s=100.0, recovery_s=10.0)
    found = simulate(job, 3300)
    share = found.steps / (20 * 3300 / 0.5)
    assert found.failures == pytest.approx(600, abs=4 * 600**0.5)
    assert share == pytest.approx(100 / 110, abs=0.01)
    assert found.lost_steps == found.failures
    halted = simulate(replace(job, mode="synchronous"), 3300)
    # One lost process stops all twenty.
    assert halted.steps / (20 * 3300 / 0.5) == pytest.approx(5 / 15, abs=0.05)


def test_a_shard_that_fails_loses_what_came_since_its_snapshot() -> None:
    """Between snapshots of 20 s, one update a second: at most 20 are lost each time, 10 on average."""
    job = Job(1, 1.0, 1, 0.0, latency_s=0.0, shard_mtbf_s=300.0, snapshot_s=20.0, recovery_s=1.0)
    found = simulate(job, 60_000)
    assert found.failures > 100 and 0 < found.lost_updates <= 21 * found.failures
    assert found.lost_updates / found.failures == pytest.approx(9.5, abs=4 * 5.8 / found.failures**0.5 + 0.5)


def test_slow_machines_slow_nobody_else_down() -> None:
    job = replace(BARE, replicas=10, slow=0.1, slower=5.0)
    assert simulate(job, 1000).steps == pytest.approx(2000 * 9 + 400, rel=0.01)
    assert simulate(replace(job, mode="synchronous"), 1000).steps == pytest.approx(400 * 10, rel=0.01)


def test_what_settles_is_not_counted() -> None:
    """Thirty replicas on a shard that takes an update a second: at first all push at once, later one a second."""
    job = Job(30, 1.0, 1, 0.0, update_s=1.0, latency_s=0.0)
    assert simulate(job, 50).steps > 100
    settled = simulate(job, 50, settle_s=100.0)
    assert settled.steps == pytest.approx(50, abs=2) and settled.updates == pytest.approx(50, abs=1)
    assert settled.busy == pytest.approx(1.0, abs=0.02)


def test_the_same_seed_is_the_same_run() -> None:
    job = Job(5, 1.0, 1, 1e8, jitter=0.2, replica_mtbf_s=50.0, shards=3)
    first, again, other = simulate(job, 200, seed=1), simulate(job, 200, seed=1), simulate(job, 200, seed=2)
    assert first == again and first != other


def test_an_interval_keeps_the_network_for_steps() -> None:
    """9.2 GB a pull over 50 GB/s beside steps of 20 ms: pulling every step would take 18 times the step."""
    job = Job(2, 0.02, 100, 9.2e9, bandwidth=50e9)
    every = better_interval(job)
    assert 2 * job.parameter_bytes / job.bandwidth <= 0.1 * every * job.step_s < 2.1 * job.parameter_bytes / job.bandwidth
    with pytest.raises(BadInput, match="replicas must be at least 1"):
        replace(job, replicas=0)


def test_grids_gain_until_borders_are_all_that_is_left() -> None:
    """Without a price on borders 16 processes are 16 times one, but for uneven cuts; with a slow network far less."""
    spec = NetSpec((3, 64, 64), (StageSpec(9, 1, 8, pool=3, norm=3), StageSpec(9, 1, 8, pool=3, norm=3)))
    free = GridRates(1e10, 1e11, 1e18, 0.0)
    one, many = (grid_cost(spec, Grid(edge, edge), 64, free) for edge in (1, 4))
    assert 14 < one.step_s / many.step_s <= 16
    slow = grid_cost(spec, Grid(4, 4), 64, GridRates(1e10, 1e11, 1e8, 1e-3))
    assert slow.step_s > many.step_s + 0.9 * (slow.received / 1e8 - slow.hidden)


def test_processors_are_shared_evenly_by_whoever_has_work() -> None:
    """Two processors: one alone at full speed; three at two thirds each. Worked out by hand."""
    environment = engine().Environment()
    shared, done = Processors(environment, 2), {}

    def worker(name: str, after_s: float, seconds: float) -> Generator[Any, Any, None]:
        yield environment.timeout(after_s)
        yield shared.work(seconds)
        done[name] = environment.now

    # a: 1 s alone, 1 s beside b, then with b and c at 2/3: 4 - 2 = 2 left, 3 s more.
    for name, after_s, seconds in (("a", 0.0, 4.0), ("b", 1.0, 3.0), ("c", 2.0, 10.0)):
        environment.process(worker(name, after_s, seconds))
    environment.run()
    assert done == pytest.approx({"a": 5.0, "b": 5.0, "c": 2 + 2 / (2 / 3) + 8})


@pytest.mark.parametrize("crowded", [1.0, 0.8])
def test_shared_processors_give_all_they_have_and_no_more(crowded: float) -> None:
    """Four replicas and a shard on two: all that was done in 300 s is 600 s of work, or as much as crowding leaves."""
    job = Job(4, 1.0, 1, 0.0, update_s=0.5, latency_s=0.0, jitter=0.1, swaps=True, ahead=20, processors=2, crowded=crowded)
    found = simulate(job, 300)
    assert found.steps + 0.5 * found.updates == pytest.approx(2 * crowded * 300, rel=0.02)
    # Seldom pushed, every step's share is known: a tenth of an update.
    rare = simulate(replace(job, push_every=10), 300)
    assert rare.steps == pytest.approx(2 * crowded * 300 / 1.05, rel=0.03)
    # On machines of their own four of them do as much as four.
    assert simulate(replace(job, processors=0, push_every=10), 300).steps == pytest.approx(4 * 300, rel=0.03)


def test_copies_take_a_replica_s_own_time_and_what_carries_them_a_processor_s() -> None:
    """One replica, a processor for each: a swap every step costs two copies. On one processor the rest as well."""
    job = Job(1, 1.0, 1, 0.0, update_s=0.25, latency_s=0.0, swaps=True, ahead=20, copy_s=0.125, engine_s=0.5, push_every=2)
    wide = simulate(replace(job, processors=4), 450)
    # An update is longer than a twelfth of a step: the answer is taken in a step later.
    assert wide.steps == pytest.approx(450 / (1 + (0.25 + 0.08) / 2), rel=0.01)
    narrow = simulate(replace(job, processors=1), 450)
    assert narrow.steps == pytest.approx(450 / (1 + (0.25 + 0.25 + 0.5) / 2), rel=0.03)


def test_steps_add_up_while_a_full_shard_does_not_answer() -> None:
    """Twenty replicas push every second to a shard that takes 0.1 s: nobody waits, pushes hold two steps each."""
    job = Job(20, 1.0, 1, 0.0, update_s=0.1, latency_s=0.0, jitter=0.05, swaps=True, ahead=20)
    found = simulate(job, 300, settle_s=100)
    assert found.steps == pytest.approx(6000 / (1 + 0.08 / 2), rel=0.05) and found.busy > 0.95
    assert found.updates == pytest.approx(3000, rel=0.05)
    assert simulate(replace(job, ahead=1), 300, settle_s=100).steps == pytest.approx(3000, rel=0.05)


@pytest.mark.parametrize("replicas", [2, 6])
def test_an_answered_push_is_stale_by_one_update_of_every_other_replica(replicas: int) -> None:
    found = simulate(Job(replicas, 1.0, 1, 0.0, latency_s=0.0, jitter=0.1, swaps=True, ahead=20), 400)
    assert np.mean(found.staleness[replicas:]) == pytest.approx(replicas - 1, abs=0.05 * replicas)
