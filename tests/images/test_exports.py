"""Every export comes back as it went out, and others' readers can read it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, import_images
from striate.images.exports import FORMATS, Published, export
from striate.images.exports.published import plain_name
from striate.images.sources.cifar import unpickle

NAMES = ["cat", "../../etc", "<b>ship</b>", "7"]
COARSE = {"cat": "animals", "../../etc": "things", "<b>ship</b>": "things", "7": "things"}


def published(folder: Path, side: int = 32, channels: int = 3, coarse: bool = False, count: int = 60) -> Published:
    pictures = np.random.default_rng(0).integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    labels = np.arange(count) % len(NAMES)
    keys = [f"../up/{i} \u2028 é" if i % 7 == 0 else f"{i:05d}.jpg" for i in range(count)]
    terms = [f'term "{i % 3}"\n<script>' for i in range(count)]
    import_images(ArraySource(pictures, None, [], keys, terms), folder)
    store = ImageStore(folder)
    sets = {"train": np.arange(0, count, 2), "test": np.arange(1, count, 2)}
    return Published(store, sets, labels, NAMES, COARSE if coarse else {}, terms, "# card\n")


def contents(store: ImageStore) -> set[tuple[str, str]]:
    digests = store.table["sha256"].to_pylist()
    return {(digest, store.class_names[label]) for digest, label in zip(digests, store.labels.tolist())}


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("form", sorted(FORMATS))
def test_an_export_imports_to_the_same_pictures_labels_and_names(form: str, coarse: bool, tmp_path: Path) -> None:
    whole = published(tmp_path / "s", coarse=coarse)
    export(whole, tmp_path / "out", form)
    counts = import_images(tmp_path / "out", tmp_path / "again", size=32)
    again = ImageStore(tmp_path / "again")
    digests = whole.store.table["sha256"].to_pylist()
    assert (counts.kept, counts.rejected, counts.duplicates) == (60, 0, 0)
    assert again.class_names == NAMES
    assert contents(again) == {(digests[i], NAMES[whole.labels[i]]) for i in range(60)}
    assert (tmp_path / "out" / "README.md").read_text() == "# card\n"


@pytest.mark.parametrize("form", ["folders", "huggingface", "webdataset"])
def test_search_terms_and_grey_pictures_come_back(form: str, tmp_path: Path) -> None:
    whole = published(tmp_path / "s", side=20, channels=1)
    export(whole, tmp_path / "out", form)
    import_images(tmp_path / "out", tmp_path / "again", size=20, mode="grey")
    rows = ImageStore(tmp_path / "again").table.to_pylist()
    terms = dict(zip(whole.store.table["sha256"].to_pylist(), whole.terms))
    assert {row["sha256"]: row["term"] for row in rows} == terms


def test_nothing_is_written_outside_the_folder(tmp_path: Path) -> None:
    """Names of classes and keys are hostile: `../../etc`, separators, HTML."""
    (tmp_path / "in").mkdir()
    whole = published(tmp_path / "s")
    for form in FORMATS:
        export(whole, tmp_path / "in" / form, form)
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert written == {"in", "s"}
    assert sorted(one.name for one in (tmp_path / "in").iterdir()) == sorted(FORMATS)


@pytest.mark.parametrize("text", ["..", ".", "", "a/b", "../../x", "\x00", ".hidden", "con\n", "é" * 200, "  "])
def test_plain_names_are_names_of_files(text: str) -> None:
    found = plain_name(text)
    assert found and "/" not in found and "\x00" not in found and not found.startswith(".") and len(found.encode()) <= 80


@pytest.mark.parametrize("encoding", ["bytes", "latin1"])
def test_the_python_version_is_what_usual_loaders_expect(encoding: str, tmp_path: Path) -> None:
    """They unpickle with `bytes` and byte keys, or with `latin1` and text keys."""
    whole = published(tmp_path / "s")
    export(whole, tmp_path / "out", "cifar-python")
    loaded = pickle.loads((tmp_path / "out" / "data_batch_1").read_bytes(), encoding=encoding)
    key = (lambda name: name.encode()) if encoding == "bytes" else (lambda name: name)
    data = loaded[key("data")]
    assert data.dtype == np.uint8 and data.shape == (30, 3072)
    np.testing.assert_array_equal(data.reshape(-1, 3, 32, 32), whole.store[whole.sets["train"]])
    assert loaded[key("labels")] == whole.labels[whole.sets["train"]].tolist()
    names = pickle.loads((tmp_path / "out" / "batches.meta").read_bytes(), encoding=encoding)[key("label_names")]
    assert [name.decode() if isinstance(name, bytes) else name for name in names] == NAMES
    # Its opcodes are those of Python 2's strings: no function is called for them, and our careful reader takes it.
    assert b"_codecs" not in (tmp_path / "out" / "data_batch_1").read_bytes()
    # Nor does it ask for what numpy was divided into later: older ones can read it.
    assert b"numpy._core" not in (tmp_path / "out" / "data_batch_1").read_bytes()
    assert set(unpickle((tmp_path / "out" / "test_batch").read_bytes(), "x")) == {"batch_label", "data", "filenames", "labels"}


def test_superclasses_make_the_layout_of_cifar_100(tmp_path: Path) -> None:
    whole = published(tmp_path / "s", coarse=True)
    export(whole, tmp_path / "b", "cifar-binary")
    rows = np.frombuffer((tmp_path / "b" / "train.bin").read_bytes(), np.uint8).reshape(-1, 3074)
    labels = whole.labels[whole.sets["train"]]
    np.testing.assert_array_equal(rows[:, 1], labels)
    np.testing.assert_array_equal(rows[:, 0], [["animals", "things"].index(COARSE[NAMES[label]]) for label in labels])
    assert (tmp_path / "b" / "coarse_label_names.txt").read_text().split() == ["animals", "things"]


def test_an_export_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    whole = published(tmp_path / "s", side=16)
    with pytest.raises(BadInput, match="32"):
        export(whole, tmp_path / "out", "cifar-binary")
    with pytest.raises(BadInput, match="no format"):
        export(whole, tmp_path / "out", "zip")
    assert [one.name for one in tmp_path.iterdir()] == ["s"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadInput, match="already"):
        export(whole, tmp_path / "mine", "folders")
    with pytest.raises(BadInput, match="not written by an export"):
        export(whole, tmp_path / "mine", "folders", overwrite=True)
    export(whole, tmp_path / "out", "folders")
    export(whole, tmp_path / "out", "folders", overwrite=True)
