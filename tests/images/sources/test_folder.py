"""Folders: which files are pictures, what labels them, and that none is lost without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hostile import encoded, picture
from striate.errors import BadInput
from striate.images import Item, Rejected
from striate.images.sources import open_source
from striate.images.sources.folder import FolderSource


def fill(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(picture(i), "PNG"))
    return root


def labels(root: Path) -> dict[str, str | None]:
    source = open_source(root)
    return {item.key: source.class_names[item.label] if item.label >= 0 else None for item in source}


def reason(item: Item) -> str:
    assert isinstance(item.data, Rejected)
    return str(item.data)


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    assert labels(fill(tmp_path, "b.png", "a.png")) == {"a.png": None, "b.png": None}


def test_one_folder_a_class_labels_by_folder_in_the_order_of_names(tmp_path: Path) -> None:
    source = open_source(fill(tmp_path, "dog/1.png", "cat/1.png", "cat/2.png"))
    assert source.class_names == ["cat", "dog"]
    assert [(item.key, item.label, item.term) for item in source] == [
        ("cat/1.png", 0, "cat"),
        ("cat/2.png", 0, "cat"),
        ("dog/1.png", 1, "dog"),
    ]


@pytest.mark.parametrize("inner", ["", "images/"])
def test_split_then_class_labels_by_class(tmp_path: Path, inner: str) -> None:
    fill(tmp_path, f"train/cat/{inner}1.png", f"train/dog/{inner}2.png", f"test/cat/{inner}3.png")
    assert sorted(filter(None, labels(tmp_path).values())) == ["cat", "cat", "dog"]


@pytest.mark.parametrize(
    "names",
    [
        ("train/1.png", "test/2.png"),
        ("2019/1.png", "2020/summer/2.png"),
        ("cat/1.png", "dog/2.png", "3.png"),
        ("only/1.png", "only/2.png"),
    ],
)
def test_folders_that_are_no_classes_are_never_taken_for_labels(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert set(labels(fill(tmp_path, *names)).values()) == {None}


def test_a_note_beside_the_class_folders_is_counted_and_costs_no_label(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / "README.txt").write_text("two animals")
    assert labels(tmp_path) == {"README.txt": None, "cat/1.png": "cat", "dog/2.png": "dog"}


def test_names_of_folders_that_are_numbers_are_names(tmp_path: Path) -> None:
    source = open_source(fill(tmp_path, "10/1.png", "9/2.png"))
    assert [(item.key, source.class_names[item.label]) for item in source] == [("10/1.png", "10"), ("9/2.png", "9")]


@pytest.mark.parametrize("name", ["classes.txt", "class_names.txt"])
def test_a_list_of_class_names_fixes_their_order(tmp_path: Path, name: str) -> None:
    fill(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / name).write_text("dog\nemu\ncat\n")
    source = open_source(tmp_path)
    assert source.class_names == ["dog", "emu", "cat"]
    assert [item.label for item in source] == [2, 0]
    (tmp_path / name).write_text("dog\n")
    with pytest.raises(BadInput, match="lack 'cat'"):
        open_source(tmp_path)


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", ".hidden.png", "__MACOSX/a.png", ".cache/b.png")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).write_text("x")
    assert labels(tmp_path) == {"a.png": None}


def test_a_store_inside_the_folder_is_not_imported(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "store/contact.png")
    (tmp_path / "store" / "store.json").write_text("{}")
    assert labels(tmp_path) == {"a.png": None}


def test_a_store_is_refused_as_a_source(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("{}")
    with pytest.raises(BadInput, match="is an image store already"):
        open_source(tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_metadata_table_gives_labels_and_terms(tmp_path: Path, suffix: str) -> None:
    fill(tmp_path, "b.png", "a.png", "extra.png")
    rows = [
        {"file_name": "a.png", "label": "zebra", "search_term": "striped horse"},
        {"file_name": "b.png", "label": "ant", "search_term": "insect"},
    ]
    table = tmp_path / f"metadata.{suffix}"
    if suffix == "csv":
        table.write_text("file_name,label,search_term\na.png,zebra,striped horse\nb.png,ant,insect\n")
    elif suffix == "jsonl":
        table.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), table)
    source = open_source(tmp_path)
    assert source.class_names == ["ant", "zebra"]
    assert [(item.key, item.label, item.term) for item in source] == [
        ("a.png", 1, "striped horse"),
        ("b.png", 0, "insect"),
        ("extra.png", -1, None),
    ]


def test_numbers_in_a_metadata_table_are_class_numbers_not_names(tmp_path: Path) -> None:
    """Sorted as text, 10 would come before 2."""
    fill(tmp_path, *(f"{i}.png" for i in range(12)))
    (tmp_path / "metadata.csv").write_text("file_name,label\n" + "".join(f"{i}.png,{i}\n" for i in range(12)))
    assert {item.key: item.label for item in open_source(tmp_path)} == {f"{i}.png": i for i in range(12)}


def test_metadata_in_the_folder_of_a_split_speaks_of_that_split(tmp_path: Path) -> None:
    fill(tmp_path, "train/1.png", "test/1.png")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\n1.png,cat\n")
    (tmp_path / "test" / "metadata.csv").write_text("file_name,label\n1.png,dog\n")
    assert labels(tmp_path) == {"test/1.png": "dog", "train/1.png": "cat"}


def test_a_picture_that_metadata_lists_and_is_not_there_is_rejected(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\na.png,cat\nlost.png,cat\n")
    (lost,) = (item for item in open_source(tmp_path) if item.key == "lost.png")
    assert reason(lost) == "not there, though metadata.csv lists it"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("metadata.csv", "name,label\na.png,1\n", "without 'file_name'"),
        ("metadata.jsonl", '{"file_name": "a.png"\n', "cannot be read"),
        ("metadata.jsonl", '["a.png"]\n', "no object"),
        ("metadata.parquet", "no parquet", "cannot be read"),
    ],
)
def test_a_metadata_table_that_cannot_be_used_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    fill(tmp_path, "a.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=words) as caught:
        open_source(tmp_path)
    assert name in str(caught.value)


def test_file_names_that_are_no_text_stay_apart(tmp_path: Path) -> None:
    for raw in (b"a\xff.png", b"a\xfe.png"):
        (tmp_path / raw.decode(errors="surrogateescape")).write_bytes(encoded(picture(raw[1]), "PNG"))
    keys = [item.key for item in FolderSource(tmp_path)]
    assert keys == ["a\\xfe.png", "a\\xff.png"]
    assert [key.encode() for key in keys]


def test_two_readings_give_the_same_items(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{c}/{i}.png" for c in "xyz" for i in range(5)))
    assert [(i.key, i.label) for i in open_source(tmp_path)] == [(i.key, i.label) for i in open_source(tmp_path)]


def test_one_picture_among_archives_makes_it_a_folder_of_pictures(tmp_path: Path) -> None:
    """Else the pictures would be passed over in silence."""
    fill(tmp_path, "a.png")
    (tmp_path / "b.parquet").write_text("no parquet")
    assert [item.key for item in open_source(tmp_path)] == ["a.png", "b.parquet"]


def test_a_json_beside_a_picture_tells_its_term_and_label(tmp_path: Path) -> None:
    """What downloaders leave: `a.jpg` with `a.json`; one that is damaged, or without a picture, is counted as a file."""
    (tmp_path / "x").mkdir()
    for name in ("a", "b", "c"):
        fill(tmp_path, f"x/{name}.png")
    (tmp_path / "x" / "a.json").write_text('{"search_term": "cargo ship", "label": "ship", "url": "somewhere"}')
    (tmp_path / "x" / "b.json").write_text("{")
    (tmp_path / "x" / "d.json").write_text("{}")
    source = open_source(tmp_path)
    found = {item.key: (item.term, item.label) for item in source}
    assert found == {
        "x/a.png": ("cargo ship", 0), "x/b.json": ("x", -1), "x/b.png": ("x", -1), "x/c.png": ("x", -1), "x/d.json": ("x", -1),
    }  # fmt: skip
    assert source.class_names == ["ship"]
    # Without a word on labels, the class folders stand.
    for name in ("ant", "bee"):
        fill(tmp_path / "y", f"{name}/1.png")
    (tmp_path / "y" / "ant" / "1.json").write_text('{"term": "red ant"}')
    assert labels(tmp_path / "y") == {"ant/1.png": "ant", "bee/1.png": "bee"}
    assert {item.key: item.term for item in open_source(tmp_path / "y")} == {"ant/1.png": "red ant", "bee/1.png": "bee"}
