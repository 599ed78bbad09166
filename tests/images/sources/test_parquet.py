"""Hugging Face Parquet: bytes, labels, names, and shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hostile
from hostile import encoded, picture
from striate.errors import BadInput
from striate.images import ImageStore, import_images
from striate.images.sources import open_source

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(path: Path, rows: list[dict[str, Any]], label: pa.DataType | None = None, names: list[str] | None = None) -> Path:
    fields = [pa.field("image", IMAGE)] + ([pa.field("label", label)] if label else [])
    features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    metadata = {"huggingface": json.dumps(features)} if names else None
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields, metadata)), path)
    return path


def row(index: int, **more: object) -> dict[str, Any]:
    return {"image": {"bytes": encoded(picture(index)), "path": f"{index}.jpg"}, **more}


def test_bytes_labels_and_the_names_in_the_schema_come_back(tmp_path: Path) -> None:
    rows = [row(i, label=i % 2) for i in range(5)]
    source = open_source(table(tmp_path / "t.parquet", rows, pa.int64(), ["cat", "dog"]))
    assert source.class_names == ["cat", "dog"]
    assert [(item.key, item.data, item.label) for item in source] == [
        (f"{i}.jpg", rows[i]["image"]["bytes"], i % 2) for i in range(5)
    ]


def test_names_beside_the_file_and_names_as_labels_work_too(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("n01\nn02\n")
    assert open_source(table(tmp_path / "t.parquet", [row(0, label=1)], pa.int64())).class_names == ["n01", "n02"]
    (tmp_path / "classes.txt").unlink()
    source = open_source(table(tmp_path / "s.parquet", [row(0, label="dog"), row(1, label="cat")], pa.string()))
    assert [item.label for item in source] == [0, 1] and source.class_names == ["dog", "cat"]


def test_without_a_label_column_there_are_no_labels(tmp_path: Path) -> None:
    assert [item.label for item in open_source(table(tmp_path / "t.parquet", [row(0)]))] == [-1]


def test_shards_in_a_folder_are_read_in_order_whatever_else_lies_there(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "README.md").write_text("a dataset")
    for i in range(3):
        table(data / f"train-{i:05d}-of-00003.parquet", [row(i)])
    assert [item.key for item in open_source(tmp_path)] == ["0.jpg", "1.jpg", "2.jpg"]


def test_rows_without_bytes_and_odd_labels_are_named_rejections(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"image": None, "label": 0},
        {"image": {"bytes": None, "path": "x.jpg"}, "label": 0},
        row(1, label=None),
        row(2, label=2**40),
    ]
    read = list(open_source(table(tmp_path / "t.parquet", rows, pa.int64())))
    assert [str(item.data) for item in read[:2]] == ["no bytes in this row"] * 2
    assert read[2].label == -1 and isinstance(read[2].data, bytes)
    assert str(read[3].data) == f"label {2**40} is no class number"


def test_keys_stay_apart_where_paths_repeat_or_are_missing(tmp_path: Path) -> None:
    rows = [row(1), row(1), {"image": {"bytes": b"x", "path": None}}]
    keys = [item.key for item in open_source(table(tmp_path / "t.parquet", rows))]
    assert keys == ["1.jpg", "t/00000001/1.jpg", "t/00000002"]


def test_plain_binary_images_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"abc"]}), tmp_path / "t.parquet")
    assert [item.data for item in open_source(tmp_path / "t.parquet")] == [b"abc"]


def test_what_is_no_parquet_or_has_no_image_column_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"words\.parquet is no readable Parquet file"):
        open_source(hostile.no_parquet(tmp_path))
    pq.write_table(pa.table({"picture": [b"abc"]}), tmp_path / "t.parquet")
    with pytest.raises(BadInput, match=r"no column 'image' \(found: picture"):
        open_source(tmp_path / "t.parquet")


def test_damage_inside_a_file_is_named_and_the_rows_before_it_stay(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows = pa.Table.from_pylist([row(i) for i in range(8)], pa.schema([("image", IMAGE)]))
    pq.write_table(rows, path, row_group_size=4, compression="gzip", use_dictionary=False)
    second = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[second.data_page_offset : second.data_page_offset + second.total_compressed_size] = bytes(second.total_compressed_size)
    path.write_bytes(data)
    *good, last = open_source(path)
    assert all(isinstance(item.data, bytes) for item in good) and len(good) <= 4
    assert "damaged here" in str(last.data)


@pytest.mark.parametrize("limit", [500])
def test_real_cifar_pictures_come_in_as_pillow_reads_them(shared_data: Path, tmp_path: Path, limit: int) -> None:
    """Reference: Pillow's own decoding of the same rows."""
    import io

    import numpy as np
    from PIL import Image

    counts = import_images(shared_data / "cifar10" / "test.parquet", tmp_path / "s", limit=limit, workers=1)
    assert (counts.seen, counts.kept) == (limit, limit)
    store = ImageStore(tmp_path / "s")
    first = pq.ParquetFile(shared_data / "cifar10" / "test.parquet").read_row_group(0).slice(0, limit).to_pylist()
    for i in range(0, limit, 50):
        reference = np.asarray(Image.open(io.BytesIO(first[i]["image"]["bytes"]))).transpose(2, 0, 1)
        assert np.array_equal(store[i], reference)
    assert store.labels.tolist() == [one["label"] for one in first]


def test_real_tiny_imagenet_has_its_200_names(shared_data: Path, tmp_path: Path) -> None:
    counts = import_images(shared_data / "tiny-imagenet" / "test.parquet", tmp_path / "s", limit=300, size=32, workers=1)
    store = ImageStore(tmp_path / "s")
    assert counts.seen == 300 and store.shape == (3, 32, 32)
    assert len(store.class_names) == 200 and store.class_names[0] == "n01443537"
    # Their keys begin with their own WordNet id.
    assert all(key.startswith(store.class_names[label] + "/") for key, label in zip(store.keys, store.labels))
