"""Examples run."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path

import pytest
from tools.run import DOCS

from striate import ImageStore, load
from training import recipe_file, small_store, striate


def test_the_first_afternoon_finds_the_neighbours_that_angles_in_float64_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reference: arccosines, pair by pair. Of the classifier it is asked that it learned from the labels it says."""
    path = small_store(tmp_path / "store")
    done = striate("train", recipe_file(tmp_path), f"data.store={path}", "train.epochs=1", "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    specification = importlib.util.spec_from_file_location("first_afternoon", DOCS.parent / "examples" / "first_afternoon.py")
    assert specification and specification.loader
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    example.main(str(tmp_path / "run"), str(path), str(path))
    said = capsys.readouterr().out
    store = ImageStore(path)
    rows = load(tmp_path / "run").encode(store[:])["hidden1"].numpy().astype(float)
    angles = [math.acos(min(1.0, row @ rows[0] / math.sqrt((row @ row) * (rows[0] @ rows[0])))) for row in rows]
    nearest = sorted(range(len(rows)), key=lambda i: angles[i])[1:5]
    assert f"most like {store.keys[0]}: {', '.join(store.keys[i] for i in nearest)}\n" in said
    assert re.search(r"40 labels, 80 other pictures: \d+% named rightly\n$", said)
