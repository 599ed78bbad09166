"""Imagined machines against closed forms, recurrences and plain training: values to the bit where sums are exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from striate.cluster.compress import Packer
from striate.cluster.replica import Pace
from striate.cluster.virtual import Course, Machines, Team, train
from striate.train.exchanged import Exchanged, Slope
from striate.train.updates import Rates

# A power of two: products and sums of few bits stay exact.
_RATE = 0.25


class Valley:
    """Loss (w - x)^2 / 2 of minibatch x, the same in every place: its gradient is w - x."""

    own_rule, finished = "sgd", False

    def __init__(self, size: int = 4, rate: float = _RATE) -> None:
        self.weight, self.step_number, self._rate = torch.zeros(size), 0, rate

    def slope(self, batch: float) -> Slope:
        self.step_number += 1
        return Slope({}, [self.weight - batch], Rates(self._rate, 0.0))

    def step(self, batch: float) -> dict[str, Tensor]:
        self.weight.sub_(self.slope(batch).gradients[0], alpha=self._rate)
        return {}

    def exchanged(self) -> list[Exchanged]:
        return [Exchanged("weight", self.weight)]

    def refresh(self) -> None: ...


class Constant(Valley):
    """Gradient, or change, of the batch's number everywhere, whatever the parameters."""

    def slope(self, batch: float) -> Slope:
        self.step_number += 1
        return Slope({}, [torch.full_like(self.weight, batch)], Rates(1.0, 0.0))

    def step(self, batch: float) -> dict[str, Tensor]:
        self.step_number += 1
        self.weight.add_(batch)
        return {}


def run(
    team: Team,
    machines: Machines,
    steps: int,
    make: Callable[[], Any] = Valley,
    batch: Callable[[int], float] = lambda slot: float(slot % 3),
    every: int = 1,
    **how: Any,
) -> tuple[Course, list[float]]:
    """A run, and the parameters at each look (all places are alike)."""
    seen: list[float] = []

    def look(learner: Any) -> float:
        assert torch.equal(learner.weight, learner.weight[:1].expand_as(learner.weight))
        seen.append(float(learner.weight[0]))
        return seen[-1]

    return train(team, machines, make, batch, steps, look, every, **how), seen


def downpour(replicas: int, every: int = 1, **more: Any) -> Team:
    return Team(replicas, "sgd", Pace(every, every), **more)


def in_rounds(replicas: int, rule: str, every: int = 1, momentum: float = 0.0) -> Team:
    rates = Rates(1.0, momentum) if rule != "sgd" else None
    return Team(replicas, rule, Pace(every, every, rounds=True, rates=rates), gradients=rule == "sgd")


def test_one_replica_whose_messages_take_no_time_trains_as_the_learner_alone() -> None:
    """To the bit: pushed each step and answered before the next. A look comes before the step's own push."""
    alone, expected = Valley(), [0.0]
    for slot in range(12):
        expected.append(float(alone.weight[0]))
        alone.step(float(slot % 3))
    course, seen = run(downpour(1), Machines(step_s=2.0), 12)
    assert seen == [*expected, float(alone.weight[0])]
    assert [look.seconds for look in course.looks] == [*(2.0 * step for step in range(13)), 24.0]
    assert course.seconds == 24.0 and course.mean_staleness == 0 and course.waited_s == 0


@pytest.mark.parametrize("shards", [1, 3])
def test_equal_replicas_without_a_network_follow_the_recurrence_of_their_order(shards: int) -> None:
    """In every round replica k pushes the gradient at the parameters that 1..k had made of the last: exact, by hand."""
    count, rounds = 4, 6
    now, held, expected = 0.0, [0.0] * count, []
    for turn in range(rounds):
        slots = [turn * count + number for number in range(count)]
        pushed = [held[number] - slot % 3 for number, slot in enumerate(slots)]
        for number, gradient in enumerate(pushed):
            now -= 2**-4 * gradient
            held[number] = now
        expected.append(now)
    course, seen = run(downpour(count, shards=shards), Machines(), count * rounds, lambda: Valley(rate=2**-4))
    assert seen[-1] == pytest.approx(expected[-1], rel=1e-5) and course.seconds == rounds
    # The first round's pushes are stale by those before them, all others by the three of everybody else.
    assert course.staleness == {0: shards, 1: shards, 2: shards, 3: shards * (count * (rounds - 1) + 1)}


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize(("pull_every", "push_every"), [(1, 1), (3, 2), (4, 4)])
def test_constant_gradients_give_one_result_in_whatever_order(gradients: bool, pull_every: int, push_every: int) -> None:
    """Seven unequal replicas, slow messages, a slow shard, a warm start: every minibatch's whole number counts once."""
    team = Team(7, "sgd" if gradients else "delta", Pace(pull_every, push_every), gradients, 2, warm_start_steps=5)
    machines = Machines(1.0, 0.3, 0.3, 4.0, copy_s=0.1, latency_s=0.2, bandwidth=20.0, shard_bandwidth=50.0, update_s=0.2)
    course, seen = run(team, machines, 60, Constant, lambda slot: float(slot), every=60)
    assert seen[-1] == (-1 if gradients else 1) * 59 * 60 / 2
    assert course.looks[-1].steps == 60 and course.pushes >= 60 / push_every / 20
    assert sum(course.staleness.values()) == 2 * course.pushes


