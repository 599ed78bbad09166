"""Every format: what is written comes back, with labels; damaged ones are named."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from striate.errors import BadInput
from striate.images import ImageStore, import_images
from striate.images.sources import open_source
from tests.hostile import encoded, picture

IMAGES = np.stack([picture(i, (32, 32)).transpose(2, 0, 1) for i in range(6)])
LABELS = np.array([0, 1, 1, 0, 1, 0])


def _import(source: Path, tmp_path: Path, **options: object) -> ImageStore:
    import_images(source, tmp_path / "store", workers=1, **options)
    return ImageStore(tmp_path / "store")


def _same(store: ImageStore, labels: np.ndarray | None = LABELS, images: np.ndarray = IMAGES) -> None:
    np.testing.assert_array_equal(store[:], images)
    np.testing.assert_array_equal(store.labels, labels if labels is not None else np.full(len(images), -1))


def _png(i: int) -> bytes:
    return encoded(IMAGES[i].transpose(1, 2, 0), "PNG")


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(6):
        (tmp_path / "in" / f"{i}.png").write_bytes(_png(i))
    _same(_import(tmp_path / "in", tmp_path), labels=None)


def test_one_folder_a_class_gives_labels_and_terms(tmp_path: Path) -> None:
    for i, label in enumerate(LABELS):
        folder = tmp_path / "in" / "train" / ("cat", "dog")[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(_png(i))
    store = _import(tmp_path / "in", tmp_path)
    order = np.argsort(LABELS, kind="stable")
    _same(store, LABELS[order], IMAGES[order])
    assert store.class_names == ["cat", "dog"]
    assert store.table["term"].to_pylist() == [("cat", "dog")[i] for i in LABELS[order]]


def test_metadata_table_gives_labels(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(6):
        (tmp_path / "in" / f"{i}.png").write_bytes(_png(i))
    lines = "".join(f"{i}.png,{('no', 'yes')[label]}\n" for i, label in enumerate(LABELS))
    (tmp_path / "in" / "metadata.csv").write_text("file_name,label\n" + lines)
    store = _import(tmp_path / "in", tmp_path)
    _same(store)
    assert store.class_names == ["no", "yes"]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_webdataset_shards(tmp_path: Path, suffix: str) -> None:
    with tarfile.open(tmp_path / f"shard{suffix}", "w:gz" if suffix.endswith("gz") else "w") as archive:
        for i, label in enumerate(LABELS):
            members = {f"{i:04d}.png": _png(i), f"{i:04d}.json": json.dumps({"label": int(label), "term": "x"}).encode()}
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    store = _import(tmp_path / f"shard{suffix}", tmp_path)
    _same(store)
    assert set(store.table["term"].to_pylist()) == {"x"}


def test_an_archive_cannot_write_outside(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        member = tarfile.TarInfo("../../escaped.png")
        member.size = len(_png(0))
        archive.addfile(member, io.BytesIO(_png(0)))
    before = set(tmp_path.parent.rglob("*"))
    assert len(_import(tmp_path / "evil.tar", tmp_path)) == 1
    assert not [path for path in set(tmp_path.parent.rglob("*")) - before if path.name == "escaped.png"]


def test_a_cut_archive_keeps_what_came_before(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "whole.tar", "w") as archive:
        for i in range(6):
            member = tarfile.TarInfo(f"{i}.png")
            member.size = len(_png(i))
            archive.addfile(member, io.BytesIO(_png(i)))
    data = (tmp_path / "whole.tar").read_bytes()
    end_of_third = 3 * 512 + sum(-(-len(_png(i)) // 512) * 512 for i in range(3))
    (tmp_path / "cut.tar").write_bytes(data[: end_of_third + 700])
    counts = import_images(tmp_path / "cut.tar", tmp_path / "store", workers=1)
    assert counts.kept == 3
    assert counts.rejected == 1


def test_hugging_face_parquet(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": _png(i), "path": f"{i}.png"}, "label": int(LABELS[i])} for i in range(6)]
    features = {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, tmp_path / "train-00000.parquet")
    store = _import(tmp_path / "train-00000.parquet", tmp_path)
    _same(store)
    assert store.class_names == ["a", "b"]
    assert store.keys[0] == "0.png"


def test_idx_with_labels_beside(tmp_path: Path) -> None:
    grey = IMAGES[:, :1]
    (tmp_path / "t-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 6, 32, 32) + grey.tobytes())
    )
    (tmp_path / "t-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 6) + LABELS.astype(np.uint8).tobytes())
    )
    _same(_import(tmp_path / "t-images-idx3-ubyte.gz", tmp_path), images=grey)


def test_idx_with_a_lying_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x-images-idx3-ubyte").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 1000, 32, 32) + b"\0" * 100)
    with pytest.raises(BadInput, match="promises"):
        _import(tmp_path / "x-images-idx3-ubyte", tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_binary_version(tmp_path: Path, packed: bool) -> None:
    rows = np.concatenate([LABELS[:, None].astype(np.uint8), IMAGES.reshape(6, -1)], axis=1)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "data_batch_1.bin").write_bytes(rows.tobytes())
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\n")
    source = folder
    if packed:
        source = tmp_path / "cifar-10-binary.tar.gz"
        with tarfile.open(source, "w:gz") as archive:
            archive.add(folder, "cifar-10-batches-bin")
    store = _import(source, tmp_path)
    _same(store)
    assert store.class_names == ["airplane", "automobile"]


def test_cifar100_binary_takes_the_fine_label(tmp_path: Path) -> None:
    coarse = np.full((6, 1), 9, np.uint8)
    rows = np.concatenate([coarse, LABELS[:, None].astype(np.uint8), IMAGES.reshape(6, -1)], axis=1)
    (tmp_path / "train.bin").write_bytes(rows.tobytes())
    _same(_import(tmp_path / "train.bin", tmp_path))


def test_cifar_python_version(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    batch = {b"data": IMAGES.reshape(6, -1), b"labels": LABELS.tolist(), b"filenames": [b"x.png"] * 6}
    (folder / "data_batch_1").write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"airplane", b"automobile"]}, protocol=2))
    store = _import(folder, tmp_path)
    _same(store)
    assert store.class_names == ["airplane", "automobile"]


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch EXECUTED",)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": _Evil()}))
    with pytest.raises(BadInput, match="no CIFAR"):
        _import(tmp_path / "data_batch_1", tmp_path)
    assert not (tmp_path / "EXECUTED").exists()


def test_tiny_images_are_stored_by_columns(tmp_path: Path) -> None:
    (tmp_path / "tiny_images.bin").write_bytes(IMAGES.transpose(0, 1, 3, 2).tobytes())
    _same(_import(tmp_path / "tiny_images.bin", tmp_path), labels=None)


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "npz"])
def test_numpy_files(tmp_path: Path, layout: str) -> None:
    if layout == "npz":
        np.savez_compressed(tmp_path / "x.npz", x=IMAGES.transpose(0, 2, 3, 1), y=LABELS)
        _same(_import(tmp_path / "x.npz", tmp_path))
    else:
        np.save(tmp_path / "x.npy", IMAGES if layout == "nchw" else IMAGES.transpose(0, 2, 3, 1))
        _same(_import(tmp_path / "x.npy", tmp_path), labels=None)


def _video(path: Path, frames: int) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.bit_rate = 2_000_000
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 + 20 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_videos_give_one_frame_in_n_or_the_middle_one(tmp_path: Path) -> None:
    """Frame k has level 20 + 20 k, so each frame tells its number."""
    pytest.importorskip("av", reason="PyAV is an extra")
    _video(tmp_path / "a.mp4", 10)
    every = import_images(tmp_path / "a.mp4", tmp_path / "every", every=4, workers=1)
    assert every.kept == 3
    numbers = np.rint((ImageStore(tmp_path / "every")[:].mean(axis=(1, 2, 3)) - 20) / 20).astype(int)
    np.testing.assert_array_equal(numbers, [0, 4, 8])
    import_images(tmp_path / "a.mp4", tmp_path / "middle", every=0, workers=1)
    middle = ImageStore(tmp_path / "middle")
    assert len(middle) == 1
    assert round((middle[0].mean() - 20) / 20) == 5


@pytest.mark.parametrize("name", ["x.parquet", "x.tar", "x.npy", "x.npz", "x.mp4", "x-images-idx3-ubyte", "x.unknown", "x.bin"])
def test_rubbish_of_any_name_is_named_bad_input_or_rejected(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"rubbish" * 100)
    try:
        counts = import_images(tmp_path / name, tmp_path / "store", workers=1)
    except BadInput as error:
        assert name in str(error) or "rubbish" in str(error)
    else:
        assert counts.kept == 0
        assert counts.rejected == counts.seen > 0


def test_an_empty_folder_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(BadInput, match="empty"):
        open_source(tmp_path / "in")
