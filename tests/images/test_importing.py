"""Importing: everything is accounted for, whatever happens in between."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, StoreWriter, import_images
from striate.images.store import read_rows
from tests.hostile import encoded, picture, write_pile


def test_the_hostile_pile_is_counted_and_named(tmp_path: Path) -> None:
    reasons = write_pile(tmp_path / "in", good=5)
    (tmp_path / "in" / "twin.jpg").write_bytes((tmp_path / "in" / "good-0.jpg").read_bytes())
    counts = import_images(tmp_path / "in", tmp_path / "store")
    assert (counts.kept, counts.rejected, counts.duplicates) == (5, len(reasons), 1)
    assert counts.seen == counts.kept + counts.rejected + counts.duplicates
    rejected = dict(zip(*ImageStore(tmp_path / "store").rejected.select(["key", "reason"]).to_pydict().values()))
    assert rejected.keys() == reasons.keys()
    for key, words in reasons.items():
        assert words in rejected[key]
    duplicate = ImageStore(tmp_path / "store").duplicates.to_pylist()[0]
    assert (duplicate["key"], duplicate["kept"]) == ("twin.jpg", "good-0.jpg")


def test_importing_twice_adds_nothing(tmp_path: Path) -> None:
    write_pile(tmp_path / "in")
    first = import_images(tmp_path / "in", tmp_path / "store")
    digest = ImageStore(tmp_path / "store").digest
    second = import_images(tmp_path / "in", tmp_path / "store")
    assert second.added == 0
    assert (second.seen, second.kept) == (first.seen, first.kept)
    assert ImageStore(tmp_path / "store").digest == digest


def test_a_second_source_is_added_with_its_own_classes(tmp_path: Path) -> None:
    images = np.stack([picture(i, (32, 32)).transpose(2, 0, 1) for i in range(8)])
    import_images(ArraySource(images[:4], np.array([0, 1, 0, 1]), ["cat", "dog"]), tmp_path / "s", name="one")
    import_images(ArraySource(images[4:], np.array([0, 1, 0, 1]), ["dog", "emu"]), tmp_path / "s", name="two")
    store = ImageStore(tmp_path / "s")
    assert store.class_names == ["cat", "dog", "emu"]
    np.testing.assert_array_equal(store.labels, [0, 1, 0, 1, 1, 2, 1, 2])
    np.testing.assert_array_equal(store[np.array([7, 0, 3])], images[[7, 0, 3]])
    np.testing.assert_array_equal(store[2:6], images[2:6])
    np.testing.assert_array_equal(store[-1], images[7])


def test_workers_do_not_change_the_store(tmp_path: Path) -> None:
    """Byte for byte, against a single process."""
    images = np.stack([picture(i, (32, 32)).transpose(2, 0, 1) for i in range(700)])
    for workers in (1, 2):
        import_images(ArraySource(images), tmp_path / str(workers), workers=workers, name="x")
    assert _contents(tmp_path / "1") == _contents(tmp_path / "2")


def _contents(store: Path) -> dict[str, bytes]:
    return {str(f.relative_to(store)): f.read_bytes() for f in sorted(store.rglob("*")) if f.is_file() and f.name != ".lock"}


def _folder_of_pictures(folder: Path, count: int) -> None:
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:05d}.jpg").write_bytes(encoded(picture(i, (48, 48))))
    (folder / "bad.jpg").write_bytes(b"bad")
    (folder / "twin.jpg").write_bytes((folder / "00000.jpg").read_bytes())


_SLOW_IMPORT = """
import sys, time
import striate.images.importing as importing
importing._CHUNK_ITEMS, importing._COMMIT_ROWS = 8, 8
commit = importing.StoreWriter.commit
def slow_commit(self):
    commit(self); time.sleep(0.002)
