"""A unit's curves and its optimal stimulus, for units whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from striate.draws import Draws, generator
from striate.measure.invariance import STEPS, invariance, transformed
from striate.measure.stimulus import Spectrum, natural_stimulus, optimal_stimulus


def blob(rows: int = 12, columns: int = 20) -> np.ndarray:
    picture = np.zeros((1, 1, 32, 32), np.uint8)
    picture[..., rows - 2 : rows + 3, columns - 2 : columns + 3] = 200
    return picture


def middle(pictures: np.ndarray) -> tuple[float, float]:
    weight = pictures[0, 0].astype(float)
    rows, columns = np.indices(weight.shape)
    return float((rows * weight).sum() / weight.sum()), float((columns * weight).sum() / weight.sum())


def test_shifts_go_where_they_say() -> None:
    row, column = middle(transformed(blob(), "shift right", 0.125))
    assert (row, column) == (pytest.approx(12, abs=0.1), pytest.approx(24, abs=0.1))
    row, column = middle(transformed(blob(), "shift down", -0.125))
    assert (row, column) == (pytest.approx(8, abs=0.1), pytest.approx(20, abs=0.1))


def test_turns_and_scales_are_about_the_middle() -> None:
    # The middle is at 15.5; the blob is 3.5 above and 4.5 to the right of it.
    row, column = middle(transformed(blob(), "turn", 90))
    assert (abs(row - 15.5), abs(column - 15.5)) == (pytest.approx(4.5, abs=0.2), pytest.approx(3.5, abs=0.2))
    row, column = middle(transformed(blob(), "scale", 1.6))
    assert (row, column) == (pytest.approx(15.5 - 5.6, abs=0.3), pytest.approx(15.5 + 7.2, abs=0.3))
    noise = generator(0, "p").integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    for kind, amounts in STEPS.items():
        still = 1.0 if kind == "scale" else 0.0
        assert still in amounts
        assert np.array_equal(transformed(noise, kind, still), noise), kind


def test_a_unit_s_curve_is_one_where_nothing_changes_and_falls_beside_it() -> None:
    """A unit that sees one pixel's surroundings, and a unit that does not care where things are."""
    pictures = np.concatenate([blob(16, 16)] * 3)
    local = invariance(lambda seen: torch.from_numpy(seen[:, 0, 16, 16].astype(np.float32)), pictures)
    at = dict(zip(local["shift right"].at, local["shift right"].mean))
    assert at[0.0] == 1.0 and at[0.25] < 0.05 and at[-0.25] < 0.05
    anywhere = invariance(lambda seen: torch.from_numpy(seen.reshape(len(seen), -1).mean(axis=1)), pictures)
    assert all(share == pytest.approx(1, abs=0.05) for share in anywhere["shift down"].mean)
    assert local["turn"].low[0] <= local["turn"].mean[0] <= local["turn"].high[0] + 1e-9


def test_the_optimal_stimulus_of_a_linear_unit_is_its_filter() -> None:
    filter_ = Draws(1).normal("filter", (50,))
    found = optimal_stimulus(lambda rows: rows @ filter_, 50, 3.0, steps=200)
    assert float(torch.cosine_similarity(found.row, filter_, dim=0)) > 0.999
    assert float(found.row.norm()) == pytest.approx(3.0, rel=1e-4)
    assert found.answer == pytest.approx(3 * float(filter_.norm()), rel=1e-3)


def test_the_ascent_never_goes_down_and_the_best_start_wins() -> None:
    """Two hills of different heights: starts end on either."""
    high, low = (torch.nn.functional.normalize(Draws(2).normal(name, (20,)), dim=0) for name in ("high", "low"))

    def hills(rows: Tensor) -> Tensor:
        return 2 * torch.exp(-4 * (rows - high).square().sum(dim=1)) + torch.exp(-4 * (rows - low).square().sum(dim=1))

    found = optimal_stimulus(hills, 20, 1.0, starts=8, seed=3)
    assert found.answers[0] < 1.5 < max(found.answers), "the first start ends on the lower hill"
    answers = [float(hills(frame[None])[0]) for frame in found.frames]
    assert answers == sorted(answers) and len(answers) > 3
    assert found.answer == pytest.approx(max(found.answers))
    assert float(torch.cosine_similarity(found.row, high, dim=0)) > 0.99


def test_of_pictures_with_a_spectrum_a_linear_unit_wants_its_filter_coloured_twice() -> None:
    """max f.x over x = C w, |w| = 1 (and x brought to a norm, which leaves its direction) is along C C f."""
    shape = (1, 8, 8)
    waves = torch.fft.rfft2(Draws(4).normal("pictures", (200, *shape)))
    falling = 1 / (1 + torch.arange(8.0).minimum(8 - torch.arange(8.0))[:, None] + torch.arange(5.0))
    pictures = torch.fft.irfft2(waves * falling, s=(8, 8)).flatten(1)
    spectrum = Spectrum.of(pictures, shape)
    torch.testing.assert_close(spectrum.whiten(spectrum.colour(pictures)), pictures, rtol=1e-4, atol=1e-5)
    filter_ = Draws(1).normal("filter", (64,))
    found = natural_stimulus(lambda rows: rows @ filter_, pictures[0], 3.0, spectrum, steps=300)
    assert float(found.row.norm()) == pytest.approx(3.0, rel=1e-4)
    steepest = spectrum.colour(spectrum.colour(filter_[None]))[0]
    # The norm is taken after colouring: among those the answer is greatest along the filter itself, and the climb's steps
    # follow the spectrum there; what it has of each after a few steps lies between the two.
    few = natural_stimulus(lambda rows: rows @ filter_, pictures[0], 3.0, spectrum, steps=3)
    likeness = [float(torch.cosine_similarity(one.row, steepest, dim=0)) for one in (few, found)]
    ends = [float(torch.cosine_similarity(one.row, filter_, dim=0)) for one in (few, found)]
    assert likeness[0] > likeness[1] and ends[1] > ends[0] > 0, (likeness, ends)
    answers = [float(frame @ filter_) for frame in found.frames]
    assert answers == sorted(answers)