def test_synchronous_replicas_are_one_with_their_batches_joined() -> None:
    """Four replicas' mean gradient is that of the mean of their batches; means of four are exact."""
    alone = Valley()
    for turn in range(6):
        alone.step(sum((4 * turn + number) % 3 for number in range(4)) / 4)
    course, seen = run(in_rounds(4, "sgd"), Machines(), 24)
    assert seen[-1] == float(alone.weight[0])
    assert course.seconds == 6 and set(course.staleness) == {0}


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_diloco_is_nesterov_s_momentum_on_the_mean_change(momentum: float) -> None:
    """Two replicas, three steps of their own a round, four rounds; with no momentum it is local SGD."""
    now, velocity = torch.zeros(4), torch.zeros(4)
    for turn in range(4):
        ends = []
        for number in range(2):
            one = Valley()
            one.weight.copy_(now)
            for step in range(3):
                one.step(float((turn * 6 + 2 * step + number) % 3))
            ends.append(one.weight)
        change = (ends[0] + ends[1]) / 2 - now
        velocity = momentum * velocity + change
        now = now + change + momentum * velocity
    course, seen = run(in_rounds(2, "nesterov", 3, momentum), Machines(), 24)
    assert seen[-1] == pytest.approx(float(now[0]), rel=1e-6) and course.pushes == 8
    if not momentum:
        assert run(in_rounds(2, "delta", 3), Machines(), 24)[1][-1] == pytest.approx(seen[-1], rel=1e-6)


def test_a_round_takes_its_slowest_step_and_every_message_one_after_another() -> None:
    """16 bytes at 32 bytes/s through one connection: the second push waits for the first, and so do answers."""
    machines = Machines(1.0, latency_s=0.125, bandwidth=32.0, update_s=0.25, copy_s=0.0625)
    course, _ = run(in_rounds(2, "sgd"), machines, 2)
    sent, carried = 1 + 0.0625 + 0.125, 0.5
    updated = sent + 2 * carried + 0.25
    back = updated + 0.125 + 2 * carried + 0.0625
    assert course.seconds == pytest.approx(back)
    assert course.moved_bytes == 2 * 3 * 16
    slower, _ = run(in_rounds(2, "sgd"), replace(machines, slow=0.5, slower=3.0), 2)
    # The slow one's push is alone on the connection.
    assert slower.seconds == pytest.approx(back + 2.0 - carried)


def test_a_straggler_slows_rounds_down_and_nobody_else() -> None:
    """One of four is four times slower: 13 steps in the time of four, against a round of four."""
    machines = Machines(1.0, slow=0.25, slower=4.0)
    assert run(in_rounds(4, "sgd"), machines, 40)[0].seconds == 40
    assert run(downpour(4), machines, 130)[0].seconds == pytest.approx(40, abs=4)


@pytest.mark.parametrize("replicas", [2, 5, 16])
def test_a_push_is_stale_by_one_update_of_every_other_replica(replicas: int) -> None:
    course, _ = run(downpour(replicas), Machines(1.0, jitter=0.1), 40 * replicas, every=1000)
    assert course.mean_staleness == pytest.approx(replicas - 1, abs=0.05 * replicas)


def test_a_message_longer_than_a_step_is_not_waited_for() -> None:
    """A swap of 2.5 steps: three steps' gradients in every push after the first, at parameters that are three steps old."""
    course, seen = run(downpour(1), Machines(1.0, bandwidth=16 / 1.25), 13, Constant, lambda slot: 1.0)
    assert seen[-1] == -13.0 and course.pushes == 5
    # Before each step it waits a twelfth of one, in case; for the last answer it waits to the end.
    assert course.waited_s == pytest.approx(2.5) and course.seconds == pytest.approx(13 + 12 * 0.08 + 2.5)


