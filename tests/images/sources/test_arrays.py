"""numpy files and the tiny-images layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hostile
from striate.errors import BadInput
from striate.images import ImageStore, import_images
from striate.images.sources import SourceOptions, open_source


def colour(count: int = 3, side: int = 16) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def read(path: Path, options: SourceOptions | None = None) -> np.ndarray:
    return np.stack([item.data for item in open_source(path, options)])


@pytest.mark.parametrize("layout", ["n,c,h,w", "n,h,w,c", "n,h,w,1", "n,h,w"])
def test_every_layout_comes_back_planar(tmp_path: Path, layout: str) -> None:
    planar = colour() if "c" in layout else colour()[:, :1]
    stored = {"n,c,h,w": planar, "n,h,w": planar[:, 0]}.get(layout, planar.transpose(0, 2, 3, 1))
    np.save(tmp_path / "x.npy", stored)
    assert np.array_equal(read(tmp_path / "x.npy"), planar)


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("arr_0", "arr_1"), ("X", "Y"), ("data", "labels")])
def test_npz_gives_pictures_and_labels_under_the_usual_names(tmp_path: Path, names: tuple[str, str]) -> None:
    np.savez(tmp_path / "x.npz", **{names[0]: colour(), names[1]: np.array([[2], [0], [1]])})
    assert [item.label for item in open_source(tmp_path / "x.npz")] == [2, 0, 1]
    assert np.array_equal(read(tmp_path / "x.npz"), colour())


def test_all_sets_of_an_npz_are_read(tmp_path: Path) -> None:
    """As Keras ships MNIST: leaving the test set out in silence would lose pictures."""
    train, test = colour(4), colour(6)[4:]
    np.savez(tmp_path / "x.npz", x_train=train, y_train=np.arange(4), x_test=test, y_test=np.array([8, 9]))
    items = list(open_source(tmp_path / "x.npz"))
    assert np.array_equal(np.stack([item.data for item in items]), np.concatenate([train, test]))
    assert [item.label for item in items] == [0, 1, 2, 3, 8, 9]
    assert len({item.key for item in items}) == 6


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (hostile.float_npy, "holds float32 values: expected uint8"),
        (hostile.five_channel_npy, r"has shape \(4, 8, 8, 5\)"),
        (hostile.evil_npy, "no readable numpy file"),
    ],
)
def test_arrays_that_are_no_pictures_are_bad_input(tmp_path: Path, bad: object, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        open_source(bad(tmp_path))  # type: ignore[operator]
    assert not (tmp_path / hostile.CANARY).exists()


@pytest.mark.parametrize("labels", [np.zeros(2, int), np.zeros(3), np.zeros((3, 10), int), np.array("one")])
def test_labels_that_do_not_fit_are_bad_input(tmp_path: Path, labels: np.ndarray) -> None:
    np.savez(tmp_path / "x.npz", x=colour(), y=labels)
    with pytest.raises(BadInput, match="labels of shape"):
        open_source(tmp_path / "x.npz")


@pytest.mark.parametrize("images", [np.zeros(5, np.uint8), np.array(3, np.uint8), np.zeros((0, 8, 8), np.uint8)])
def test_empty_and_flat_arrays_are_bad_input(tmp_path: Path, images: np.ndarray) -> None:
    np.savez(tmp_path / "x.npz", x=images)
    with pytest.raises(BadInput, match="has shape"):
        open_source(tmp_path / "x.npz")


def test_cut_files_and_unknown_names_are_bad_input(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=colour())
    np.savez(tmp_path / "z.npz", weights=colour())
    np.save(tmp_path / "x.npy", colour())
    for name in ("x.npz", "x.npy"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-100])
        with pytest.raises(BadInput, match="no readable numpy file"):
            open_source(tmp_path / name)
    with pytest.raises(BadInput, match="found: weights"):
        open_source(tmp_path / "z.npz")


@pytest.mark.parametrize("order", ["columns", "rows"])
def test_tiny_images_planes_are_read_in_either_order(tmp_path: Path, order: str) -> None:
    pictures = colour(3, 32)
    stored = pictures.transpose(0, 1, 3, 2) if order == "columns" else pictures
    (tmp_path / "tiny_images.bin").write_bytes(stored.tobytes())
    assert np.array_equal(read(tmp_path / "tiny_images.bin", SourceOptions(tiny_order=order)), pictures)


def test_a_tiny_images_file_of_an_odd_size_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has 6161 bytes: expected a multiple of 3072"):
        open_source(hostile.odd_tiny_images(tmp_path))


def test_arrays_keep_their_own_size_and_colours_unless_told(tmp_path: Path) -> None:
    np.save(tmp_path / "grey.npy", colour()[:, 0])
    import_images(tmp_path / "grey.npy", tmp_path / "s")
    assert ImageStore(tmp_path / "s").shape == (1, 16, 16)
    assert np.array_equal(ImageStore(tmp_path / "s")[:], colour()[:, :1])
    import_images(tmp_path / "grey.npy", tmp_path / "t", size=8, mode="rgb")
    assert ImageStore(tmp_path / "t").shape == (3, 8, 8)
