"""Exact search beside sorting everything in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from striate.errors import BadInput
from striate.measure.retrieval import METRICS, Nearest, judged, nearest, row_norms, share_found
from striate.measure.retrieval.metrics import metric_named
from striate.measure.retrieval.rounding import UNIT, product_errors

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def sorted_all(queries: np.ndarray, rows: np.ndarray, k: int, metric: str) -> Nearest:
    """The reference: every likeness in float64, rows in order, sorted stably."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    found = []
    for query in queries:
        if metric == "l2":
            likeness = -((rows - query) ** 2).sum(axis=1)
        else:
            likeness = (rows * query).sum(axis=1)
        if metric == "cosine":
            norms = np.sqrt((rows**2).sum(axis=1)) * np.sqrt((query**2).sum())
            likeness = np.where(norms > 0, likeness / np.where(norms > 0, norms, 1), 0)
        likeness = np.where(np.isfinite(likeness), likeness, -np.inf)
        order = np.argsort(-likeness, kind="stable")[:k]
        found.append((order, np.sqrt(-likeness[order]) if metric == "l2" else likeness[order]))
    return Nearest(np.stack([one for one, _ in found]), np.stack([one for _, one in found]))


def assert_same(found: Nearest, wanted: Nearest) -> None:
    assert np.array_equal(found.positions, wanted.positions)
    # Both sum some dozens of float64 numbers, in other orders.
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-12, atol=1e-12)


