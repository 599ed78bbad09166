"""Reading and writing stores: indexing, digests, damage, and what a crash leaves between any two steps."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from striate.errors import BadInput
from striate.images import ImageStore, StoreWriter

SHAPE = (3, 8, 8)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def open_writer(path: Path) -> StoreWriter:
    """Four pictures a data shard, so that a small store has several."""
    return StoreWriter(path, SHAPE, shard_bytes=4 * 192)


def add(writer: StoreWriter, images: np.ndarray, source: str = "a", first: int = 0) -> None:
    for i, image in enumerate(images, first):
        writer.append(image, hashlib.sha256(image).hexdigest(), key=f"{i}", source=source, label=i % 3, term="t")


def make(path: Path, count: int = 10) -> ImageStore:
    with open_writer(path) as writer:
        for name in ("x", "y", "z"):
            writer.label_of(name)
        add(writer, pictures(count))
        writer.reject("not a picture", key="bad", source="a")
        writer.finish()
    return ImageStore(path)


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_pictures_labels_and_keys_come_back(tmp_path: Path) -> None:
    store, images = make(tmp_path / "s"), pictures(10)
    assert len(list((tmp_path / "s" / "pixels").iterdir())) == 3
    assert len(store) == 10 and store.shape == SHAPE and store.class_names == ["x", "y", "z"]
    assert np.array_equal(store[:], images) and store.labels.tolist() == [i % 3 for i in range(10)]
    assert store.keys == [str(i) for i in range(10)] and store.labelled
    assert set(store.table["state"].to_pylist()) == {"found"}


@pytest.mark.parametrize(
    "index",
    [slice(2, 7), slice(None, None, -3), slice(5, 2), [9, 0, 4, 4], np.array([3]), [], np.arange(10) % 2 == 0],
    ids=str,
)
def test_any_index_gives_what_numpy_gives(tmp_path: Path, index: object) -> None:
    store, images = make(tmp_path / "s"), pictures(10)
    expected = images[np.asarray(index, int) if isinstance(index, list) else index]  # type: ignore[index]
    assert np.array_equal(store[index], expected)  # type: ignore[index]


def test_single_pictures_and_positions_outside(tmp_path: Path) -> None:
    store, images = make(tmp_path / "s"), pictures(10)
    assert np.array_equal(store[-1], images[-1]) and np.array_equal(store[np.int64(5)], images[5])
    for outside in (10, -11, [10], [-1], np.ones(9, bool)):
        with pytest.raises(IndexError):
            store[outside]  # type: ignore[index]


def test_what_is_given_out_is_a_copy(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    for index in (0, slice(0, 3), [1, 2]):
        store[index][:] = 0
    assert np.array_equal(store[:], pictures(10))


def test_the_digest_is_of_content(tmp_path: Path) -> None:
    """Equal for equal stores, whatever their path; another for one other pixel, label or class name."""
    same = {make(tmp_path / name).digest for name in ("a", "b")}
    assert len(same) == 1
    with open_writer(tmp_path / "b") as writer:
        writer.label_of("w")
        add(writer, pictures(1, seed=9), first=100)
        writer.finish()
    assert ImageStore(tmp_path / "b").digest not in same


def test_equal_pictures_are_set_aside_and_name_the_one_that_is_kept(tmp_path: Path) -> None:
    image = pictures(1)[0]
    with open_writer(tmp_path / "s") as writer:
        digest = hashlib.sha256(image).hexdigest()
        assert writer.append(image, digest, key="first", source="a")
        assert not writer.append(image, digest, key="second", source="b")
        writer.finish()
    store = ImageStore(tmp_path / "s")
    assert len(store) == 1
    assert store.duplicates.to_pylist() == [{"key": "second", "source": "b", "sha256": digest, "kept": "first"}]


def test_what_was_committed_is_read_before_it_is_finished(tmp_path: Path) -> None:
    with open_writer(tmp_path / "s") as writer:
        add(writer, pictures(4))
        writer.commit()
        add(writer, pictures(9)[4:], first=4)
        assert len(ImageStore(tmp_path / "s")) == 4
        writer.commit()
    assert np.array_equal(ImageStore(tmp_path / "s")[:], pictures(9))


def test_what_was_not_committed_is_gone_and_its_pixels_are_cut_off(tmp_path: Path) -> None:
    with open_writer(tmp_path / "s") as writer:
        add(writer, pictures(6))
        writer.commit()
        add(writer, pictures(8)[6:], first=6)
    shard = tmp_path / "s" / "pixels" / "000001.u8"
    shard.write_bytes(shard.read_bytes() + b"left by a crash")
    (tmp_path / "s" / "pixels" / "000002.u8").write_bytes(b"left by a crash")
    (tmp_path / "s" / ".meta.parquet.tmp").write_bytes(b"left by a crash")
    (tmp_path / "s" / "parts" / ".000000000006.parquet.tmp").write_bytes(b"left by a crash")
    assert np.array_equal(ImageStore(tmp_path / "s")[:], pictures(6))
    with open_writer(tmp_path / "s") as writer:
        assert writer.count == 6 and not writer.has("a", "6")
        add(writer, pictures(8)[6:], first=6)
        writer.finish()
    with open_writer(tmp_path / "whole") as writer:
        add(writer, pictures(8))
        writer.finish()
    assert files(tmp_path / "s") == files(tmp_path / "whole")


def test_a_kill_between_any_two_steps_of_finishing_changes_nothing(tmp_path: Path) -> None:
    """Every state that a kill can leave: the first n of [3 tables renamed, 2 parts removed] done."""
    path = tmp_path / "s"
    with open_writer(path) as writer:
        add(writer, pictures(4))
        writer.reject("bad", key="r1", source="a")
        writer.commit()
        add(writer, pictures(4), source="b")
        add(writer, pictures(7)[4:], first=4)
        writer.reject("bad", key="r2", source="a")
        writer.commit()
    before = files(path)
    with open_writer(path) as writer:
        writer.finish()
    after = files(path)
    tables, parts = ["meta.parquet", "rejected.parquet", "duplicates.parquet"], sorted(n for n in before if "parts/" in n)
    assert len(parts) == 2
    for done in range(6):
        state = {**before, **{name: after[name] for name in tables[:done]}}
        for name in parts[: max(0, done - 3)]:
            del state[name]
        shutil.rmtree(path)
        for name, data in state.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        (path / "parts").mkdir(exist_ok=True)
        store = ImageStore(path)
        assert (len(store), len(store.rejected), len(store.duplicates)) == (7, 2, 4), done
        with open_writer(path) as writer:
            counts = writer.counts()
            writer.finish()
        assert (counts.kept, counts.rejected, counts.duplicates, counts.seen) == (7, 2, 4, 13)
        assert files(path) == after, done


def test_appending_continues_where_the_last_shard_ends(tmp_path: Path) -> None:
    make(tmp_path / "s", 6)
    with open_writer(tmp_path / "s") as writer:
        add(writer, pictures(11)[6:], first=6)
        writer.finish()
    assert np.array_equal(ImageStore(tmp_path / "s")[:], pictures(11))


def test_only_one_writer_at_a_time(tmp_path: Path) -> None:
    with open_writer(tmp_path / "s"), pytest.raises(BadInput, match="being written by another process"):
        open_writer(tmp_path / "s")
    open_writer(tmp_path / "s").close()


def test_a_store_of_another_shape_is_refused_unless_it_holds_no_picture(tmp_path: Path) -> None:
    StoreWriter(tmp_path / "s", (1, 9, 9)).close()
    make(tmp_path / "s")
    assert ImageStore(tmp_path / "s").shape == SHAPE
    with pytest.raises(BadInput, match=r"holds pictures of shape \(3, 8, 8\), these are \(1, 9, 9\)"):
        StoreWriter(tmp_path / "s", (1, 9, 9))


def edit_header(path: Path, **changes: object) -> None:
    header = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps({**header, **changes}))


@pytest.mark.parametrize("open_it", [ImageStore, open_writer], ids=["reading", "writing"])
def test_a_store_of_another_version_is_refused_in_one_line(tmp_path: Path, open_it: object) -> None:
    make(tmp_path / "s")
    edit_header(tmp_path / "s", version=99)
    with pytest.raises(BadInput, match="is a store of version 99, this Striate reads version 1") as caught:
        open_it(tmp_path / "s")  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_damaged_headers_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "s")
    whole = (tmp_path / "s" / "store.json").read_text()
    for bad in ("", "{", "[]", "{}", whole.replace("3,", "0,", 1), '{"format": "striate-store", "version": 1}'):
        (tmp_path / "s" / "store.json").write_text(bad)
        with pytest.raises(BadInput, match=r"store\.json"):
            ImageStore(tmp_path / "s")
    with pytest.raises(BadInput, match="no image store"):
        ImageStore(tmp_path / "nowhere")


def test_missing_and_short_pixels_are_named(tmp_path: Path) -> None:
    make(tmp_path / "s")
    shard = tmp_path / "s" / "pixels" / "000001.u8"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(BadInput, match=r"000001\.u8 has 767 bytes, 768 were expected"):
        ImageStore(tmp_path / "s")
    shard.unlink()
    with pytest.raises(BadInput, match=r"000001\.u8 has 0 bytes"):
        ImageStore(tmp_path / "s")


def test_missing_and_damaged_tables_are_named_and_no_pixel_is_touched(tmp_path: Path) -> None:
    make(tmp_path / "s")
    meta, pixels = tmp_path / "s" / "meta.parquet", (tmp_path / "s" / "pixels" / "000000.u8")
    before = pixels.read_bytes()
    pq.write_table(pq.read_table(meta).drop(["label"]), meta)
    with pytest.raises(BadInput, match=r"meta\.parquet is damaged"):
        ImageStore(tmp_path / "s")
    meta.write_bytes(b"words")
    with pytest.raises(BadInput, match=r"meta\.parquet is damaged"):
        open_writer(tmp_path / "s")
    meta.unlink()
    for open_it in (ImageStore, open_writer):
        with pytest.raises(BadInput, match=r"meta\.parquet is missing"):
            open_it(tmp_path / "s")
    assert pixels.read_bytes() == before


def test_opening_a_store_for_writing_where_none_can_be_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="cannot be written"):
        open_writer(tmp_path / "file")
