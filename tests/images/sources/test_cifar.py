"""CIFAR in all its clothes, and pickles that want to run code."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

import hostile
from striate.errors import BadInput
from striate.images.sources import open_source
from striate.images.sources.cifar import CifarSource, unpickle

NAMES = ["airplane", "automobile", "bird"]


def pictures(count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def labels(count: int = 4) -> np.ndarray:
    return np.arange(count) % 3


def binary10(folder: Path) -> Path:
    folder.mkdir()
    rows = np.concatenate([labels()[:, None].astype(np.uint8), pictures().reshape(4, -1)], 1)
    (folder / "data_batch_1.bin").write_bytes(rows[:2].tobytes())
    (folder / "test_batch.bin").write_bytes(rows[2:].tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


def python10(folder: Path) -> Path:
    """As written by Python 2: protocol 2, byte-string keys."""
    folder.mkdir()
    for name, part in (("data_batch_1", slice(0, 2)), ("test_batch", slice(2, 4))):
        batch = {
            b"batch_label": b"one of two",
            b"labels": labels()[part].tolist(),
            b"data": pictures().reshape(4, -1)[part],
            b"filenames": [b"a.png", b"b.png"],
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [n.encode() for n in NAMES]}, protocol=2))
    (folder / "readme.html").write_text("<p>")
    return folder


def binary100(folder: Path) -> Path:
    folder.mkdir()
    both = np.stack([np.full(4, 9), labels()], 1).astype(np.uint8)
    (folder / "train.bin").write_bytes(np.concatenate([both, pictures().reshape(4, -1)], 1).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES))
    (folder / "coarse_label_names.txt").write_text("coarse")
    return folder


def python100(folder: Path) -> Path:
    folder.mkdir()
    batch = {b"data": pictures().reshape(4, -1), b"fine_labels": labels().tolist(), b"coarse_labels": [9] * 4}
    (folder / "train").write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": NAMES, b"coarse_label_names": ["x"]}, protocol=2))
    return folder


@pytest.mark.parametrize("make", [binary10, python10, binary100, python100])
@pytest.mark.parametrize("packed", [None, "cifar-python.tar.gz", "renamed.tar"])
def test_pictures_fine_labels_and_names_come_back(tmp_path: Path, make: object, packed: str | None) -> None:
    path = make(tmp_path / "batches")  # type: ignore[operator]
    if packed:
        folder, path = path, tmp_path / packed
        with tarfile.open(path, "w:gz" if packed.endswith("gz") else "w") as archive:
            archive.add(folder, "cifar-batches")
    source = open_source(path)
    assert isinstance(source, CifarSource) and source.class_names == NAMES
    read = list(source)
    assert np.array_equal(np.stack([item.data for item in read]), pictures())
    assert [item.label for item in read] == labels().tolist()
    assert len({item.key for item in read}) == 4


def test_one_batch_can_be_named_alone(tmp_path: Path) -> None:
    source = open_source(python10(tmp_path / "x") / "test_batch")
    assert np.array_equal(np.stack([item.data for item in source]), pictures()[2:])


def test_a_folder_of_ordinary_pictures_is_not_taken_for_cifar(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(hostile.encoded(hostile.picture(), "PNG"))
    (tmp_path / "tiny_images.bin").write_bytes(bytes(3072))
    assert not isinstance(open_source(tmp_path), CifarSource)


def test_a_pickle_that_would_run_a_program_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    batch = hostile.evil_pickle(tmp_path)
    with pytest.raises(BadInput, match=r"it asks for posix\.system, which no CIFAR file needs"):
        list(open_source(batch))
    assert not (tmp_path / hostile.CANARY).exists()
    pickle.loads(batch.read_bytes())
    assert (tmp_path / hostile.CANARY).exists(), "the pickle was harmless: this test would prove nothing"


@pytest.mark.parametrize(
    "wanted", [b"cbuiltins\neval\n", b"cbuiltins\ngetattr\n", b"cnumpy.core.multiarray\nfromstring\n", b"c__builtin__\nfile\n"]
)
def test_no_other_name_is_admitted(wanted: bytes) -> None:
    with pytest.raises(BadInput, match="which no CIFAR file needs"):
        unpickle(wanted + b"(S'1'\ntR.", "batch")


def test_arrays_pickled_by_old_and_new_numpy_are_admitted() -> None:
    array = np.arange(6, dtype=np.uint8)
    for module in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        for protocol in (0, 1, 2):
            data = pickle.dumps({"data": array, "n": np.int64(3)}, protocol=protocol)
            loaded = unpickle(data.replace(b"numpy._core.multiarray", module), "batch")
            assert np.array_equal(loaded["data"], array) and loaded["n"] == 3


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {b"data": np.zeros((2, 3072), np.uint8)},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": ["x", "y"]},
        {b"data": np.zeros((2, 100), np.uint8), b"labels": [1, 2]},
        {b"data": np.zeros((2, 3072), np.float32), b"labels": [1, 2]},
        {b"data": b"bytes", b"labels": [1, 2]},
    ],
)
def test_a_batch_of_another_make_is_bad_input(tmp_path: Path, content: object) -> None:
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(BadInput, match="data_batch_1"):
        list(open_source(tmp_path / "data_batch_1"))


def test_cut_batches_are_bad_input(tmp_path: Path) -> None:
    whole = (python10(tmp_path / "x") / "data_batch_1").read_bytes()
    (tmp_path / "data_batch_1").write_bytes(whole[:-500])
    with pytest.raises(BadInput, match="data_batch_1 is no CIFAR batch"):
        list(open_source(tmp_path / "data_batch_1"))
    (tmp_path / "data_batch_2.bin").write_bytes(bytes(3073 * 2 - 1))
    with pytest.raises(BadInput, match=r"data_batch_2\.bin has 6145 bytes"):
        list(open_source(tmp_path / "data_batch_2.bin"))


def test_a_cut_archive_is_bad_input(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.add(binary10(tmp_path / "x"), "cifar-10-batches-bin")
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(out.getvalue()[:-2000])
    with pytest.raises(BadInput, match="damaged archive"):
        open_source(tmp_path / "cifar-10-binary.tar.gz")


def test_the_tenth_batch_comes_after_the_ninth(tmp_path: Path) -> None:
    for number in range(1, 12):
        row = np.full(3073, number, np.uint8)
        (tmp_path / f"data_batch_{number}.bin").write_bytes(row.tobytes())
    (tmp_path / "test_batch.bin").write_bytes(np.full(3073, 12, np.uint8).tobytes())
    assert [item.label for item in CifarSource(tmp_path)] == list(range(1, 13))
