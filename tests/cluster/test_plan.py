"""The interval that a plan advises, by arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from striate.cluster.ahead import rule_ahead
from striate.cluster.asynchronous.plan import Plan

# A step of 20 ms; a pull, a push and an update take 1 ms each.
PLAN = Plan(
    parameters=1000,
    memories=1,
    replicas=2,
    shards=1,
    pull_every=1,
    push_every=1,
    step_s=0.02,
    pull_s=1e-3,
    push_s=1e-3,
    update_s=1e-3,
)


@pytest.mark.parametrize(("step_s", "interval"), [(0.1, 1), (0.06, 1), (0.0599, 2), (0.02, 3), (0.01, 6), (1e-4, 16)])
def test_exchanging_as_advised_takes_a_twentieth_of_steps_or_is_seldom_enough(step_s: float, interval: int) -> None:
    """3 ms of all that an exchange takes, the shard's part included, against a twentieth of as many steps; at most 16."""
    assert replace(PLAN, step_s=step_s).advised_interval == interval


def test_advice_does_not_hang_on_the_interval_it_was_measured_at() -> None:
    assert replace(PLAN, pull_every=7, push_every=5).advised_interval == PLAN.advised_interval == 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {},
            "an exchange every 3 steps is advised: cluster.exchange.pull_every=auto cluster.exchange.push_every=auto takes ",
        ),
        ({"pull_every": 3, "push_every": 3}, "an exchange every 3 steps, as is advised"),
        ({"pull_every": 3}, "an exchange every 3 steps is advised: cluster.exchange.pull_every=auto "),
        ({"step_s": 1.0}, "an exchange at every step, as is advised"),
        ({"taken": 3, "pull_every": 3, "push_every": 3}, "an exchange every 3 steps: advised, and kept to"),
        ({"taken": 8, "pull_every": 8, "push_every": 8}, "an exchange every 8 steps: advised, and kept to"),
    ],
)
def test_what_is_advised_is_said_in_a_number(changed: dict[str, Any], said: str) -> None:
    [advice] = [line for line in replace(PLAN, **changed).lines() if "advised" in line]
    assert advice.startswith(said)


def test_rounds_are_given_no_advice() -> None:
    """How often they average is part of how they learn."""
    assert not any("advised" in line for line in replace(PLAN, rounds=True).lines())


@pytest.mark.parametrize(
    ("rule", "ahead"), [("adagrad", "adagrad"), ("sgd", "sgd"), ("momentum", "momentum"), ("delta", ""), ("nesterov", "")]
)
def test_replicas_go_on_by_rules_for_gradients_where_nobody_waits(rule: str, ahead: str) -> None:
    """Changes are steps of their own already, and in rounds all wait for what comes."""
    assert rule_ahead(rule, rounds=False) == ahead and rule_ahead(rule, rounds=True) == ""
