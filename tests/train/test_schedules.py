"""Rates over a run, against closed forms at chosen steps."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import pytest

from striate.train import Rates, ScheduleSettings, schedule


def test_constant_is_constant() -> None:
    rates = schedule(ScheduleSettings(0.1, momentum_steps=0), 100)
    assert {rates(step) for step in range(200)} == {Rates(0.1, 0.9)}


@pytest.mark.parametrize(
    ("shape", "three_quarters"),
    [("linear", 0.01 + 0.99 * 0.5), ("cosine", 0.01 + 0.99 * 0.5 * (1 - math.cos(math.pi / 2)))],
)
def test_a_fall_is_held_then_reaches_its_share_of_the_end(shape: Literal["linear", "cosine"], three_quarters: float) -> None:
    rates = schedule(ScheduleSettings(2.0, shape=shape, hold=0.5, final=0.01), 1000)
    assert rates(0).learning_rate == rates(500).learning_rate == 2.0
    assert rates(750).learning_rate == pytest.approx(2.0 * three_quarters, rel=1e-12)
    assert rates(1000).learning_rate == pytest.approx(0.02, rel=1e-12)
    falling = [rates(step).learning_rate for step in range(500, 1001)]
    assert all(later < earlier for earlier, later in itertools.pairwise(falling))


def test_linear_and_cosine_differ_where_they_should() -> None:
    """At a quarter of the fall: 0.75 against (1 + cos(pi / 4)) / 2 of the way."""
    at = [
        schedule(ScheduleSettings(1.0, shape=shape, hold=0.0, final=0.0), 400)(100).learning_rate
        for shape in ("linear", "cosine")
    ]
    assert at == pytest.approx([0.75, (1 + math.cos(math.pi / 4)) / 2], rel=1e-12)


def test_warm_up_rises_in_equal_steps_to_the_full_rate() -> None:
    rates = schedule(ScheduleSettings(1.0, warmup_steps=4), 100)
    assert [rates(step).learning_rate for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_momentum_changes_once() -> None:
    rates = schedule(ScheduleSettings(1.0, momentum=0.9, initial_momentum=0.5, momentum_steps=3), 100)
    assert [rates(step).momentum for step in range(5)] == [0.5, 0.5, 0.5, 0.9, 0.9]


def test_held_to_the_end_never_divides_by_zero() -> None:
    rates = schedule(ScheduleSettings(1.0, shape="linear", hold=1.0), 10)
    assert rates(10).learning_rate == 1.0
