"""Preprocessing fitted stretch by stretch: the same as in one pass, whatever comes of the stretches' order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from striate.draws import generator
from striate.errors import BadInput
from striate.images.work import one_by_one
from striate.preprocess import Moments, Preprocessor, PreprocessSettings, fitted

IMAGES = generator(0, "gathering").integers(0, 256, (2500, 3, 4, 5), dtype=np.uint8)


def backwards(work: Callable[[Any], Any], items: Iterable[Any], otherwise: object = None) -> Iterator[tuple[Any, Any]]:
    """Done last to first, and in another process's memory, as far as can be told: through pickle."""
    import pickle

    done = {item: pickle.dumps(pickle.loads(pickle.dumps(work))(item)) for item in reversed(list(items))}
    return ((item, pickle.loads(done[item])) for item in sorted(done))


@pytest.mark.parametrize("stretch", [1, 999, 1250, 5000])
@pytest.mark.parametrize("kind", ["whiten", "standardise", "mean"])
def test_levels_give_the_bits_of_one_pass_whatever_the_stretches(kind: str, stretch: int) -> None:
    """Sums of whole numbers are exact."""
    settings = PreprocessSettings(kind, delete=3 if kind == "whiten" else 0)  # type: ignore[arg-type]
    few = IMAGES[: 80 if stretch == 1 else None]
    whole = Preprocessor.fit([few], settings).state()
    for each in (one_by_one, backwards):
        parts = fitted(few, settings, each, stretch).state()
        assert parts.keys() == whole.keys() and all(torch.equal(parts[name], whole[name]) for name in whole)


def test_fractions_are_added_in_the_stretches_order_whoever_works_on_them() -> None:
    """Bits are those of the order; another cut of the stretches agrees as far as float64 goes."""
    settings = PreprocessSettings("whiten", epsilon=1.0, contrast=True)
    here, there = (fitted(IMAGES, settings, each, 700).state() for each in (one_by_one, backwards))
    assert all(torch.equal(here[name], there[name]) for name in here)
    whole = Preprocessor.fit([IMAGES], settings)
    torch.testing.assert_close(here["spectrum"], whole.spectrum, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(here["mean"], whole.state()["mean"], rtol=0, atol=1e-5)


def test_absorbing_is_merging_in_place() -> None:
    """Against the moments of all rows at once; the shifts differ, and nothing of the other is changed."""
    rows = torch.from_numpy(generator(0, "absorb").normal(3, 1, (60, 7)))
    parts = [Moments(7), Moments(7), Moments(7)]
    for part, some in zip(parts[1:], (rows[:25], rows[25:]), strict=True):
        # Twice: the shift is the first rows' mean, and sums about it are not zero then.
        part.update(some[:10])
        part.update(some[10:])
    before = {name: tensor.clone() for name, tensor in parts[2].state().items()}
    for part in parts[1:]:
        parts[0].absorb(part)
    whole = Moments(7)
    whole.update(rows)
    torch.testing.assert_close(parts[0].covariance, whole.covariance, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(parts[0].mean, whole.mean, rtol=1e-14, atol=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in parts[2].state().items())
    with pytest.raises(BadInput, match="moments of widths 7 and 8 cannot be merged"):
        parts[0].absorb(Moments(8))


def test_one_picture_is_too_few() -> None:
    with pytest.raises(BadInput, match="needs at least 2 pictures, found 1"):
        fitted(IMAGES[:1], PreprocessSettings())
