"""Maps of collections: directions of most variance, clusters, and how much of the truth a map keeps."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch

from striate.errors import BadInput
from striate.measure.embedding import (
    clusters,
    find_components,
    neighbours_kept,
    project,
    sample_positions,
    tsne,
    umap,
)


def _rows(count: int = 400, dim: int = 30) -> np.ndarray:
    """Gaussian, deviations falling by a fifth from direction to direction, turned."""
    random = np.random.default_rng(0)
    turned, _ = np.linalg.qr(random.standard_normal((dim, dim)))
    return (random.standard_normal((count, dim)) * 0.8 ** np.arange(dim) @ turned + 5).astype(np.float32)


def test_components_are_those_of_the_exact_decomposition() -> None:
    rows = _rows()
    found = find_components(rows, 6)
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    cosines = np.abs((right[:6] * found.directions.numpy().T).sum(axis=1))
    assert cosines.min() > 1 - 1e-4
    largest = found.directions.abs().argmax(dim=0)
    assert (found.directions[largest, torch.arange(6)] > 0).all()
    np.testing.assert_allclose(found.apply(rows), centred @ found.directions.numpy(), atol=1e-4)


def test_few_rows_or_columns_give_as_many_components_as_there_are() -> None:
    assert find_components(_rows(5, 30), 50).directions.shape == (30, 5)
    assert find_components(_rows(40, 3), 50).directions.shape == (3, 3)


def test_projecting_block_by_block_is_projecting_at_once() -> None:
    rows = np.tile(_rows(), (25, 1))
    found = find_components(rows[:400], 4)
    blocks = list(project(found, lambda start, stop: rows[start:stop], len(rows)))
    assert len(blocks) == 3
    np.testing.assert_allclose(np.concatenate(blocks), found.apply(rows), atol=1e-5)


def test_a_sample_is_all_or_so_many_different_positions_in_order() -> None:
    assert sample_positions(7).tolist() == list(range(7))
    drawn = sample_positions(100_000, most=500)
    assert len(np.unique(drawn)) == 500 and (np.diff(drawn) > 0).all() and drawn.max() > 90_000


def test_clusters_far_apart_are_found_and_numbered_by_size() -> None:
    random = np.random.default_rng(0)
    sizes = (30, 120, 60)
    rows = np.concatenate([random.standard_normal((size, 4)) + 100 * at for at, size in enumerate(sizes)]).astype(np.float32)
    found = clusters(rows, 3)
    assert [set(part) for part in np.split(found, np.cumsum(sizes)[:2])] == [{2}, {0}, {1}]
    assert clusters(rows[:2], 20).max() <= 1


def test_a_map_that_is_the_truth_keeps_all_neighbours_and_one_without_it_by_chance() -> None:
    """By chance k of n - 1: within 4.89 deviations (1e-6) of 300 points' hypergeometric counts."""
    random = np.random.default_rng(0)
    points = random.random((1000, 2)).astype(np.float32)
    asked = np.arange(300)
    apart = ((points[asked][:, None].astype(np.float64) - points[None]) ** 2).sum(axis=2)
    apart[asked, asked] = np.inf
    true = np.argsort(apart, axis=1)[:, :10]
    kept = neighbours_kept(true, points, asked)
    assert (kept.share, kept.neighbours, kept.sample) == (1.0, 10, 300)
    shuffled = neighbours_kept(true, random.random((1000, 2)).astype(np.float32), asked)
    deviation = (kept.chance * (1 - kept.chance) / (300 * 10)) ** 0.5
    assert abs(shuffled.share - kept.chance) < 4.89 * deviation and kept.chance == 10 / 999


def test_tsne_keeps_more_of_separate_groups_than_two_components_do() -> None:
    """Twelve groups in as many directions: two components show two of them, t-SNE all."""
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(12), 20)
    rows = (0.3 * random.standard_normal((240, 12)) + 4 * np.eye(12)[group]).astype(np.float32)
    made = tsne(find_components(rows, 12).apply(rows))
    assert made.shape == (240, 2) and made.dtype == np.float32
    same = group[:, None] == group[None]
    np.fill_diagonal(same, False)
    apart = ((made[:, None] - made[None]) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argmin(axis=1)
    assert (group[nearest] == group).mean() > 0.95


def test_without_umap_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def none(name: str, *rest: Any) -> Any:
        if name == "umap":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", none)
    with pytest.raises(BadInput, match=r"striate\[umap\]"):
        umap(np.zeros((10, 2), np.float32))
