"""Whitening and its inverse, deletion, patches: invariants and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from striate.errors import BadInput
from striate.images import ImageStore, import_images
from striate.preprocess import Preprocessor, PreprocessSettings, batches_of, draw_patches

SHAPE = (3, 4, 4)


def _pictures(count: int = 600, seed: int = 0) -> np.ndarray:
    """Correlated uint8 pictures (n, 3, 4, 4) of full rank."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((48, 48)) * np.linspace(2, 0.3, 48)
    levels = 128 + 9 * random.standard_normal((count, 48)) @ mixing
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8).reshape(count, *SHAPE)


def _fit(pictures: np.ndarray, **settings: object) -> Preprocessor:
    return Preprocessor.fit(batches_of(pictures, 100), PreprocessSettings(**settings))


def test_whitened_data_has_the_identity_as_covariance() -> None:
    """Float32 products over 48 terms: 1e-4 is a hundred roundings."""
    pictures = _pictures()
    rows = _fit(pictures).apply(pictures).double().numpy()
    np.testing.assert_allclose(np.cov(rows, rowvar=False), np.eye(48), atol=1e-4)


@pytest.mark.parametrize("delete", [1, 17, 40])
def test_deletion_leaves_a_mean_variance_of_what_is_kept(delete: int) -> None:
    """The trace of the projector: (d - k) / d, the paper's 0.67 for 1,000 of 3,072, and a covariance that is the projector."""
    pictures = _pictures()
    rows = _fit(pictures, delete=delete).apply(pictures).double().numpy()
    covariance = np.cov(rows, rowvar=False)
    assert np.trace(covariance) / 48 == pytest.approx((48 - delete) / 48, abs=1e-4)
    np.testing.assert_allclose(covariance @ covariance, covariance, atol=3e-4)


@pytest.mark.parametrize("kind", ["whiten", "standardise", "scale", "delete"])
def test_inversion_gives_the_pictures_back(kind: str) -> None:
    pictures = _pictures()
    pre = _fit(pictures, kind=kind)
    back = pre.invert(pre.apply(pictures[:50]))
    np.testing.assert_allclose(back.numpy(), pictures[:50].astype(float), atol=0.02)


def test_inversion_after_deletion_is_the_projection() -> None:
    pictures = _pictures()
    pre = _fit(pictures, delete=20)
    once = pre.invert(pre.apply(pictures))
    again = pre.invert(pre.apply(once))
    np.testing.assert_allclose(again.numpy(), once.numpy(), atol=0.02)
    centred = pictures.reshape(len(pictures), -1) - pictures.reshape(len(pictures), -1).mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(centred, rowvar=False))
    kept = vectors[:, 20:]
    expected = centred @ kept @ kept.T + pictures.reshape(len(pictures), -1).mean(axis=0)
    np.testing.assert_allclose(once.flatten(1).numpy(), expected, atol=0.02)
    assert values[0] < values[-1]


def test_zca_is_symmetric_and_epsilon_attenuates_weak_directions() -> None:
    """Closed form: a direction of variance l comes out with variance l / (l + epsilon)."""
    pictures = _pictures()
    pre = _fit(pictures, epsilon=100.0)
    state = pre.state()
    torch.testing.assert_close(state["forward"], state["forward"].t(), atol=1e-6, rtol=1e-5)
    rows = pre.apply(pictures).double().numpy()
    spectrum = state["spectrum"].numpy()
    found = np.sort(np.linalg.eigvalsh(np.cov(rows, rowvar=False)))[::-1]
    np.testing.assert_allclose(found, spectrum / (spectrum + 100), rtol=1e-3, atol=1e-5)


def test_filters_act_on_white_rows_as_their_pictures_say() -> None:
    """w . F(x - mean) for all x is its response; its dewhitened picture is what adding w does to the reconstruction."""
    pictures = _pictures()
    pre = _fit(pictures)
    weights = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
    moved = pre.invert(pre.apply(pictures[:1]) + weights) - pre.invert(pre.apply(pictures[:1]))
    torch.testing.assert_close(pre.filters_to_pixels(weights), moved, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["whiten", "standardise", "scale", "mean", "delete"])