importing.StoreWriter.commit = slow_commit
importing.import_images(sys.argv[1], sys.argv[2], workers=1)
"""


def test_kill_9_at_random_moments_changes_nothing_in_the_end(tmp_path: Path) -> None:
    """A dozen kills over one import; the finished store holds the same pictures, rows and counts as an undisturbed one."""
    _folder_of_pictures(tmp_path / "in", 300)
    import_images(tmp_path / "in", tmp_path / "calm", workers=1)
    random = np.random.default_rng(0)
    killed = 0
    for _ in range(12):
        process = subprocess.Popen([sys.executable, "-c", _SLOW_IMPORT, str(tmp_path / "in"), str(tmp_path / "store")])
        deadline = time.monotonic() + 10
        while not (tmp_path / "store" / "store.json").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.35 + float(random.uniform(0, 0.12)))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert killed >= 3
    counts = import_images(tmp_path / "in", tmp_path / "store", workers=1)
    assert (counts.seen, counts.kept, counts.rejected, counts.duplicates) == (302, 300, 1, 1)
    calm, store = ImageStore(tmp_path / "calm"), ImageStore(tmp_path / "store")
    assert store.digest == calm.digest
    np.testing.assert_array_equal(store[:], calm[:])
    for table in ("meta", "rejected", "duplicates"):
        assert read_rows(store.path, table).equals(read_rows(calm.path, table))
    shard = "pixels/000000.u8"
    assert (store.path / shard).read_bytes() == (calm.path / shard).read_bytes()


def test_an_unfinished_import_can_be_read(tmp_path: Path) -> None:
    images = np.stack([picture(i, (32, 32)).transpose(2, 0, 1) for i in range(3)])
    with StoreWriter(tmp_path / "s", (3, 32, 32)) as writer:
        for i in range(2):
            writer.append(images[i], str(i), key=str(i), source="x")
        writer.commit()
        writer.append(images[2], "2", key="2", source="x")
        np.testing.assert_array_equal(ImageStore(tmp_path / "s")[:], images[:2])


def test_two_writers_at_once_are_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", (3, 8, 8)), pytest.raises(BadInput, match="another process"):
        StoreWriter(tmp_path / "s", (3, 8, 8))


def test_pictures_go_on_across_data_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.images.writer._SHARD_BYTES", 5 * 192)
    images = np.random.default_rng(0).integers(0, 256, (23, 3, 8, 8), dtype=np.uint8)
    import_images(ArraySource(images[:12]), tmp_path / "s", name="a")
    import_images(ArraySource(images[12:]), tmp_path / "s", name="b")
    store = ImageStore(tmp_path / "s")
    assert len(list((tmp_path / "s" / "pixels").iterdir())) == 5
    np.testing.assert_array_equal(store[:], images)
    np.testing.assert_array_equal(store[np.array([22, 4, 5, 0])], images[[22, 4, 5, 0]])


def test_a_store_of_another_version_is_named(tmp_path: Path) -> None:
    import_images(ArraySource(np.zeros((1, 3, 32, 32), np.uint8)), tmp_path / "s")
    header = json.loads((tmp_path / "s" / "store.json").read_text())
    (tmp_path / "s" / "store.json").write_text(json.dumps({**header, "version": 99}))
    with pytest.raises(BadInput, match="version 99"):
        ImageStore(tmp_path / "s")


def test_another_shape_is_refused(tmp_path: Path) -> None:
    import_images(ArraySource(np.zeros((1, 3, 32, 32), np.uint8)), tmp_path / "s")
    with pytest.raises(BadInput, match="shape"):
        import_images(ArraySource(np.zeros((1, 3, 16, 16), np.uint8)), tmp_path / "s", name="y")


def test_a_short_shard_is_named(tmp_path: Path) -> None:
    import_images(
        ArraySource(np.ones((3, 3, 32, 32), np.uint8) * np.arange(3, dtype=np.uint8)[:, None, None, None]), tmp_path / "s"
    )
    os.truncate(tmp_path / "s" / "pixels" / "000000.u8", 100)
    with pytest.raises(BadInput, match="damaged"):
        ImageStore(tmp_path / "s")


_LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from striate.app.main import main
sys.exit(main(sys.argv[2:]))
"""


def test_a_full_disk_is_named_and_loses_nothing_committed(tmp_path: Path) -> None:
    """A file-size limit stands in for the disk: writes beyond it fail as on a full one."""
    images = np.random.default_rng(1).integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images[:20])
    np.save(tmp_path / "b.npy", images)
    command = [sys.executable, "-c", _LIMITED, str(30 * 3072)]
    first = subprocess.run([*command, "import", str(tmp_path / "a.npy"), str(tmp_path / "s")], capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    second = subprocess.run([*command, "import", str(tmp_path / "b.npy"), str(tmp_path / "s")], capture_output=True, text=True)
    assert second.returncode == 1
    assert "disk is full" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    np.testing.assert_array_equal(ImageStore(tmp_path / "s")[:], images[:20])
    import_images(tmp_path / "b.npy", tmp_path / "s")
    np.testing.assert_array_equal(ImageStore(tmp_path / "s")[:], images)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_real_pictures_of_every_kind(shared_data: Path, tmp_path: Path) -> None:
    """The shared pictures go in whole: CIFAR-10, MNIST, tiny-imagenet (some are grey), faces."""
    for source, options, shape in (
        ("cifar10/test.parquet", {}, (3, 32, 32)),
        ("mnist/t10k-images-idx3-ubyte.gz", {}, (1, 28, 28)),
        ("tiny-imagenet/test.parquet", {"size": 64}, (3, 64, 64)),
        ("faces", {"mode": "grey"}, (1, 32, 32)),
    ):
        counts = import_images(shared_data / source, tmp_path / source.replace("/", "-"), limit=500, **options)
        assert (counts.seen, counts.rejected) == (500, 0)
        store = ImageStore(tmp_path / source.replace("/", "-"))
        assert store.shape == shape
        assert store.labelled
