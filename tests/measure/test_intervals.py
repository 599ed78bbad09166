"""Intervals: how often they hold what they should."""

from __future__ import annotations

import numpy as np
import pytest

from striate.draws import generator
from striate.measure.intervals import mean_interval


def test_the_interval_of_a_mean_of_three_holds_it_95_times_in_100() -> None:
    """4,000 draws of three: the share has a standard error of 0.0034; four of them, one false alarm in 16,000."""
    draws = generator(0, "means").normal(2.0, 3.0, (4000, 3))
    spans = np.array([mean_interval(list(row)) for row in draws])
    held = np.mean((spans[:, 0] < 2.0) & (spans[:, 1] > 2.0))
    assert held == pytest.approx(0.95, abs=4 * 0.0034)


def test_of_one_measurement_the_interval_is_that_one() -> None:
    assert mean_interval([0.7]) == (0.7, 0.7)
