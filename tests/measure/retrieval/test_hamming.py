"""Search by codes beside counting bits one by one."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from striate.errors import BadInput
from striate.measure.binary_codes import pack
from striate.measure.retrieval import Codes, SignCoder, learn_sign_codes, nearest, share_found

ENGINES = ["numpy", pytest.param("faiss", marks=pytest.mark.skipif(not importlib.util.find_spec("faiss"), reason="no FAISS"))]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("width", [4, 64, 100, 256, 300, 520])
def test_codes_are_found_as_by_sorting_all_distances_stably(width: int, engine: str) -> None:
    """Reference: unpacked bits. Short codes tie by the hundred, far beyond k; 20,000 codes are two blocks."""
    random = np.random.default_rng(width)
    for count, k in ((50, 50), (20_000, 7), (20_000, 200)):
        base, queries = random.random((count, width)) < 0.5, random.random((3, width)) < 0.5
        # The opposite of a query, as far as can be, and the query itself, last.
        base[1], base[-1] = ~queries[0], queries[0]
        found = Codes(pack(base), engine).nearest(pack(queries), k)  # type: ignore[arg-type]
        apart = np.stack([(base != query).sum(axis=1) for query in queries])
        order = np.argsort(apart, axis=1, kind="stable")[:, :k]
        assert np.array_equal(found.positions, order)
        assert np.array_equal(found.scores, np.take_along_axis(apart, order, axis=1))


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_codes_come_in_order(engine: str) -> None:
    found = Codes(pack(np.zeros((500, 70), bool)), engine).nearest(pack(np.ones((2, 70), bool)), 5)  # type: ignore[arg-type]
    assert found.positions.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert (found.scores == 70).all()


def test_turned_signs_find_more_than_signs_of_components_as_they_lie() -> None:
    """Most of the variance in few of 32 directions: unturned, most bits are spent on the others. Chance is 1%."""
    random = np.random.default_rng(0)
    mixed = np.linalg.qr(random.standard_normal((32, 32)))[0]
    rows = (random.standard_normal((2000, 32)) * 0.8 ** np.arange(32) @ mixed).astype(np.float32)
    truth = nearest(rows[:100], rows, 20, "l2").positions
    found = {}
    for bits in (8, 32):
        coder = learn_sign_codes(rows, bits)
        np.testing.assert_allclose(coder.rotation @ coder.rotation.T, np.eye(bits), atol=1e-4)
        assert np.array_equal(learn_sign_codes(rows, bits).codes(rows), coder.codes(rows))
        for name, one in (("turned", coder), ("lying", SignCoder(coder.components, np.eye(bits, dtype=np.float32)))):
            codes = one.codes(rows)
            found[name, bits] = share_found(truth, Codes(codes).nearest(codes[:100], 20).positions)
    assert found["turned", 32] > 1.3 * found["lying", 32]
    assert found["turned", 32] > found["turned", 8] > 0.05


def test_what_are_no_codes_is_refused() -> None:
    codes = pack(np.zeros((3, 70), bool))
    with pytest.raises(BadInput, match="rows of uint64"):
        Codes(codes.view(np.uint8))
    with pytest.raises(BadInput, match="k = 4 of 3"):
        Codes(codes).nearest(codes, 4)
    with pytest.raises(BadInput, match="2 words"):
        Codes(codes).nearest(codes[:, :1], 1)
    with pytest.raises(BadInput, match="expected 1 to 5"):
        learn_sign_codes(np.zeros((9, 5), np.float32), 6)
