"""Files written past the cache: the bytes are those that were given, whatever their pieces, kills and file systems."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

from striate.app import direct_file
from striate.app.direct_file import DirectFile
from striate.draws import generator


def _pieces(name: str, count: int) -> list[bytes]:
    """Around a page, around the buffer, and tiny."""
    random = generator(0, name)
    sizes = random.choice([0, 1, 77, 4095, 4096, 4097, 50_000, (4 << 20) - 1, (4 << 20) + 5], count)
    return [random.bytes(int(size)) for size in sizes]


@pytest.mark.parametrize("direct", [True, False])
def test_a_file_holds_what_was_written_however_it_was_cut_and_synced(
    tmp_path: Path, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not direct:
        monkeypatch.setattr(direct_file, "_DIRECT", 0)
    pieces = _pieces("cut", 60)
    file = DirectFile(tmp_path / "f")
    opened = fcntl.fcntl(file, fcntl.F_GETFL)
    file.begin(0)
    for number, piece in enumerate(pieces):
        assert file.write(piece) == len(piece)
        if number % 7 == 0:
            file.sync()
    file.finish()
    # It has not had to do without.
    assert fcntl.fcntl(file, fcntl.F_GETFL) == opened
    file.close()
    assert (tmp_path / "f").read_bytes() == b"".join(pieces)


@pytest.mark.parametrize("kept", [0, 1, 4095, 4096, 4097, 123_456])
def test_going_on_after_some_bytes_keeps_those_and_drops_the_others(tmp_path: Path, kept: int) -> None:
    before, after = generator(0, "before").bytes(200_000), generator(0, "after").bytes(9_001)
    (tmp_path / "f").write_bytes(before)
    file = DirectFile(tmp_path / "f")
    file.begin(kept)
    file.write(after)
    file.finish()
    file.close()
    assert (tmp_path / "f").read_bytes() == before[:kept] + after


def test_what_was_synced_is_there_without_a_finish(tmp_path: Path) -> None:
    """As after a kill; only padding may follow."""
    file = DirectFile(tmp_path / "f")
    file.begin(0)
    array = np.arange(5_000, dtype=np.float32)
    file.write(array.data)
    file.sync()
    found = (tmp_path / "f").read_bytes()
    file.close()
    assert found[: array.nbytes] == array.tobytes() and not any(found[array.nbytes :]) and len(found) - array.nbytes < 4096


def test_a_disk_that_refuses_direct_writes_is_written_as_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference: a write that fails as with blocks larger than pages, while the file is opened for direct writing."""
    write, refused = os.pwrite, []

    def picky(file: int, data: memoryview, at: int) -> int:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
            refused.append(at)
            raise OSError(errno.EINVAL, "blocks are larger")
        return write(file, data, at)

    file = DirectFile(tmp_path / "f")
    file.begin(0)
    monkeypatch.setattr(os, "pwrite", picky)
    file.write(b"x" * 10_001)
    file.finish()
    file.close()
    assert refused == [0]
    assert (tmp_path / "f").read_bytes() == b"x" * 10_001
