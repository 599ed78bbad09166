"""Splits: exact counts, groups on one side, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, import_images
from striate.images.splits import Split, draw_split, read_split, write_split


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(2, 30))
def test_counts_are_exact_and_groups_stay_together(seed: int, test: int, spare: int) -> None:
    draws = np.random.default_rng(seed)
    count = 3 * (test + spare)
    labels = np.repeat(np.arange(3), test + spare)
    groups = np.arange(count)
    # Some pairs and triples of near-duplicates, some of them with two labels.
    for _ in range(4):
        members = draws.choice(count, 3, replace=False)
        groups[members[1:]] = groups[members[0]]
    try:
        sets = draw_split(labels, groups, ["a", "b", "c"], test, None, seed)
    except BadInput as refused:
        assert "near-duplicates" in str(refused)
        return
    assert not set(sets["train"]) & set(sets["test"])
    assert (np.bincount(labels[sets["test"]], minlength=3) == test).all()
    assert (np.bincount(labels[sets["train"]], minlength=3) == spare).all()
    assert not set(groups[sets["train"]]) & set(groups[sets["test"]])


def test_every_picture_of_a_class_is_as_likely_to_be_tested() -> None:
    """2,000 draws of 3 of 10: each picture 600 times, within 5 standard deviations (1e-6 over ten)."""
    labels = np.zeros(10, np.int64)
    drawn = np.zeros(10)
    for seed in range(2000):
        drawn[draw_split(labels, np.arange(10), ["a"], 3, 7, seed)["test"]] += 1
    assert np.abs(drawn - 600).max() < 5.33 * np.sqrt(2000 * 0.3 * 0.7)


def test_the_seed_decides_and_a_short_class_is_refused_with_numbers() -> None:
    labels = np.array([0] * 30 + [1] * 12 + [-1] * 5)
    groups = np.arange(47)
    first, again, other = (draw_split(labels, groups, ["ant", "bee"], 4, None, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["test"], again["test"])
    assert not np.array_equal(first["test"], other["test"])
    assert len(first["train"]) == 2 * 8 and labels[first["train"]].min() == 0
    with pytest.raises(BadInput, match=r"'bee' has 12 pictures, 10 for training and 4 for testing"):
        draw_split(labels, groups, ["ant", "bee"], 4, 10, 0)


def test_a_split_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    labels = np.arange(20) % 2
    import_images(ArraySource(pictures, labels, ["ant", "bee"]), tmp_path)
    store = ImageStore(tmp_path)
    assert read_split(store) is None
    sets = draw_split(labels, np.arange(20), ["ant", "bee"], 3, 5, 0)
    write_split(store, Split(sets, labels, ["ant", "bee"], {"ant": "x", "bee": "y"}, {"seed": 0}))
    found = read_split(store)
    assert found is not None
    assert {name: rows.tolist() for name, rows in found.sets.items()} == {n: rows.tolist() for n, rows in sets.items()}
    assert found.class_names == ["ant", "bee"] and found.superclasses == {"ant": "x", "bee": "y"}
    assert found.details == {"seed": 0}
    for rows in sets.values():
        np.testing.assert_array_equal(found.labels[rows], labels[rows])
    (tmp_path / "split.parquet").write_bytes(b"no table")
    with pytest.raises(BadInput, match="damaged"):
        read_split(store)
