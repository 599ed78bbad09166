"""The same treatment of all pictures: what it draws, what it keeps, what it takes away."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from striate.draws import generator
from striate.errors import BadInput
from striate.images.treatment import Treatment, treat_all
from striate.measure.nuisance import nuisance_accuracies, nuisances


def pictures(count: int, colour: bool, smooth: int = 1) -> np.ndarray:
    """Noise with a blob, in colour or grey, more or less sharp."""
    rng = generator(0, f"pictures{colour}{smooth}")
    small = rng.integers(60, 190, (count, 3 if colour else 1, 96 // smooth, 96 // smooth), dtype=np.uint8)
    return np.repeat(np.repeat(small, smooth, axis=2), smooth, axis=3)


def test_a_treatment_is_the_same_again_and_another_for_another_picture_or_seed() -> None:
    picture = pictures(1, True)[0]
    first = Treatment(seed=1).apply(picture, 5)
    assert first.shape == (1, 64, 64) and first.dtype == np.uint8
    assert np.array_equal(first, Treatment(seed=1).apply(picture, 5))
    assert not np.array_equal(first, Treatment(seed=1).apply(picture, 6))
    assert not np.array_equal(first, Treatment(seed=2).apply(picture, 5))
    some = np.stack([picture, picture])
    assert np.array_equal(treat_all(some, Treatment(seed=1), 5)[0], first)


def test_levels_have_the_same_mean_and_deviation() -> None:
    treated = treat_all(pictures(20, False, 8), Treatment()).reshape(20, -1).astype(float)
    # Levels are rounded and cut off at black and white.
    assert np.abs(treated.mean(axis=1) - 128).max() < 3
    assert np.abs(treated.std(axis=1) - 50).max() < 4


def test_without_shift_scale_and_blur_the_picture_is_itself() -> None:
    ramp = np.tile(np.arange(0, 192, 3, dtype=np.uint8), (64, 1))[None]
    same = Treatment(shift=0, scales=(1.0, 1.0), blurs=(0.01, 0.01), quality=0).apply(ramp, 0)
    likeness = np.corrcoef(same.ravel().astype(float), ramp.ravel().astype(float))[0, 1]
    assert likeness > 0.9999


def test_a_scale_magnifies() -> None:
    disc = np.zeros((1, 64, 64), np.uint8)
    rows, columns = np.indices((64, 64)) - 31.5
    disc[0, rows**2 + columns**2 < 12**2] = 255
    areas = []
    for scale in (0.8, 1.6):
        one = Treatment(shift=0, scales=(scale, scale), blurs=(0.1, 0.1), quality=0).apply(disc, 0)
        areas.append(int((one > 128).sum()))
    # Four times the area; only the middle disc is in sight at either scale.
    assert areas[1] / areas[0] == pytest.approx(4, rel=0.1)


def test_what_files_give_away_is_taken_away() -> None:
    """Grey against colour, which is paler once it is grey."""
    raw = np.concatenate([np.repeat(pictures(150, False, 8), 3, axis=1), pictures(150, True, 8)])
    positive = torch.arange(300) < 150
    assert nuisance_accuracies(raw, positive)["colour"] == 1.0
    treated = treat_all(raw, Treatment())
    assert nuisance_accuracies(treated, positive)["colour"] == 0.5
    apart = [
        abs(float(one[positive].mean() - one[~positive].mean())) for one in (nuisances(x)["contrast"] for x in (raw, treated))
    ]
    # What is left of 14 levels is what was cut off at black and white.
    assert apart[0] > 10 and apart[1] < 1, apart


def test_impossible_treatments_are_refused() -> None:
    for bad in ({"scales": (0.0, 1.0)}, {"blurs": (2.0, 1.0)}, {"shift": 0.7}, {"size": 2}):
        with pytest.raises(BadInput, match="a treatment needs"):
            Treatment(**bad)  # type: ignore[arg-type]
