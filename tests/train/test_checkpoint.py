"""Checkpoints survive whatever happens to a process or a file: every case is made, none is simulated by a patch."""

from __future__ import annotations

import json
import resource
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput, StriateError
from striate.train.checkpoint import CheckpointFolder, read_json, write_tensors


def _tensors(step: int, size: int = 1000) -> dict[str, Tensor]:
    return {
        "weights": Draws(step).normal("w", (size,)),
        "chains": (Draws(step).uniform("c", (3, 5)) < 0.5).bfloat16(),
        "step": torch.tensor(step),
    }


def _save(folder: CheckpointFolder, *steps: int) -> None:
    for step in steps:
        folder.save(step, _tensors(step), {"third": step / 3})


def _assert_is(folder: CheckpointFolder, step: int) -> list[str]:
    """The newest whole checkpoint is that step's, to the last bit; returns the warnings."""
    checkpoint, warnings = folder.newest()
    assert checkpoint is not None and checkpoint.step == step and checkpoint.state == {"third": step / 3}
    for name, tensor in _tensors(step).items():
        assert torch.equal(checkpoint.tensors[name], tensor) and checkpoint.tensors[name].dtype == tensor.dtype
    return warnings


def test_what_is_saved_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    _save(folder, 7)
    assert _assert_is(folder, 7) == []


def test_a_folder_without_any_has_none(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "absent").newest() == (None, [])


def test_the_last_k_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    _save(folder, 0, 10, 20, 30, 100)
    assert folder.steps() == [20, 30, 100]
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, None])
def test_a_damaged_newest_falls_back_to_the_one_before_with_a_line(tmp_path: Path, suffix: str, share: float | None) -> None:
    """Cut at any place, or (None) with one bit turned, at every fifth byte."""
    folder = CheckpointFolder(tmp_path)
    _save(folder, 10, 20)
    file = tmp_path / f"step-00000020.{suffix}"
    data = file.read_bytes()
    if share is None:
        places = range(0, len(data), max(5, len(data) // 60))
        cases = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in places]
    else:
        cases = [data[: int(share * len(data))]]
    for case in cases:
        file.write_bytes(case)
        warnings = _assert_is(folder, 10)
        assert len(warnings) == 1 and "step 20 is damaged" in warnings[0] and "\n" not in warnings[0]


def test_tensors_that_vanished_fall_back_too(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    _save(folder, 10, 20)
    (tmp_path / "step-00000020.safetensors").unlink()
    assert len(_assert_is(folder, 10)) == 1


def test_all_damaged_is_none_with_a_line_each(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    _save(folder, 10, 20)
    for file in tmp_path.glob("*.safetensors"):
        file.write_bytes(b"")
    checkpoint, warnings = folder.newest()
    assert checkpoint is None and len(warnings) == 2


def test_a_damaged_later_one_never_pushes_out_a_good_one(tmp_path: Path) -> None:
    """Gone on from step 10 after 20 was found damaged: with one kept, the next save must not count 20 as the newest."""
    folder = CheckpointFolder(tmp_path, keep=1)
    _save(folder, 10)
    (tmp_path / "step-00000020.json").write_text("{}")
    (tmp_path / "step-00000020.safetensors").write_bytes(b"cut")
    _save(folder, 15)
    assert folder.steps() == [15]
    assert _assert_is(folder, 15) == []


def test_leavings_of_a_killed_process_are_removed_at_the_next_save(tmp_path: Path) -> None:
    """Killed while writing tensors, and between tensors and JSON: neither counts, neither stays."""
    folder = CheckpointFolder(tmp_path)
    _save(folder, 10)
    (tmp_path / ".step-00000012.safetensors.tmp").write_bytes(b"half")
    write_tensors(tmp_path / "step-00000015.safetensors", _tensors(15))
    assert _assert_is(folder, 10) == []
    _save(folder, 30)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"step-000000{step}.{suffix}" for step in (10, 30) for suffix in ("json", "safetensors")
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB; skipped where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_on_a_full_disk_the_last_checkpoint_stays_and_the_error_says_so(small_disk: Path) -> None:
    """4 KB fit, 400 KB do not; with room again, saving goes on."""
    folder = CheckpointFolder(small_disk / "checkpoints")
    _save(folder, 10)
    with pytest.raises(StriateError, match=r"the disk is full.*what was saved before is safe") as caught:
        folder.save(20, _tensors(20, 100_000), {})
    assert caught.value.exit_code == 1
    assert _assert_is(folder, 10) == []
    assert len(list((small_disk / "checkpoints").iterdir())) == 2
    _save(folder, 30)
    assert _assert_is(folder, 30) == []


def test_at_a_file_size_limit_it_is_the_same(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    _save(folder, 10)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StriateError, match="the disk is full"):
            folder.save(20, _tensors(20, 100_000), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert _assert_is(folder, 10) == []


def test_files_are_readable_as_any_new_file_is(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_tensors(tmp_path / "t.safetensors", _tensors(1))
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "t.safetensors")}
    assert len(modes) == 1


def test_json_that_is_missing_damaged_or_no_object_is_named(tmp_path: Path) -> None:
    for text, complaint in (
        (None, "is no run"),
        ("{", "cannot be read"),
        ("[1]", "holds no object"),
        ("\xff", "cannot be read"),
    ):
        file = tmp_path / "run.json"
        if text is not None:
            file.write_bytes(text.encode("latin-1"))
        with pytest.raises(BadInput, match=complaint):
            read_json(file)
    file.write_text(json.dumps({"a": 1}))
    assert read_json(file) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]