def some(count: int, dim: int, queries: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows float32 of different lengths, near a common direction as activities are, and queries."""
    random = np.random.default_rng(seed)
    rows = (1 + 0.3 * random.standard_normal((count, dim))) * random.uniform(0.2, 3, (count, 1))
    return rows.astype(np.float32), 1 + 0.3 * random.standard_normal((queries, dim))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("products", FORMATS)
@pytest.mark.parametrize("kept", ["float32", "float16", "bfloat16"])
def test_search_equals_sorting_everything_in_float64(metric: str, products: str, kept: str) -> None:
    """Reference: all likenesses in float64. Rows of 96 numbers so close that bf16 products alone put them in another order."""
    rows, queries = some(3000, 96)
    held = torch.from_numpy(rows).bfloat16() if kept == "bfloat16" else rows.astype(kept)
    true = held.float().numpy() if isinstance(held, torch.Tensor) else held
    wanted = sorted_all(queries, true, 12, metric)
    assert_same(nearest(queries, held, 12, metric, dtype=FORMATS[products]), wanted)
    assert_same(nearest(queries, held, 12, metric, dtype=FORMATS[products], norms=row_norms(held)), wanted)


def test_products_in_bf16_alone_would_answer_otherwise() -> None:
    """What the test above would not notice, were its rows too easy."""
    rows, queries = some(3000, 96)
    products = (torch.from_numpy(queries).bfloat16() @ torch.from_numpy(rows).bfloat16().t()).float().numpy()
    likeness = products / np.linalg.norm(rows, axis=1)
    order = np.argsort(-likeness, axis=1, kind="stable")[:, :12]
    assert not np.array_equal(order, sorted_all(queries, rows, 12, "cosine").positions)


@pytest.mark.parametrize("metric", METRICS)
def test_a_memory_map_of_many_blocks_is_searched_like_an_array(tmp_path: Path, metric: str) -> None:
    """2,600 rows of 2,048 numbers are 21 MB, three blocks of float32; best rows planted in the last block and at borders."""
    random = np.random.default_rng(1)
    rows = random.standard_normal((2600, 2048)).astype(np.float32)
    queries = random.standard_normal((20, 2048))
    for number, place in enumerate((0, 1023, 1024, 2047, 2048, 2599)):
        rows[place] = queries[number] + 0.1 * random.standard_normal(2048)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    wanted = sorted_all(queries, rows, 5, metric)
    steps: list[int] = []
    for dtype in (None, *FORMATS.values()):
        assert_same(nearest(queries, mapped, 5, metric, dtype=dtype, progress=steps.append), wanted)
    assert sum(steps) == 3 * 2600
    assert wanted.positions[:6, 0].tolist() == [0, 1023, 1024, 2047, 2048, 2599]


@pytest.mark.parametrize("products", FORMATS)
@pytest.mark.parametrize("metric", METRICS)
def test_of_equals_the_first_in_order_wins(metric: str, products: str) -> None:
    """Whole numbers, whose likenesses are exact: 4 different rows, each 700 times, shuffled."""
    random = np.random.default_rng(2)
    rows = random.integers(-3, 4, (4, 16)).astype(np.float32)[random.permutation(2800) % 4]
    queries = random.integers(-3, 4, (3, 16)).astype(np.float64)
    assert_same(nearest(queries, rows, 9, metric, dtype=FORMATS[products]), sorted_all(queries, rows, 9, metric))


@pytest.mark.parametrize("products", FORMATS)
@pytest.mark.parametrize("metric", METRICS)
def test_rows_that_are_no_numbers_are_never_found(metric: str, products: str) -> None:
    rows, queries = some(60, 8)
    rows[::2, 3] = np.nan
    rows[1::4, 5] = np.inf
    rows[3, 5] = -np.inf
    found = nearest(queries, rows, 60, metric, dtype=FORMATS[products])
    sound = np.flatnonzero(np.isfinite(rows).all(axis=1))
    assert (np.sort(found.positions[:, : len(sound)], axis=1) == sound).all()
    assert (found.positions[:, len(sound) :] == -1).all() and np.isnan(found.scores[:, len(sound) :]).all()


def test_a_row_of_zeros_is_at_a_right_angle_to_everything() -> None:
    rows = np.array([[0, 0], [1, 1], [-1, 0]], dtype=np.float32)
    found = nearest(np.array([[2.0, 0.0]]), rows, 3)
    assert found.positions.tolist() == [[1, 0, 2]]
    assert found.scores[0] == pytest.approx([2**-0.5, 0, -1])


def test_where_bf16_tells_nothing_float32_goes_on() -> None:
    """Rows that differ in the fifth digit: every bf16 product is within its margin, and the answer is exact all the same."""
    random = np.random.default_rng(3)
    rows = 1 + 1e-4 * random.random((8300, 4096), dtype=np.float32)
    queries = rows[[5, 8250]].astype(np.float64)
    found = nearest(queries, rows, 1, "l2", dtype=torch.bfloat16)
    assert found.positions[:, 0].tolist() == [5, 8250]


@pytest.mark.parametrize("products", FORMATS)
def test_a_product_is_within_its_margin_and_the_margin_is_not_idle(products: str) -> None:
    """Bounds of section 3.1 of Higham's; where all roundings go one way, most of it is used up in bf16."""
    random = np.random.default_rng(4)
    dtype, dim = FORMATS[products], 256
    # Just below the middle between two neighbours in bf16: every operand is rounded down by nearly half a step.
    worst = np.full((1, dim), 1 + 2.0**-8 - 2.0**-20)
    for rows in (random.standard_normal((500, dim)), np.abs(random.standard_normal((500, dim))), worst):
        exact = rows @ rows[:1].T
        single = torch.from_numpy(rows.astype(np.float32)).to(dtype)
        computed = (single @ single[:1].t()).double().numpy()
        bound = product_errors(rows[:1], single[:1], rows_rounded=True) * np.linalg.norm(rows, axis=1, keepdims=True)
        bound = bound + (UNIT[dtype] if dtype == torch.bfloat16 else 0) * np.abs(computed)
        assert (np.abs(computed - exact) <= bound).all()
    if dtype == torch.bfloat16:
        assert np.abs(computed - exact) > 0.6 * bound
        # Rows alone rounded, outputs not: all that may be lost is, nearly.
        query = np.ones((1, dim))
        lost = query @ worst.T - query @ torch.from_numpy(worst).to(dtype).double().numpy().T
        bound = product_errors(query, torch.from_numpy(query).to(dtype), rows_rounded=True) * np.linalg.norm(worst)
        assert 0.95 * bound < lost < bound


def test_norms_are_those_of_the_rows_themselves_not_of_what_bf16_makes_of_them() -> None:
    """Near the origin distance is the norm. One row's square is 258 and would be 260 in bf16, the other's 259 in both."""
    nearer = np.full(256, 1 + 2.0**-8 + 2.0**-20)
    further = np.where(np.arange(256) < 192, 1 + 2.0**-7, 1)
    rows = np.stack([further, nearer]).astype(np.float32)
    found = nearest(np.full((1, 256), 1e-3), rows, 1, "l2", dtype=torch.bfloat16)
    assert found.positions.tolist() == [[1]]


def test_candidates_are_judged_as_exact_search_would() -> None:
    rows, queries = some(400, 24)
    for metric in METRICS:
        wanted = nearest(queries, rows, 7, metric)
        among = np.concatenate([wanted.positions[:, ::-1], np.full((5, 2), -1), (wanted.positions[:, :1] + 1) % 400], axis=1)
        among = np.stack([np.append(np.unique(one), -1)[:9] for one in among[:, :9]])
        found = judged(queries, lambda positions: rows[positions], among, 7, metric)
        assert np.array_equal(found.positions, wanted.positions)
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-12)
    assert share_found(np.array([[1, 2, -1], [3, 4, 5]]), np.array([[2, 9], [4, 3]])) == pytest.approx(3 / 5)


def test_questions_without_an_answer_are_refused() -> None:
    rows, queries = some(10, 4)
    for asked, words in (
        ({"k": 11}, "k = 11 of 10"),
        ({"k": 0}, "k = 0"),
        ({"metric": "cosin"}, "did you mean cosine"),
        ({"queries": queries[:, :3]}, "must agree"),
        ({"queries": queries[0]}, "must agree"),
        ({"queries": queries * np.nan}, "not finite"),
        ({"queries": queries * 0}, "zeros"),
    ):
        with pytest.raises(BadInput, match=words):
            nearest(**{"queries": queries, "rows": rows, "k": 3, **asked})  # type: ignore[arg-type]
    assert nearest(queries * 0, rows, 1, "l2").positions.shape == (5, 1)
    with pytest.raises(BadInput, match="there are cosine, l2, dot"):
        metric_named("xyz")
