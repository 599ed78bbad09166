"""What counts as blown up."""

from __future__ import annotations

import math

import pytest

from striate.errors import Diverged
from striate.train.monitor import Monitor


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["reconstruction_error", "weight_rms"])
def test_anything_not_finite_stops_the_run_and_names_the_remedy(name: str, value: float) -> None:
    with pytest.raises(Diverged, match=rf"{name} became {value} at step 7: lower train.learning_rate"):
        Monitor().check(7, {"hidden_activity": 0.1, name: value})


def test_twenty_times_the_first_error_is_the_limit() -> None:
    monitor = Monitor()
    monitor.check(50, {"reconstruction_error": 0.5})
    monitor.check(100, {"reconstruction_error": 10.0})
    with pytest.raises(Diverged, match=r"rose from 0.5 to 10.01 by step 150"):
        monitor.check(150, {"reconstruction_error": 10.01})


def test_the_first_error_is_remembered_over_a_resume() -> None:
    with pytest.raises(Diverged):
        Monitor(0.5).check(100, {"reconstruction_error": 11.0})
    Monitor().check(100, {"reconstruction_error": 11.0})


def test_a_classifiers_loss_is_watched_and_its_remedy_named() -> None:
    monitor = Monitor()
    monitor.check(50, {"loss": 0.8, "error": 0.3})
    with pytest.raises(Diverged, match=r"the loss rose from 0.8 to 17 by step 100: .*train.rates"):
        monitor.check(100, {"loss": 17.0, "error": 0.9})
