"""Near-duplicates: none missed, none invented; alignment finds crops; the calibration says what it promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from striate.measure.duplicates import (
    Compared,
    FeatureRows,
    Pairs,
    PictureRows,
    Search,
    calibrate,
    find_pairs,
    group,
    sharpness,
)
from striate.measure.duplicates.align import aligned_distances, tangents
from striate.measure.duplicates.calibration import cropped, pairs_of_copies, resized, saved_again
from striate.measure.duplicates.rows import as_rows, tiny
from striate.measure.duplicates.search import near_pairs


def photographs(count: int, seed: int = 0) -> np.ndarray:
    """Dead leaves: discs that hide each other, as things do in photographs; no two alike. uint8 (n, 3, 32, 32)."""
    draws = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        image = Image.new("RGB", (128, 128), tuple(draws.integers(0, 256, 3).tolist()))
        pen = ImageDraw.Draw(image)
        for _ in range(30):
            radius = float(np.clip(8 / draws.power(1.5), 8, 50))
            x, y = draws.uniform(-10, 138, 2)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(draws.integers(0, 256, 3).tolist()))
        small = np.asarray(image.resize((32, 32), Image.Resampling.BOX), dtype=float)
        made.append(np.clip(small + draws.normal(0, 3, small.shape), 0, 255).astype(np.uint8).transpose(2, 0, 1))
    return np.stack(made)


def rows_of(pictures: np.ndarray, **options: object) -> PictureRows:
    return PictureRows(lambda positions: pictures[positions], len(pictures), **options)  # type: ignore[arg-type]


def brute(rows: torch.Tensor, reach: float, other: torch.Tensor | None = None) -> set[tuple[int, int]]:
    """Every pair within reach, by float64 differences."""
    found = torch.cdist(rows.double(), (rows if other is None else other).double(), compute_mode="donot_use_mm_for_euclid_dist")
    near = (found <= reach).nonzero().tolist()
    return {(i, j) for i, j in near if other is not None or i < j}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_blocked_search_finds_exactly_the_pairs_of_brute_force(dtype: torch.dtype, scale: float) -> None:
    """Reference: all differences in float64, for rows of one norm and of very different ones."""
    draws = torch.Generator().manual_seed(0)
    rows = torch.randn(3000, 8, generator=draws)
    rows = rows / rows.norm(dim=1, keepdim=True) if scale == 1.0 else rows * scale
    rows[17] = torch.nan
    reach = 0.45 if scale == 1.0 else 1.1 * scale
    found = {pair for a, b in near_pairs(rows, reach, dtype=dtype) for pair in zip(a.tolist(), b.tolist())}
    assert len(found) > 300
    # Rounding may let in a pair that lies at the reach itself, and loses none.
    assert brute(rows, reach) <= found <= brute(rows, reach * (1 + 2e-5) + 2e-6)
    other = rows[:700] + 0.01
    found = {pair for a, b in near_pairs(rows, reach, other, dtype=dtype) for pair in zip(a.tolist(), b.tolist())}
    assert brute(rows, reach, other) <= found <= brute(rows, reach * (1 + 2e-5) + 2e-6, other)


def test_blocks_of_other_norms_are_skipped_without_loss() -> None:
    """Norms from 1 to 2.5 in several blocks, whose norms lie up to 0.5 apart: some near pairs join the outermost ones."""
    draws = torch.Generator().manual_seed(1)
    rows = torch.randn(6000, 3, generator=draws)
    rows = rows / rows.norm(dim=1, keepdim=True) * torch.linspace(1, 2.5, 6000)[torch.randperm(6000, generator=draws), None]
    found = {pair for a, b in near_pairs(rows, 0.6) for pair in zip(a.tolist(), b.tolist())}
    order = rows.norm(dim=1).argsort().argsort()
    assert any(min(order[a], order[b]) < 2048 and max(order[a], order[b]) >= 4096 for a, b in found)
    assert brute(rows, 0.6) <= found <= brute(rows, 0.6 * (1 + 2e-5) + 2e-6)


@pytest.mark.parametrize("metric", ["contrast", "l2"])
def test_short_rows_are_never_further_apart_than_rows(metric: str) -> None:
    """The bound that makes skipping lossless; and it is worth having: most of the distance is in it."""
    pictures = photographs(300)
    # Paler ones differ from their originals in every component alike: there the bound is the distance.
    rows = rows_of(np.concatenate([pictures, pictures[:100] // 2]), metric=metric)
    compared = Compared(rows)
    whole = rows(np.arange(400)).double()
    basis = compared.projection.basis.double()
    torch.testing.assert_close(basis.t() @ basis, torch.eye(basis.shape[1], dtype=torch.float64), atol=1e-5, rtol=0)
    short, distances = torch.pdist(compared.short.double()), torch.pdist(whole)
    # Projections and lengths are in float32: off by some 2^-24 of the rows' norms.
    assert bool((short <= distances + 1e-4 * float(whole.norm(dim=1).max())).all())
    assert float((short / distances).mean()) > 0.8


@pytest.mark.parametrize("metric", ["contrast", "l2"])
def test_without_crops_the_search_is_exact(metric: str) -> None:
    """Reference: distances of all rows in float64, at a threshold that parts them."""
    pictures = photographs(300)
    pictures = np.concatenate([pictures, np.stack([saved_again(picture, 60) for picture in pictures[:60]])])
    rows = rows_of(pictures, metric=metric)
    threshold = 0.5 if metric == "contrast" else 4.0
    found = find_pairs(Compared(rows), Search(threshold, crops=0))
    assert set(zip(found.first.tolist(), found.second.tolist())) == brute(rows(np.arange(360)), threshold)
    assert (np.diff(found.distance) >= 0).all()


def test_tangents_are_derivatives_of_moved_pictures() -> None:
    """Finite differences of a picture that is a known function of place."""
    size, step = 32, 0.05
    y, x = np.meshgrid(np.arange(size) - 15.5, np.arange(size) - 15.5, indexing="ij")

    def picture(shift_x: float, shift_y: float, scale_x: float, scale_y: float) -> torch.Tensor:
        across, down = x + shift_x + scale_x * x / 16, y + shift_y + scale_y * y / 16
        return torch.from_numpy(np.sin(0.3 * across + 0.1 * down) + np.cos(0.05 * across * down / 4))[None, None]

    found = tangents(picture(0, 0, 0, 0).float())[0]
    inside = np.s_[2:-2, 2:-2]
    for number in range(4):
        moved = [0.0] * 4
        moved[number] = step
        difference = (picture(*moved) - picture(*(-one for one in moved))) / (2 * step)
        ours = found[number].view(size, size).double()[inside]
        # Central differences on pixels: off by a sixth of the third derivative, 0.3^3 / 6 of an amplitude of 1.
        assert float((ours - difference[0, 0][inside]).abs().max()) < 0.02


def test_alignment_undoes_crops_and_leaves_other_pictures_apart() -> None:
    pictures = photographs(80)
    box = np.array([2.0, 1.0, 0.0, 2.0])
    copies = np.stack([cropped(picture, box) for picture in pictures])
    levels, moved = tiny(pictures), tiny(copies)
    plain = (as_rows(levels, "contrast") - as_rows(moved, "contrast")).norm(dim=1)
    aligned = aligned_distances(levels, moved, 2.6, 2.0)
    assert float(plain.median()) > 0.4
    assert float(aligned.quantile(0.95)) < 0.12
    # Either way round, and not so flexible that anything fits.
    assert float(aligned_distances(moved, levels, 2.6, 2.0).quantile(0.95)) < 0.12
    others = aligned_distances(levels, levels.roll(1, dims=0), 2.6, 2.0)
    assert float(others.quantile(0.05)) > 0.6
    assert bool((aligned_distances(levels, levels, 2.6, 2.0) < 1e-3).all())


def test_planted_copies_are_found_and_nothing_else() -> None:
    """Re-saved, resized and cropped copies of a third of the pictures, of which none resemble each other."""
    pictures = photographs(450)
    draws = np.random.default_rng(1)
    originals = draws.choice(450, 150, replace=False)
    copies = []
    for number, original in enumerate(originals):
        picture = pictures[original]
        if number % 3 == 0:
            picture = saved_again(picture, int(draws.integers(50, 96)))
        elif number % 3 == 1:
            picture = resized(picture, float(draws.choice([0.75, 1.25, 1.5])))
        else:
            picture = cropped(picture, draws.integers(0, 3, 4).astype(float))
        copies.append(picture)
    rows = rows_of(np.concatenate([pictures, np.stack(copies)]))
    compared = Compared(rows)
    made = calibrate(compared, Search(0.0), sample=300)
    assert made.missed < 0.01
    found = find_pairs(compared, made.search)
    right, wrong = pairs_of_copies(found, originals, 450)
    assert right >= 0.98 * 150
    assert wrong <= 0.01 * right


def test_mirrored_copies_are_found_on_request_only() -> None:
    pictures = photographs(120)
    rows = rows_of(np.concatenate([pictures, pictures[:30, :, :, ::-1]]))
    search = Search(0.2, crops=0)
    assert len(find_pairs(Compared(rows), search)) == 0
    found = find_pairs(Compared(rows), replace(search, mirrored=True))
    assert set(zip(found.first.tolist(), found.second.tolist())) == {(i, i + 120) for i in range(30)}
    assert found.mirrored.all()


def test_flat_pictures_are_twins_of_nothing() -> None:
    """Without contrast only noise is left to compare."""
    flat = np.full((20, 3, 32, 32), 200, np.uint8)
    flat[:, 0, 0, 0] = np.arange(20) + 180
    rows = rows_of(np.concatenate([photographs(30), flat]))
    compared = Compared(rows)
    assert int(compared.short[:, 0].isnan().sum()) == 20
    assert len(find_pairs(compared, Search(0.3)).within(0.3)) == 0


def test_features_are_compared_by_direction() -> None:
    draws = np.random.default_rng(0)
    features = draws.standard_normal((200, 40)).astype(np.float32)
    features = np.concatenate([features, 3 * features[:10], np.zeros((1, 40), np.float32)])
    found = find_pairs(Compared(FeatureRows(features)), Search(0.01, crops=2.0))
    assert set(zip(found.first.tolist(), found.second.tolist())) == {(i, 200 + i) for i in range(10)}


def test_groups_are_what_pairs_connect_and_keep_the_best() -> None:
    pairs = Pairs(np.array([4, 1, 7]), np.array([5, 4, 8]), np.array([0.1, 0.2, 0.05], np.float32), np.zeros(3, bool))
    quality = np.array([0, 1, 0, 0, 1, 3, 0, 2, 2.0])
    first, second = group(pairs, 9, quality)
    assert (first.members, first.kept, first.nearest) == ((7, 8), 7, pytest.approx(0.05))
    assert (second.members, second.kept) == ((5, 1, 4), 5)
    assert second.furthest == pytest.approx(0.2)


def test_sharpness_prefers_the_original_to_its_copies() -> None:
    pictures = photographs(60)
    smaller = np.stack([resized(picture, 0.6) for picture in pictures])
    assert (sharpness(pictures) > sharpness(smaller)).mean() > 0.95


def test_a_calibrated_threshold_parts_copies_from_others() -> None:
    """On pictures that do not resemble each other: nearly all copies within, no other picture."""
    compared = Compared(rows_of(photographs(400)))
    for crops in (0.0, 2.0):
        made = calibrate(compared, Search(0.0, crops=crops), sample=200)
        distances = np.concatenate(list(made.copies.values()))
        assert (distances <= made.search.threshold).mean() == pytest.approx(1 - made.missed)
        assert made.missed <= 0.01
        assert made.taken <= 0.02
    given = calibrate(compared, Search(0.0), threshold=0.111, sample=50)
    assert given.search.threshold == 0.111


@pytest.mark.science
def test_cifar_10_shares_a_thirtieth_of_its_test_set_with_its_training_set(shared_data: object) -> None:
    """Barz and Denzler 2020 found near-duplicates of 3.3% of the test pictures in the training set, by eye."""
    import pyarrow.parquet as pq

    from striate.images.decode import Target, decode, own_limits

    def read(name: str) -> np.ndarray:
        table = pq.ParquetFile(shared_data / "cifar10" / f"{name}.parquet").read(columns=["image"])  # type: ignore[operator]
        with own_limits():
            return np.stack([decode(row["bytes"], Target((3, 32, 32))) for row in table["image"].to_pylist()])

    train, test = read("train"), read("test")
    rows = rows_of(np.concatenate([train, test]))
    compared = Compared(rows)
    found = find_pairs(compared, calibrate(compared, Search(0.0)).search)
    crossing = (found.first < len(train)) & (found.second >= len(train))
    share = len(np.unique(found.second[crossing])) / len(test)
    assert 0.028 < share < 0.038
