"""IDX, the format of MNIST."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

import hostile
from striate.errors import BadInput
from striate.images import ImageStore, import_images
from striate.images.sources import open_source
from striate.images.sources.idx import read_idx


def idx(path: Path, array: np.ndarray) -> Path:
    data = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def digits(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize("names", [("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), ("a-images.idx3", "a-labels.idx1")])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_images_come_back_with_the_labels_beside_them(tmp_path: Path, names: tuple[str, str], suffix: str) -> None:
    images, labels = digits(), np.arange(6, dtype=np.uint8)[::-1]
    path = idx(tmp_path / (names[0] + suffix), images)
    idx(tmp_path / (names[1] + suffix), labels)
    source = open_source(path)
    assert source.natural_shape == (1, 28, 28)
    read = list(source)
    assert np.array_equal(np.stack([item.data for item in read])[:, 0], images)
    assert [item.label for item in read] == labels.tolist()


def test_without_a_label_file_there_are_no_labels(tmp_path: Path) -> None:
    assert {item.label for item in open_source(idx(tmp_path / "x-images-idx3-ubyte", digits()))} == {-1}


def test_a_folder_of_train_and_test_is_read_whole_and_keys_stay_apart(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("t10k", 2)):
        idx(tmp_path / f"{split}-images-idx3-ubyte.gz", digits(count))
        idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8))
    read = list(open_source(tmp_path))
    assert [item.label for item in read] == [0, 1, 0, 1, 2]
    assert len({item.key for item in read}) == 5


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (hostile.lying_idx, "promises .* too small"),
        (hostile.lying_gzip_idx, "promises .* too small"),
        (hostile.overflowing_idx, "promises 18446744073709551616 values"),
        (hostile.long_idx, "holds more"),
    ],
)
def test_headers_that_lie_are_bad_input_before_memory_is_asked_for(tmp_path: Path, bad: object, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_idx(bad(tmp_path))  # type: ignore[operator]


def test_cut_files_and_other_files_are_bad_input(tmp_path: Path) -> None:
    whole = idx(tmp_path / "a-images-idx3-ubyte", digits()).read_bytes()
    zipped = gzip.compress(whole)
    for number, data in enumerate((whole[:2], whole[:9], whole[:-1], zipped[: len(zipped) // 2], b"words" * 99, b"")):
        path = tmp_path / f"{number}-images-idx3-ubyte"
        path.write_bytes(data)
        with pytest.raises(BadInput, match=path.name):
            read_idx(path)


def test_labels_that_do_not_fit_are_bad_input(tmp_path: Path) -> None:
    path = idx(tmp_path / "x-images-idx3-ubyte", digits())
    labels = idx(tmp_path / "x-labels-idx1-ubyte", np.zeros(5, np.uint8))
    with pytest.raises(BadInput, match=r"holds \(5,\) labels for 6 images"):
        list(open_source(path))
    with pytest.raises(BadInput, match="holds labels: name the file of images"):
        open_source(labels)


def test_real_mnist_has_its_known_counts(shared_data: Path, tmp_path: Path) -> None:
    """The numbers of ones and of sevens in the test set are published with it."""
    counts = import_images(shared_data / "mnist" / "t10k-images-idx3-ubyte.gz", tmp_path / "s")
    store = ImageStore(tmp_path / "s")
    assert (counts.seen, counts.kept, store.shape) == (10_000, 10_000, (1, 28, 28))
    assert np.bincount(store.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert store[0].sum() == read_idx(shared_data / "mnist" / "t10k-images-idx3-ubyte.gz")[0].sum()
