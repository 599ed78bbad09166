"""`striate info`: what a store holds, in numbers and in a picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from striate.images import ArraySource, ImageStore, import_images


def striate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "striate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def store_at(path: Path, count: int = 12) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    import_images(ArraySource(images, np.arange(count) % 3, ["ant", "bee", "cat"]), path)
    return images


def test_the_json_counts_what_is_there(tmp_path: Path) -> None:
    images = store_at(tmp_path / "s")
    found = json.loads(striate("info", tmp_path / "s", "--json").stdout)
    assert found["pictures"] == found["seen"] == found["labelled"] == 12 and found["shape"] == [3, 8, 8]
    assert found["classes"] == {"ant": 4, "bee": 4, "cat": 4} and found["bytes"] == images.nbytes
    assert found["digest"] == ImageStore(tmp_path / "s").digest
    assert abs(found["mean_level"] - images.mean()) < 0.01
    assert abs(found["contrast"] - images.std(axis=(1, 2, 3)).mean()) < 0.01


def test_the_contact_sheet_shows_the_pictures_of_the_store(tmp_path: Path) -> None:
    """Every picture of the store is somewhere on the sheet, as it is or enlarged by whole numbers."""
    images = store_at(tmp_path / "s", 5)
    path = Path(json.loads(striate("info", tmp_path / "s", "--json").stdout)["sheet"])
    assert path == tmp_path / "s" / "contact.png"
    sheet = np.asarray(Image.open(path).convert("RGB"))
    enlarged = [n for n in range(1, 100) if np.array_equal(sheet, sheet[::n, ::n].repeat(n, 0).repeat(n, 1))]
    sheet = sheet[:: max(enlarged), :: max(enlarged)]
    height, width, _ = sheet.shape
    windows = {sheet[y : y + 8, x : x + 8].tobytes() for y in range(height - 7) for x in range(width - 7)}
    assert all(np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes() in windows for image in images)


def test_people_read_a_table_and_the_path_of_the_sheet(tmp_path: Path) -> None:
    store_at(tmp_path / "s")
    result = striate("info", tmp_path / "s")
    assert result.returncode == 0 and "12, 8x8 RGB" in result.stdout and "ant 4, bee 4, cat 4" in result.stdout
    assert result.stdout.splitlines()[-1] == f"contact sheet: {tmp_path / 's' / 'contact.png'}"


def test_a_store_without_pictures_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "note.txt").write_text("words")
    striate("import", tmp_path / "in", tmp_path / "s")
    found = json.loads(striate("info", tmp_path / "s", "--json").stdout)
    assert (found["pictures"], found["seen"], found["rejected"]) == (0, 1, 1) and "sheet" not in found


def test_what_is_no_store_is_one_line_and_exit_2(tmp_path: Path) -> None:
    result = striate("info", tmp_path)
    assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert "is no image store" in result.stderr and "striate import SOURCE" in result.stderr
