"""Stores that keep photographs as JPEG: pixels, sums, kills, and the rest of a store's ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, StoreWriter, import_images
from striate.images.jpeg import encode_jpeg
from striate.images.sums import PictureSums


def smooth(count: int, seed: int = 0) -> np.ndarray:
    """Pictures that JPEG keeps well: coarse random levels, enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(one.transpose(1, 2, 0)).resize((48, 40), 3)).transpose(2, 0, 1) for one in coarse]
    )


def test_pixels_come_back_as_jpeg_keeps_them(tmp_path: Path) -> None:
    data = smooth(150)
    counts = import_images(ArraySource(data, np.arange(150) % 3, ["a", "b", "c"]), tmp_path / "s", quality=95, workers=1)
    assert (counts.seen, counts.kept) == (150, 150)
    store = ImageStore(tmp_path / "s")
    assert store.encoding == "jpeg"
    assert store.shape == (3, 40, 48)
    picked = np.array([149, 3, 70])
    assert np.abs(store[picked].astype(int) - data[picked]).mean() < 3
    assert np.array_equal(store[3], store[picked][1])
    assert store.labels.tolist() == (np.arange(150) % 3).tolist()
    assert bytes(store.encoded(5)[:2]) == b"\xff\xd8"


def test_any_parquet_reader_finds_the_files(tmp_path: Path) -> None:
    """The Hugging Face convention, in small row groups."""
    import_images(ArraySource(smooth(150), np.arange(150)), tmp_path / "s", quality=90, workers=1)
    [file] = (tmp_path / "s" / "pixels").glob("*.parquet")
    opened = pq.ParquetFile(file)
    assert opened.metadata.num_row_groups == 3
    row = opened.read().to_pylist()[7]
    assert row["label"] == 7
    assert row["image"]["path"] == row["key"] == "00000007"
    again = import_images(file, tmp_path / "t", size=40, workers=1)
    assert again.kept == 150


def test_sums_are_those_of_the_pictures_that_were_kept(tmp_path: Path) -> None:
    data = smooth(30)
    twice = np.concatenate([data, data[:5]])
    counts = import_images(ArraySource(twice), tmp_path / "s", quality=90, workers=1, commit_every=7)
    assert counts.duplicates == 5
    expected = PictureSums(data.shape[1:])  # type: ignore[arg-type]
    expected.update(data)
    found = ImageStore(tmp_path / "s").sums
    assert found is not None
    assert np.array_equal(found.mean, expected.mean)
    assert np.array_equal(found.colour.deviations, expected.colour.deviations)


def test_what_was_not_committed_is_gone_and_an_import_goes_on(tmp_path: Path) -> None:
    """As after a kill between files and rows, and between rows and sums."""
    data = smooth(20)
    with StoreWriter(tmp_path / "s", (3, 40, 48), quality=90) as writer:
        for number in range(8):
            writer.append(data[number], f"{number:064d}", key=f"{number:08d}", source="memory")
        writer.commit()
    stray = tmp_path / "s" / "pixels" / "000000000008.parquet"
    stray.write_bytes(b"half a file")
    (tmp_path / "s" / "sums.npz").unlink()
    import_images(ArraySource(data), tmp_path / "s", quality=90, workers=1, name="memory")
    store = ImageStore(tmp_path / "s")
    assert len(store) == 20
    assert store.sums is not None
    # The first eight were summed again from what JPEG kept of them: within a level of the pictures.
    assert np.abs(store.sums.mean - data.mean(axis=0)).mean() < 1


def test_a_store_keeps_to_one_way(tmp_path: Path) -> None:
    import_images(ArraySource(smooth(3)), tmp_path / "s", quality=90, workers=1)
    with pytest.raises(BadInput, match="JPEG of quality 90"):
        import_images(ArraySource(smooth(3, 1)), tmp_path / "s", workers=1, name="other")
    with pytest.raises(BadInput, match="from 1 to 100"):
        import_images(ArraySource(smooth(3)), tmp_path / "t", quality=0)
    import_images(ArraySource(smooth(3)), tmp_path / "raw", workers=1)
    with pytest.raises(BadInput, match="no JPEG files"):
        ImageStore(tmp_path / "raw").encoded(0)


def test_a_lost_file_is_a_damaged_store(tmp_path: Path) -> None:
    import_images(ArraySource(smooth(12)), tmp_path / "s", quality=90, workers=1, commit_every=128)
    for file in (tmp_path / "s" / "pixels").glob("*.parquet"):
        file.unlink()
    with pytest.raises(BadInput, match="0 of 12 pictures"):
        ImageStore(tmp_path / "s")


def test_grey_pictures_stay_grey(tmp_path: Path) -> None:
    data = smooth(4)[:, :1]
    import_images(ArraySource(np.ascontiguousarray(data)), tmp_path / "s", quality=95, workers=1)
    store = ImageStore(tmp_path / "s")
    assert store.shape == (1, 40, 48)
    assert np.abs(store[:].astype(int) - data).mean() < 3
    assert Image.open(__import__("io").BytesIO(encode_jpeg(data[0], 90))).mode == "L"


def test_real_photographs_of_all_kinds(shared_data: Path, tmp_path: Path) -> None:
    """A thousand photographs, grey ones among them: all kept, colours' components as ImageNet's."""
    source = shared_data / "imagenet-sample"
    counts = import_images(source, tmp_path / "s", size=256, quality=90, limit=120, workers=1)
    assert counts.kept == 120
    store = ImageStore(tmp_path / "s")
    assert store.sums is not None
    first = store.sums.colour.vectors[0]
    # The released first component is (.5635, .5762, .5920): grey.
    assert first == pytest.approx([0.5635, 0.5762, 0.592], abs=0.05)
    assert 90 < store.sums.colour.deviations[0] < 150


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    """Bytes of one JPEG overwritten, and a file cut short."""
    import_images(ArraySource(smooth(12)), tmp_path / "s", quality=90, workers=1)
    [file] = (tmp_path / "s" / "pixels").glob("*.parquet")
    whole = file.read_bytes()
    victim = bytes(ImageStore(tmp_path / "s").encoded(5))
    at = whole.index(victim)
    file.write_bytes(whole[:at] + b"\0" * len(victim) + whole[at + len(victim) :])
    store = ImageStore(tmp_path / "s")
    assert store[4].shape == (3, 40, 48)
    with pytest.raises(BadInput, match="picture 5 of the store is damaged"):
        store[np.array([4, 5])]
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="is damaged"):
        ImageStore(tmp_path / "s")
