"""Importing: every picture accounted for, the same store whatever happens on the way."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import hostile
from hostile import encoded, picture
from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, Item, StoreWriter, import_images, total_counts


def folder_of(root: Path, count: int, first: int = 0) -> Path:
    root.mkdir(exist_ok=True)
    for i in range(first, first + count):
        (root / f"{i:04d}.png").write_bytes(encoded(picture(i, (36, 32)), "PNG"))
    return root


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_a_folder_becomes_a_store(tmp_path: Path) -> None:
    done: list[int] = []
    counts = import_images(folder_of(tmp_path / "in", 7), tmp_path / "s", size=16, progress=done.append)
    assert (counts.seen, counts.kept, counts.rejected, counts.duplicates, counts.added) == (7, 7, 0, 0, 7)
    store = ImageStore(tmp_path / "s")
    assert store.shape == (3, 16, 16) and store.keys == [f"{i:04d}.png" for i in range(7)] and not store.labelled
    assert sum(done) == 7


def test_every_hostile_file_is_counted_and_named_and_stops_nothing(tmp_path: Path) -> None:
    """The pile: 9 files that are no pictures, among 5 that are."""
    counts = import_images(hostile.hostile_folder(tmp_path), tmp_path / "s")
    assert (counts.seen, counts.kept, counts.rejected, counts.duplicates) == (14, 5, 9, 0)
    reasons = {row["key"]: row["reason"].split(":")[0] for row in ImageStore(tmp_path / "s").rejected.to_pylist()}
    assert reasons == {
        "bomb.png": "too large",
        "cut.jpg": "damaged",
        "cut.png": "damaged",
        "dangling.jpg": "unreadable",
        "dot.png": "too small",
        "loop.jpg": "unreadable",
        "nothing.jpg": "empty file",
        "pipe.jpg": "not a regular file",
        "words.jpg": "not a picture",
    }


def test_text_files_are_each_rejected_and_named(tmp_path: Path) -> None:
    counts = import_images(hostile.text_folder(tmp_path), tmp_path / "s")
    assert (counts.seen, counts.kept, counts.rejected) == (3, 0, 3)
    assert set(ImageStore(tmp_path / "s").rejected["reason"].to_pylist()) == {"not a picture"}


def test_an_empty_folder_is_bad_input_and_leaves_no_store(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="empty is empty: expected pictures"):
        import_images(hostile.empty_folder(tmp_path), tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("bad", [*hostile.BAD_FILES, hostile.pipe, hostile.dangling_link])
def test_sources_that_cannot_be_read_are_one_line_that_names_them(tmp_path: Path, bad: object) -> None:
    path = bad(tmp_path)  # type: ignore[operator]
    with pytest.raises(BadInput) as caught:
        import_images(path, tmp_path / "s")
    assert path.name in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / hostile.CANARY).exists()
    # Whatever it left does not bind the next import.
    assert import_images(folder_of(tmp_path / "in", 2), tmp_path / "s", size=(8, 9)).kept == 2


@contextmanager
def as_nobody() -> Iterator[None]:
    """Permissions do not bind root: step down for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_and_folders_without_permission_are_named_rejections() -> None:
    # Not under pytest's own folder, which nobody else may enter.
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = folder_of(root / "in", 3)
        (folder / "locked").mkdir()
        (root / "out").mkdir()
        # Once before, so that nothing is left to load from places where nobody may read.
        import_images(folder, root / "before", workers=1)
        for path, mode in ((root, 0o755), (root / "out", 0o777), (folder / "0001.png", 0), (folder / "locked", 0)):
            path.chmod(mode)
        try:
            with as_nobody():
                counts = import_images(folder, root / "out" / "s", workers=1)
        finally:
            (folder / "locked").chmod(0o755)
        rejected = ImageStore(root / "out" / "s").rejected.to_pylist()
    assert (counts.seen, counts.kept, counts.rejected) == (4, 2, 2)
    assert {row["key"]: row["reason"] for row in rejected} == {
        "0001.png": "unreadable: Permission denied",
        "locked/": "unreadable folder: Permission denied",
    }


def test_importing_twice_adds_nothing(tmp_path: Path) -> None:
    pile = hostile.hostile_folder(tmp_path)
    first = import_images(pile, tmp_path / "s")
    before = files(tmp_path / "s")
    again = import_images(pile, tmp_path / "s")
    assert files(tmp_path / "s") == before
    assert (again.seen, again.kept, again.rejected) == (first.seen, first.kept, first.rejected) and again.added == 0


def test_new_files_of_a_source_are_added_and_the_old_left(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 5, first=3)
    import_images(folder, tmp_path / "s")
    counts = import_images(folder_of(folder, 3), tmp_path / "s")
    assert (counts.seen, counts.added) == (8, 3)
    assert ImageStore(tmp_path / "s").keys == [f"{i:04d}.png" for i in (3, 4, 5, 6, 7, 0, 1, 2)]


