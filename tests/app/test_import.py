"""`striate import` as people and scripts meet it: exit codes, one line on errors, numbers that add up, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hostile
from hostile import encoded, picture
from striate.images import ImageStore

STRIATE = [sys.executable, "-m", "striate"]


def striate(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*STRIATE, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def folder_of(root: Path, count: int) -> Path:
    root.mkdir()
    for i in range(count):
        (root / f"{i:04d}.png").write_bytes(encoded(picture(i), "PNG"))
    return root


def assert_one_line(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("striate: ") and result.stderr.count("\n") == 1, result.stderr
    assert all(word in result.stderr for word in words), result.stderr


def test_the_json_counts_every_file_once(tmp_path: Path) -> None:
    pile = hostile.hostile_folder(tmp_path)
    (pile / "copy.png").write_bytes((pile / "good0.png").read_bytes())
    result = striate("import", pile, tmp_path / "s", "--size", "16", "--json")
    assert result.returncode == 0
    counts = json.loads(result.stdout)
    assert [counts[key] for key in ("seen", "kept", "rejected", "duplicates")] == [15, 5, 9, 1]
    again = json.loads(striate("import", pile, tmp_path / "s", "--size", "16", "--json").stdout)
    assert {**again, "added": 5} == counts and again["added"] == 0


def test_people_read_what_was_kept_why_not_and_what_to_do_next(tmp_path: Path) -> None:
    result = striate("import", hostile.hostile_folder(tmp_path), tmp_path / "s")
    assert result.returncode == 0
    first, *reasons, last = result.stdout.splitlines()
    assert first == "14 seen = 5 kept + 9 rejected + 0 duplicates (5 added now)"
    assert "  rejected 2: damaged" in reasons and "  rejected 1: too large" in reasons
    assert last == f"next: striate info {tmp_path / 's'}"


def test_options_reach_the_store(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 5)
    options = ("--size", "10x12", "--mode", "grey", "--fit", "stretch", "--limit", 3, "--workers", 1, "--min-side", 30)
    assert striate("import", folder, tmp_path / "s", *options).returncode == 0
    store = ImageStore(tmp_path / "s")
    assert store.shape == (1, 10, 12) and len(store) == 3
    none = striate("import", folder, tmp_path / "t", "--min-side", 31)
    assert_one_line(none, 1, "none of the 5 files", "5 too small", "rejected.parquet")


def test_an_empty_folder_is_bad_input(tmp_path: Path) -> None:
    assert_one_line(striate("import", hostile.empty_folder(tmp_path), tmp_path / "s"), 2, "empty", "expected pictures")
    assert not (tmp_path / "s").exists()


def test_a_folder_of_text_files_is_work_that_failed_and_each_is_named(tmp_path: Path) -> None:
    result = striate("import", hostile.text_folder(tmp_path), tmp_path / "s", "--json")
    assert_one_line(result, 1, "none of the 3 files", "3 not a picture")
    assert ImageStore(tmp_path / "s").rejected["key"].to_pylist() == ["note0.txt", "note1.txt", "note2.txt"]


@pytest.mark.parametrize("bad", [hostile.no_tar, hostile.evil_pickle, hostile.lying_gzip_idx, hostile.pipe])
def test_files_that_cannot_be_read_are_one_line(tmp_path: Path, bad: object) -> None:
    path = bad(tmp_path)  # type: ignore[operator]
    assert_one_line(striate("import", path, tmp_path / "s"), 2, path.name)
    assert not (tmp_path / hostile.CANARY).exists()


def test_bad_usage_is_exit_2(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 1)
    assert_one_line(striate("import", tmp_path / "nowhere", tmp_path / "s"), 2, "nowhere is not there")
    assert_one_line(striate("import", folder, tmp_path / "s", "--limit", 0), 2, "--limit must be at least 1")
    for size in ("0", "x", "3x", "-4", "32.5"):
        result = striate("import", folder, tmp_path / "s", f"--size={size}")
        assert result.returncode == 2 and "is no size" in result.stderr


def test_a_store_of_another_version_is_bad_input(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 1)
    striate("import", folder, tmp_path / "s")
    header = json.loads((tmp_path / "s" / "store.json").read_text())
    (tmp_path / "s" / "store.json").write_text(json.dumps({**header, "version": 2}))
    assert_one_line(striate("import", folder, tmp_path / "s"), 2, "is a store of version 2")
    assert_one_line(striate("info", tmp_path / "s"), 2, "is a store of version 2")


def test_a_full_disk_is_one_line_and_exit_1_and_going_on_works(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a file system")
    try:
        folder = folder_of(tmp_path / "in", 60)
        assert_one_line(striate("import", folder, disk / "s"), 1, "the disk is full", "what was saved before is safe")
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        counts = json.loads(striate("import", folder, disk / "s", "--json").stdout)
        assert (counts["seen"], counts["kept"]) == (60, 60)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.science)])
def test_a_signal_stops_with_130_and_says_how_to_go_on(tmp_path: Path, number: int) -> None:
    """To the whole group of processes, as a terminal or a batch system sends it."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "0.png").write_bytes(encoded(picture(0, (900, 700)), "PNG"))
    for i in range(1, 2000):
        (folder / f"{i}.png").symlink_to(folder / "0.png")
    process = subprocess.Popen(
        [*STRIATE, "import", folder, tmp_path / "s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "s" / "store.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and output == ""
    assert [line for line in errors.splitlines() if line.startswith("striate: ")] == [
        "striate: import stopped; what was committed is safe: run the same command again to go on"
    ]
    counts = json.loads(striate("import", folder, tmp_path / "s", "--limit", 200, "--json").stdout)
    assert counts["seen"] == counts["kept"] + counts["rejected"] + counts["duplicates"] >= 200


def test_help_shows_an_example_that_works(tmp_path: Path) -> None:
    text = striate("import", "--help").stdout
    assert "example: striate import ~/Pictures pictures --size 64" in text


def test_some_of_a_source_are_taken_and_treated_alike(tmp_path: Path) -> None:
    """Pictures 3 to 8 of ten; treated ones are the same again from another import, one by one, and of one contrast."""
    folder = folder_of(tmp_path / "in", 10)
    whole, part = tmp_path / "whole", tmp_path / "part"
    options = ("--size", "32", "--mode", "grey", "--treat", "7", "--json")
    everything = json.loads(striate("import", folder, whole, *options).stdout)
    taken = json.loads(striate("import", folder, part, *options, "--skip", "3", "--limit", "5").stdout)
    assert everything["seen"] == 10 and taken["seen"] == taken["kept"] == 5
    assert np.array_equal(ImageStore(part)[:], ImageStore(whole)[3:8])
    plain = tmp_path / "plain"
    assert striate("import", folder, plain, "--size", "32", "--mode", "grey").returncode == 0
    assert not np.array_equal(ImageStore(plain)[:], ImageStore(whole)[:])
    means = ImageStore(whole)[:].reshape(10, -1).mean(axis=1)
    assert np.abs(means - 128).max() < 6
    assert_one_line(striate("import", folder, tmp_path / "bad", "--treat", "7"), 2, "--mode grey")


def test_a_picture_s_own_pixels_name_its_treatment(tmp_path: Path) -> None:
    """Copies are treated alike; a picture that differs by some levels of one pixel is treated otherwise."""
    (tmp_path / "in").mkdir()
    levels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    near = levels.copy()
    near[20, 20] ^= 31
    for name, pixels in (("a", levels), ("b", near), ("c", levels)):
        (tmp_path / "in" / f"{name}.png").write_bytes(encoded(Image.fromarray(pixels), "PNG"))
    options = ("--size", "32", "--mode", "grey", "--json")
    assert striate("import", tmp_path / "in", tmp_path / "plain", *options).returncode == 0
    assert striate("import", tmp_path / "in", tmp_path / "treated", *options, "--treat", "7").returncode == 0
    plain, treated = (ImageStore(tmp_path / name)[:].astype(int) for name in ("plain", "treated"))
    assert len(plain) == len(treated) and 0 < np.abs(plain[0] - plain[1]).max() <= 40
    assert np.abs(treated[0] - treated[1]).mean() > 5


def test_a_class_folder_without_pictures_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("cats", "dogs"):
        folder_of(tmp_path / "in" / name, 3)
    (tmp_path / "in" / "birds").mkdir()
    done = striate("import", tmp_path / "in", tmp_path / "s", "--json")
    assert done.returncode == 0 and "class folder 'birds' holds no file" in done.stderr
    assert "dogs" not in done.stderr
