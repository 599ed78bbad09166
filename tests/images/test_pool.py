"""Worker processes that die, cannot start, or lose their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hostile import encoded, picture
from striate.images.decode import Target
from striate.images.items import Item
from striate.images.pool import Decoded, decode_all, decoded_chunks

TARGET = Target((3, 32, 32))


class Poison:
    """Ends whatever process unpickles it, as a crash inside a decoder would."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (9,)


def by_workers(work: list[list[Item]]) -> Iterator[tuple[list[Item], Decoded]]:
    """Decoded by two processes, from the first chunk on: the time that they take to start is waited for."""

    def late() -> Iterator[list[Item]]:
        yield []
        deadline = time.monotonic() + 30
        while len(multiprocessing.active_children()) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(2)
        yield from work

    results = decoded_chunks(late(), TARGET, 2)
    assert next(results)[0] == []
    return results


def chunks(count: int, poisoned: set[int] = frozenset()) -> list[list[Item]]:  # type: ignore[assignment]
    items = [Item(f"{i}", Poison() if i in poisoned else encoded(picture(i), "PNG")) for i in range(count)]  # type: ignore[arg-type]
    return [items[i : i + 4] for i in range(0, count, 4)]


def test_chunks_come_back_in_order_and_equal_to_decoding_here() -> None:
    work = chunks(40)
    for (chunk, here), (same, there) in zip(decoded_chunks(iter(work), TARGET, 1), by_workers(work), strict=True):
        assert [item.key for item in chunk] == [item.key for item in same]
        assert np.array_equal(here.pixels, there.pixels) and here.notes == there.notes


@pytest.mark.science
def test_a_picture_that_kills_its_worker_is_rejected_alone() -> None:
    done = list(by_workers(chunks(24, {5, 14, 15})))
    notes = {item.key: note for chunk, decoded in done for item, note in zip(chunk, decoded.notes, strict=True)}
    assert list(notes) == [str(i) for i in range(24)]
    assert {key for key, (kept, _) in notes.items() if not kept} == {"5", "14", "15"}
    assert notes["5"][1] == "damaged: decoding it ended the process"
    reference = decode_all([encoded(picture(i), "PNG") for i in range(24) if i not in (5, 14, 15)], TARGET)
    assert np.array_equal(np.concatenate([decoded.pixels for _, decoded in done]), reference.pixels)


@pytest.mark.science
def test_workers_killed_from_outside_lose_nothing() -> None:
    """As the kernel does when memory is short."""
    done = []
    for number, (_, decoded) in enumerate(by_workers(chunks(48))):
        done.append(decoded)
        if number in (1, 7):
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)
    assert np.array_equal(
        np.concatenate([one.pixels for one in done]), decode_all([encoded(picture(i), "PNG") for i in range(48)], TARGET).pixels
    )


@pytest.mark.science
def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    """Fresh interpreters run the script again, and Python refuses to start processes there: no picture is to blame."""
    (tmp_path / "0.png").write_bytes(encoded(picture(0, (1600, 1200)), "PNG"))
    for i in range(1, 400):
        (tmp_path / f"{i}.png").symlink_to(tmp_path / "0.png")
    script = tmp_path / "script.py"
    script.write_text(f"from striate.images import import_images\nimport_images({str(tmp_path)!r}, 'store', workers=2)\n")
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert result.returncode == 1 and "decoding processes cannot start: run with --workers 1" in result.stderr


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """At once, not when their chunk is done: they would keep a machine busy that its owner believes idle."""
    (tmp_path / "0.png").write_bytes(encoded(picture(0, (2400, 1800)), "PNG"))
    for i in range(1, 3000):
        (tmp_path / f"{i}.png").symlink_to(tmp_path / "0.png")
    program = "import sys; from striate.images import import_images; import_images(sys.argv[1], sys.argv[2], workers=2)"
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(tmp_path / "s")])
    try:
        workers = wait_for(lambda: len(found := children(parent.pid)) >= 2 and found)
    finally:
        parent.kill()
        parent.wait()
    # Far less than the chunk that they are at work on takes.
    wait_for(lambda: not any(alive(worker) for worker in workers), seconds=3)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("this system does not list the children of a process")
    return [int(child) for child in listed.read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: object, seconds: float = 30) -> list[int]:
    deadline = time.monotonic() + seconds
    while not (found := condition()):  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return found  # type: ignore[no-any-return]
