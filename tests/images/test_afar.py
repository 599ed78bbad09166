"""Decoding where somebody else does it, and stores that travel by their path: the same, or one line that says why not."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hostile import encoded, hostile_folder, picture
from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, Item, import_images
from striate.images.afar import Chunk, Decoding, decoded_afar
from striate.images.decode import Target
from striate.images.pool import Decoded, decode_all
from striate.images.work import one_by_one

TARGET = Target((3, 16, 16))


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_an_import_afar_is_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a relative path, which would mean nothing elsewhere; bad files are rejected for the same reasons."""
    (tmp_path / "in").mkdir()
    hostile_folder(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    seen: list[Item] = []

    def watched(work: Callable[[Any], Any], items: Iterable[Any], otherwise: Any = None) -> Iterator[tuple[Any, Any]]:
        for chunk, done in one_by_one(work, items, otherwise):
            seen.extend(chunk.items)
            yield chunk, done

    import_images("in", "afar", size=16, each=watched)
    import_images("in", "here", size=16, workers=1)
    assert files(tmp_path / "afar") == files(tmp_path / "here")
    assert seen and all(item.data.is_absolute() for item in seen if isinstance(item.data, Path))


def test_arrays_that_need_no_decoding_are_not_sent_anywhere(tmp_path: Path) -> None:
    def nobody(work: object, items: object, otherwise: object = None) -> Iterator[Any]:
        raise AssertionError("sent")

    import_images(ArraySource(np.zeros((2, 1, 4, 4), np.uint8)), tmp_path / "s", each=nobody)  # type: ignore[arg-type]
    assert len(ImageStore(tmp_path / "s")) == 1


def chunk_of(folder: Path) -> Chunk:
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(encoded(picture(len(name)), "PNG"))
    return Chunk.of([Item("gone", folder / "gone.png"), *(Item(name, folder / name) for name in ("a.png", "b.png"))])


def test_a_chunk_s_witness_is_the_first_file_that_is_there(tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path)
    assert chunk.witness == (tmp_path / "a.png", (tmp_path / "a.png").stat().st_size)
    decoded = Decoding(TARGET)(chunk)
    assert isinstance(decoded, Decoded) and [kept for kept, _ in decoded.notes] == [False, True, True]
    assert Chunk.of([Item("bytes", b"x")]).witness is None


@pytest.mark.parametrize("change", ["removed", "changed"])
def test_a_worker_that_sees_other_files_says_so(tmp_path: Path, change: str) -> None:
    """As on a machine that lacks the folder, or has another one at its path: here the files are as they were."""
    chunk, own = chunk_of(tmp_path), (tmp_path / "a.png").read_bytes()

    def elsewhere(work: Callable[[Any], Any], items: Iterable[Any], otherwise: Any = None) -> Iterator[tuple[Any, Any]]:
        for one in items:
            _change(tmp_path / "a.png", change)
            done = work(one)
            (tmp_path / "a.png").write_bytes(own)
            yield one, done

    said = "a.png is not there" if change == "removed" else r"a.png has 7 bytes, \d+ were expected"
    with pytest.raises(BadInput, match=f"does not see the pictures that it is to decode .*{said}.*the same files"):
        list(decoded_afar(iter([chunk.items]), TARGET, elsewhere))


def _change(file: Path, how: str) -> None:
    if how == "removed":
        file.unlink()
    else:
        file.write_bytes(b"another")


@pytest.mark.parametrize("change", ["removed", "changed"])
def test_a_file_that_changes_meanwhile_is_a_reject_as_here(tmp_path: Path, change: str) -> None:
    """A download that goes on, for example: no machine is to blame, and nothing ends for it."""
    chunk = chunk_of(tmp_path)

    def later(work: Callable[[Any], Any], items: Iterable[Any], otherwise: Any = None) -> Iterator[tuple[Any, Any]]:
        for one in items:
            _change(tmp_path / "a.png", change)
            yield one, work(one)

    [(_, decoded)] = decoded_afar(iter([chunk.items]), TARGET, later)
    assert decoded.notes == decode_all([item.data for item in chunk.items], TARGET).notes
    assert [kept for kept, _ in decoded.notes] == [False, False, True]


def test_a_file_that_only_a_worker_cannot_read_is_no_reject(tmp_path: Path) -> None:
    """The worker finds one file less: it would be counted as bad, though it is good."""
    chunk = chunk_of(tmp_path)

    def blind(work: Callable[[Any], Any], items: Iterable[Any], otherwise: Any = None) -> Iterator[tuple[Any, Any]]:
        for one in items:
            missing = [replace(item, data=tmp_path / "elsewhere" / item.key) for item in one.items[2:]]
            yield one, work(Chunk([*one.items[:2], *missing], None))

    with pytest.raises(BadInput, match=r"a worker cannot read .*b\.png \(unreadable: .*, which this machine can"):
        list(decoded_afar(iter([chunk.items]), TARGET, blind))
    (_, decoded), *_ = decoded_afar(iter([chunk.items]), TARGET, one_by_one)
    assert np.array_equal(decoded.pixels, decode_all([item.data for item in chunk.items], TARGET).pixels)


def test_a_store_travels_as_its_path_and_must_be_the_same_there(tmp_path: Path) -> None:
    images = np.arange(300 * 48, dtype=np.uint32).astype(np.uint8).reshape(300, 3, 4, 4)
    images[:, 0, 0, 0] = np.arange(300) % 256
    import_images(ArraySource(images, keys=[f"{i}" for i in range(300)]), tmp_path / "s", workers=1)
    store = ImageStore(tmp_path / "s")
    packed = pickle.dumps(store)
    assert len(packed) < 500
    again = pickle.loads(packed)
    assert np.array_equal(again[:], store[:]) and again.digest == store.digest and pickle.loads(packed) is again
    (tmp_path / "s").rename(tmp_path / "t")
    moved = pickle.dumps(ImageStore(tmp_path / "t"))
    import_images(ArraySource(images[:10]), tmp_path / "u", workers=1)
    (tmp_path / "t").rename(tmp_path / "v")
    with pytest.raises(BadInput, match=r"does not see the store that it is to work on \(.*no store.json.*same path"):
        pickle.loads(moved)
    (tmp_path / "u").rename(tmp_path / "t")
    with pytest.raises(BadInput, match=r"sees another store at .*/t \(digest "):
        pickle.loads(moved)