@pytest.mark.parametrize("contrast", [False, True])
def test_a_restored_preprocessor_is_equal_to_the_last_bit(kind: str, contrast: bool) -> None:
    if kind in ("scale", "mean") and contrast:
        with pytest.raises(BadInput, match=f"kind {kind} cannot use them"):
            PreprocessSettings(kind=kind, contrast=True)  # type: ignore[arg-type]
        return
    pictures = _pictures()
    pre = _fit(pictures, kind=kind, contrast=contrast, delete=2)
    again = Preprocessor.restore(pre.describe(), {name: tensor.clone() for name, tensor in pre.state().items()})
    assert torch.equal(again.apply(pictures), pre.apply(pictures))
    assert again.settings == pre.settings


def test_contrast_normalisation_ignores_brightness_and_contrast() -> None:
    """A picture at half contrast and other brightness gives nearly the same row (the floor of 10 is the rest)."""
    base = np.random.default_rng(0).integers(60, 200, (1, *SHAPE)).astype(np.float32)
    pre = _fit(_pictures(), kind="standardise", contrast=True)
    same = pre.apply(base) - pre.apply(0.5 * base + 20)
    assert float(same.abs().max()) < 0.05 * float(pre.apply(base).abs().max())


def test_too_few_directions_are_named_with_the_remedy() -> None:
    flat = np.repeat(_pictures(20), 2, axis=0)
    with pytest.raises(BadInput, match=r"vary in 19 directions only.*preprocess.delete to 29"):
        _fit(flat)
    rows = _fit(flat, delete=29).apply(flat)
    assert bool(torch.isfinite(rows).all())
    with pytest.raises(BadInput, match="from 0 to 47"):
        _fit(flat, delete=48)
    with pytest.raises(BadInput, match="kind scale cannot use them"):
        PreprocessSettings(kind="scale", contrast=True)
    with pytest.raises(BadInput, match="at least 2"):
        _fit(_pictures(1))


def test_patches_are_windows_of_their_pictures_and_the_same_for_a_seed() -> None:
    """Pixel levels tell picture, row and column, so that every patch can be traced."""
    pictures = np.zeros((7, 3, 9, 8), np.uint8)
    pictures[:, 0] = np.arange(7)[:, None, None]
    pictures[:, 1] = np.arange(9)[:, None]
    pictures[:, 2] = np.arange(8)[None, :]
    patches = draw_patches(pictures, 4, 5000, seed=1)
    np.testing.assert_array_equal(patches, draw_patches(pictures, 4, 5000, seed=1))
    assert not np.array_equal(patches, draw_patches(pictures, 4, 5000, seed=2))
    for patch in patches[:300]:
        number, top, left = int(patch[0, 0, 0]), int(patch[1, 0, 0]), int(patch[2, 0, 0])
        np.testing.assert_array_equal(patch, pictures[number, :, top : top + 4, left : left + 4])
    counts = np.bincount(patches[:, 0, 0, 0], minlength=7)
    assert counts.max() - counts.min() <= 1
    assert {int(t) for t in patches[:, 1, 0, 0]} == set(range(6))
    with pytest.raises(BadInput, match="do not fit"):
        draw_patches(pictures, 9, 5, seed=0)


@pytest.mark.science
def test_cifar10_loses_a_third_of_its_variance_with_1000_directions(shared_data: Path, tmp_path: Path) -> None:
    """Trap of the paper: whitened and deleted, the mean pixel variance is 2072 / 3072 = 0.674, not 1."""
    import_images(shared_data / "cifar10" / "train.parquet", tmp_path / "s", limit=5000)
    store = ImageStore(tmp_path / "s")
    pre = Preprocessor.fit(batches_of(store), PreprocessSettings(delete=1000))
    assert float(pre.apply(store[:]).var(dim=0).mean()) == pytest.approx(2072 / 3072, abs=1e-3)