def test_a_second_source_appends_and_its_copies_are_set_aside(tmp_path: Path) -> None:
    import_images(folder_of(tmp_path / "a", 4), tmp_path / "s")
    counts = import_images(folder_of(tmp_path / "b", 6), tmp_path / "s")
    assert (counts.seen, counts.kept, counts.duplicates, counts.added) == (6, 2, 4, 2)
    total = total_counts(tmp_path / "s")
    assert (total.seen, total.kept, total.duplicates) == (10, 6, 4)
    aside = ImageStore(tmp_path / "s").duplicates.to_pylist()
    assert [(row["key"], row["kept"]) for row in aside] == [(f"{i:04d}.png",) * 2 for i in range(4)]


def test_class_names_of_two_sources_share_one_list(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)
    first = ArraySource(images[:2], np.array([0, 1]), ["cat", "dog"])
    second = ArraySource(images[2:], np.array([0, 1]), ["dog", "emu"])
    import_images(first, tmp_path / "s", name="first")
    import_images(second, tmp_path / "s", name="second")
    store = ImageStore(tmp_path / "s")
    assert store.class_names == ["cat", "dog", "emu"] and store.labels.tolist() == [0, 1, 1, 2]


def test_a_key_used_twice_is_a_named_rejection_however_far_apart(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for i in range(300):
            data, member = encoded(picture(i), "PNG"), tarfile.TarInfo("same.png" if i in (0, 1, 299) else f"{i}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    counts = import_images(tmp_path / "x.tar", tmp_path / "s", commit_every=50)
    assert (counts.seen, counts.kept, counts.rejected) == (300, 298, 2)
    rejected = ImageStore(tmp_path / "s").rejected.to_pylist()
    assert [row["key"] for row in rejected] == ["same.png (2)", "same.png (3)"]
    assert rejected[0]["reason"].startswith("duplicate key")
    assert import_images(tmp_path / "x.tar", tmp_path / "s").added == 0


def test_the_store_is_the_same_whatever_the_workers_and_the_commits(tmp_path: Path) -> None:
    """With a picture large enough to be at work on until the workers have come up."""
    pile = hostile.hostile_folder(tmp_path)
    (pile / "large.png").write_bytes(encoded(picture(0, (900, 700)), "PNG"))
    for i in range(100):
        (pile / f"large{i}.png").symlink_to(pile / "large.png")
    folder_of(pile, 300)
    stores = [(1, 8192), (2, 8192), (1, 50), (3, 7)]
    for i, (workers, every) in enumerate(stores):
        counts = import_images(pile, tmp_path / f"s{i}", workers=workers, commit_every=every)
        assert (counts.seen, counts.duplicates) == (14 + 101 + 300, 100)
    for i in range(1, len(stores)):
        assert files(tmp_path / "s0") == files(tmp_path / f"s{i}")


def test_a_limit_counts_pictures_of_the_source_and_can_be_raised(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 9)
    assert import_images(folder, tmp_path / "s", limit=4).seen == 4
    assert import_images(folder, tmp_path / "s", limit=4).added == 0
    assert import_images(folder, tmp_path / "s", limit=6).added == 2
    with pytest.raises(BadInput, match="--limit must be at least 1, found 0"):
        import_images(folder, tmp_path / "s", limit=0)


def test_another_size_than_the_stores_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 2)
    import_images(folder, tmp_path / "s", size=16)
    with pytest.raises(BadInput, match=r"holds pictures of shape \(3, 16, 16\), these are \(3, 8, 8\)"):
        import_images(folder, tmp_path / "s", size=8)
    with pytest.raises(BadInput, match=r"these are \(1, 16, 16\)"):
        import_images(folder, tmp_path / "s", size=16, mode="grey")


def test_an_import_into_a_store_that_is_being_written_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 2)
    with StoreWriter(tmp_path / "s", (3, 32, 32)), pytest.raises(BadInput, match="being written by another process"):
        import_images(folder, tmp_path / "s")


def test_a_source_is_read_no_further_ahead_than_what_is_on_its_way(tmp_path: Path) -> None:
    """So memory is bounded: 2 chunks for each worker and 2 at the ends, of 128 pictures at most."""
    taken, done, furthest = 0, 0, 0

    class Long:
        class_names: list[str] = []  # noqa: RUF012
        natural_shape = None

        def __iter__(self) -> Iterator[Item]:
            nonlocal taken, furthest
            large = encoded(picture(0, (300, 200)), "PNG")
            for i in range(3000):
                taken += 1
                furthest = max(furthest, taken - done)
                yield Item(f"{i}", large)

    def progress(count: int) -> None:
        nonlocal done
        done += count

    import_images(Long(), tmp_path / "s", workers=2, progress=progress)
    assert done == 3000 and furthest <= (2 * 2 + 2) * 128