def test_one_learns_alone_until_the_warm_start_is_done() -> None:
    course, _ = run(downpour(4, warm_start_steps=6), Machines(), 26)
    assert [look.seconds for look in course.looks[:7]] == [0, 1, 2, 3, 4, 5, 6]
    assert course.seconds == 6 + 20 / 4
    assert course.staleness[0] >= 6


def test_who_begins_after_the_warm_start_begins_where_it_ended() -> None:
    """Had the second replica kept the parameters of the start, its first gradient would be another."""
    course, seen = run(downpour(2, warm_start_steps=8), Machines(), 10, batch=lambda slot: 1.0)
    warm = 1 - 0.75**8
    one = warm - _RATE * (warm - 1)
    assert seen[-1] == pytest.approx(one - _RATE * (warm - 1), rel=1e-6)
    assert course.seconds == 9


def test_the_same_seed_is_the_same_run_to_the_bit() -> None:
    machines = Machines(1.0, 0.3, 0.25, 3.0, copy_s=0.01, latency_s=0.03, bandwidth=100.0, update_s=0.05)
    first, again, other = (run(downpour(5), machines, 60, seed=seed) for seed in (1, 1, 2))
    assert first == again and first[1] != other[1]


def test_a_run_ends_when_it_has_learned_enough_and_says_when() -> None:
    """Loss 1 - w falls to a half between two looks."""
    team, machines = downpour(1), Machines(2.0)
    losses = [1 - 0.75**step for step in range(4)]

    def look(learner: Any) -> float:
        return 1 - float(learner.weight[0])

    course = train(team, machines, Valley, lambda slot: 1.0, 100, look, 1, until=0.5)
    reached = course.reached(0.5)
    share = (0.5 - losses[2]) / (losses[3] - losses[2])
    assert reached is not None and reached.seconds == pytest.approx(2 * (3 + share), rel=1e-6)
    assert course.looks[-1].steps < 8 and course.reached(0.01) is None


@pytest.mark.parametrize("gradients", [True, False])
def test_numbers_that_are_not_finite_never_reach_the_shards(gradients: bool) -> None:
    """Gradients are refused one by one; a replica whose own parameters are spoilt ends the run."""
    team = Team(2, "sgd" if gradients else "delta", Pace(), gradients)
    course, seen = run(team, Machines(), 20, Constant, lambda slot: math.nan if slot == 7 else 1.0, every=100)
    if gradients:
        assert seen[-1] == -19.0
    else:
        assert math.isnan(course.looks[-1].value) and 0 < course.looks[-1].steps < 12


def test_updates_that_are_packed_travel_packed() -> None:
    whole, _ = run(downpour(1), Machines(), 10)
    half, seen = run(replace(downpour(1), packer=Packer("bf16")), Machines(), 10, Constant, lambda slot: 1.0)
    assert whole.moved_bytes == 16 * (10 + 11) and half.moved_bytes == 8 * 10 + 16 * 11
    assert seen[-1] == -10.0
    assert np.isclose(half.seconds, 10)


def test_who_has_no_minibatch_left_is_waited_for_no_longer() -> None:
    """Seven minibatches of three replicas: two rounds of all, and one of one alone; each adds 1."""
    course, seen = run(in_rounds(3, "delta"), Machines(), 7, Constant, lambda slot: 1.0)
    assert seen[-1] == 3.0 and course.seconds == 3


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("bandwidth", [math.inf, 16 / 1.25])
def test_steps_of_one_s_own_between_pulls_are_those_that_shards_make(every: int, bandwidth: float) -> None:
    """One replica that sends sums learns what it learns alone, to the bit: gradients are taken where it would have been.

    Where messages take 2.5 steps an answer takes the place of steps that were not sent yet: then it is nearer than without.
    """
    alone = Valley()
    for slot in range(8):
        alone.step(float(slot % 3))
    team = Team(1, "sgd", Pace(every, every, ahead="sgd"))
    _, seen = run(team, Machines(bandwidth=bandwidth), 8)
    behind = run(Team(1, "sgd", Pace(every, every)), Machines(bandwidth=bandwidth), 8)[1][-1]
    if bandwidth == math.inf:
        assert seen[-1] == float(alone.weight[0])
        assert every == 1 or behind != seen[-1]
    else:
        assert abs(seen[-1] - float(alone.weight[0])) < abs(behind - float(alone.weight[0]))
