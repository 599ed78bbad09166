"""kill -9 at random moments, full disks: what was committed stays, and going on ends in the very same bytes."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hostile
from hostile import encoded, picture
from killing import bring_in, clean_server, killed_after, limited
from striate.errors import StriateError
from striate.images import ImageStore, total_counts

COUNT = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good pictures in two classes, copies of some, and bad files: every kind of row."""
    root = tmp_path_factory.mktemp("in")
    for name in ("cat", "dog"):
        (root / name).mkdir()
    for i in range(COUNT):
        index = i - 7 if i % 10 == 9 else i
        (root / ("cat" if i % 2 else "dog") / f"{i:04d}.png").write_bytes(encoded(picture(index, (24, 20)), "PNG"))
    hostile.truncated_jpeg(root / "dog")
    hostile.text_named_jpeg(root / "cat")
    return root


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an import that nothing interrupted."""
    path = tmp_path_factory.mktemp("whole") / "s"
    bring_in(folder, path)
    return path


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_killed_at_any_moment_and_continued_the_store_is_the_same_to_the_last_byte(
    folder: Path, whole: Path, tmp_path: Path
) -> None:
    """Forty kills at random moments, of several imports; after each, all that a reader sees is right."""
    draw = random.Random(0)
    killed_after(folder, tmp_path / "warm-up", 60)
    started = time.monotonic()
    killed_after(folder, tmp_path / "timing", 60)
    length, kills, finished, reference = time.monotonic() - started, 0, 0, ImageStore(whole)
    while kills < 40:
        store = tmp_path / f"s{finished}"
        while killed_after(folder, store, draw.uniform(0, length)):
            kills += 1
            if (store / "store.json").exists():
                seen = ImageStore(store)
                assert seen.keys == reference.keys[: len(seen)]
                assert (seen[:] == reference[: len(seen)]).all()
                counts = total_counts(store)
                assert counts.seen == counts.kept + counts.rejected + counts.duplicates <= COUNT + 2
        assert files(store) == files(whole)
        finished += 1
        assert finished < 200, "the imports are over before they can be killed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 128 KiB; skipped where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_on_a_full_disk_nothing_is_lost_and_with_room_the_import_goes_on(folder: Path, whole: Path, small_disk: Path) -> None:
    """Room is given in steps, so that the disk fills at several places."""
    failures = 0
    for size in range(128, 2048, 48):
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(small_disk)], check=True)
        try:
            bring_in(folder, small_disk / "s")
            break
        except StriateError as error:
            failures += 1
            assert "the disk is full" in str(error) and "\n" not in str(error) and error.exit_code == 1
            seen = ImageStore(small_disk / "s")
            assert (seen[:] == ImageStore(whole)[: len(seen)]).all()
    assert failures >= 3
    assert files(small_disk / "s") == files(whole)


def test_at_a_file_size_limit_it_is_the_same(folder: Path, whole: Path, tmp_path: Path) -> None:
    message = tmp_path / "message"
    process = clean_server().Process(target=limited, args=(folder, tmp_path / "s", 100_000, message))
    process.start()
    process.join(60)
    assert process.exitcode == 0 and "the disk is full" in message.read_text()
    assert 0 < len(ImageStore(tmp_path / "s")) < len(ImageStore(whole))
    bring_in(folder, tmp_path / "s")
    assert files(tmp_path / "s") == files(whole)


def test_two_imports_at_once_cannot_mix(folder: Path, whole: Path, tmp_path: Path) -> None:
    """Both are started; each either does its work or is refused, and the store is that of one."""
    context = clean_server()
    both = [context.Process(target=bring_in, args=(folder, tmp_path / "s")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert 0 in [process.exitcode for process in both]
    assert files(tmp_path / "s") == files(whole)
    assert not any((tmp_path / "s" / "parts").iterdir())
