"""Moments: exact for pixel levels, right for floats, the same however the rows are split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.errors import BadInput
from striate.preprocess import Moments


def _levels(count: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, dim), dtype=np.uint8)


def _of(*parts: np.ndarray) -> Moments:
    moments = Moments(parts[0].shape[1])
    for part in parts:
        moments.update(part)
    return moments


def test_levels_give_the_exact_integer_sums() -> None:
    """Against Python's integers, at the extremes where float32 would round first: 3,000 rows of 0 and 255 only."""
    rows = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (3000, 5))
    wide = rows.astype(object)
    n = len(rows)
    sums = wide.sum(axis=0)
    products = wide.T @ wide
    expected = [[float((n * products[i, j] - sums[i] * sums[j]) / (n * (n - 1))) for j in range(5)] for i in range(5)]
    moments = _of(rows)
    np.testing.assert_allclose(moments.covariance.numpy(), np.array(expected), rtol=1e-14)
    np.testing.assert_allclose(moments.mean.numpy(), [float(s / n) for s in sums], rtol=1e-15)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=5), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_any_split_and_any_merge_give_the_same_bits(sizes: list[int], seed: int) -> None:
    rows = _levels(sum(sizes) + 1, 9, seed)
    parts = np.split(rows, np.cumsum(sizes))
    whole, streamed = _of(rows), _of(*parts)
    merged = Moments(9)
    for part in reversed(parts):
        merged = merged.merge(_of(part))
    for other in (streamed, merged, Moments.restore(merged.state())):
        assert torch.equal(other.mean, whole.mean)
        assert torch.equal(other.covariance, whole.covariance)
        assert other.count == len(rows)


def test_blocks_of_columns_cover_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.preprocess.moments._COLUMNS", 4)
    rows = _levels(2000, 11)
    np.testing.assert_allclose(_of(rows).covariance.numpy(), np.cov(rows.astype(float), rowvar=False), rtol=1e-11)


def test_float_rows_far_from_zero_keep_their_digits() -> None:
    """Mean 1e6, deviation 1: the shift keeps what a plain sum of squares would lose (relative error 1e-16 * 1e12)."""
    rows = 1e6 + np.random.default_rng(0).standard_normal((5000, 4))
    moments = Moments(4)
    for part in np.split(rows, 10):
        moments.update(part)
    np.testing.assert_allclose(moments.covariance.numpy(), np.cov(rows, rowvar=False), rtol=1e-9, atol=1e-10)


def test_merging_floats_with_other_shifts_is_exact_to_rounding() -> None:
    rows = np.random.default_rng(1).standard_normal((400, 6)) * 3 + 5
    merged = _of(rows[:100]).merge(_of(rows[100:]))
    np.testing.assert_allclose(merged.covariance.numpy(), np.cov(rows, rowvar=False), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(merged.variance.numpy(), rows.var(axis=0, ddof=1), rtol=1e-12)


def test_misfits_are_named() -> None:
    with pytest.raises(BadInput, match="width"):
        Moments(3).update(_levels(2, 4))
    with pytest.raises(BadInput, match="at least 2"):
        _ = _of(_levels(1, 3)).covariance
    with pytest.raises(BadInput, match="cannot be merged"):
        Moments(3).merge(Moments(4))


def test_the_callers_rows_are_left_alone() -> None:
    rows = np.random.default_rng(0).standard_normal((10, 3))
    before = rows.copy()
    _of(rows)
    np.testing.assert_array_equal(rows, before)
