"""Packed codes against plain counting."""

import numpy as np
import pytest

from striate.errors import BadInput
from striate.measure.binary_codes import hamming, pack, recall_at


@pytest.mark.parametrize("width", [1, 8, 28, 64, 65, 200])
def test_hamming_distance_counts_differing_bits(width: int) -> None:
    random = np.random.default_rng(0)
    a, b = random.random((7, width)) < 0.5, random.random((9, width)) < 0.5
    expected = (a[:, None] != b[None]).sum(axis=2)
    assert np.array_equal(hamming(pack(a), pack(b)), expected)
    assert pack(a).shape == (7, -(-width // 64))


def test_recall_is_one_for_perfect_codes_and_chance_for_random_ones() -> None:
    """One dimension in thermometer code: Hamming distance is distance. Random codes: k / n, to 6 standard errors."""
    random = np.random.default_rng(1)
    # No ties: distances between multiples of a power of two are all different.
    base = np.sort(random.permutation(2000)[:300])[:, None].astype(np.float64)
    queries = random.permutation(2000)[:50, None] + 0.25
    thermometer = [(rows > np.arange(0, 2000, 0.5)) for rows in (queries, base)]
    perfect = recall_at(pack(thermometer[0]), pack(thermometer[1]), queries, base, k=5, candidates=6)
    assert perfect.value > 0.99 and perfect.low < perfect.value <= perfect.high + 1e-12
    codes = [random.random((len(rows), 32)) < 0.5 for rows in (queries, base)]
    chance = recall_at(pack(codes[0]), pack(codes[1]), queries, base, k=5)
    expected = 5 / 300
    assert abs(chance.value - expected) < 6 * (expected / 250) ** 0.5
    assert chance.bytes_a_picture == 8 and chance.n == 50


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(BadInput, match="rows of bits"):
        pack(np.zeros(5, dtype=bool))
    codes = pack(np.zeros((3, 8), dtype=bool))
    with pytest.raises(BadInput, match="found 3"):
        recall_at(codes, codes, np.zeros((3, 2)), np.zeros((3, 2)), k=5)
