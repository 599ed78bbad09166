"""Keyed randomness: named by seed, purpose and step; the same whoever draws it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

import striate.draws as draws_module
from bounds import z_for
from striate.draws import Draws, generator


def test_threads_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The split fill equals one stream drawn in order, whatever the number of threads and odd sizes."""
    whole = generator(5, "h0", 3).random(100_003, dtype=np.float32)
    monkeypatch.setattr(draws_module, "_THREADED_DRAWS", 1)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            np.testing.assert_array_equal(Draws(5, 3).uniform("h0", (100_003,)).numpy(), whole)
    finally:
        torch.set_num_threads(before)


def test_seed_name_step_and_purpose_all_matter() -> None:
    first = Draws(0).uniform("a", (1000,))
    others = [Draws(1), Draws(0, 1), Draws(0, purpose="x/"), Draws(0).at(2), Draws(0).within("y")]
    for other in others:
        assert not torch.equal(other.uniform("a", (1000,)), first)
    assert not torch.equal(Draws(0).uniform("b", (1000,)), first)
    assert torch.equal(Draws(0).uniform("a", (1000,)), first)


def test_uniform_draws_are_uniform_and_never_one() -> None:
    """Kolmogorov-Smirnov at a false-failure rate of 1e-6."""
    sample = Draws(0).uniform("u", (200_000,)).numpy()
    assert sample.max() < 1
    assert kstest(sample, "uniform").pvalue > 1e-6


@pytest.mark.parametrize("count", [100_000, 100_001])
def test_normal_draws_are_standard_normal_and_uncorrelated(count: int) -> None:
    sample = Draws(0).normal("n", (count,)).numpy().astype(np.float64)
    assert np.isfinite(sample).all()
    assert kstest(sample, "norm").pvalue > 1e-6
    half = count // 2
    assert abs(np.corrcoef(sample[:half], sample[-half:])[0, 1]) < z_for() / half**0.5
