"""Validation pictures labelled by a development kit, as ImageNet's comes: written here in its own format, read by the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.items import ArraySource
from striate.images.sources.devkit import DevkitSource
from training import striate

# Numbers of the kit are in no order of the synsets' names; the last is no class but a synset above some.
SYNSETS = [(1, "n30", "tench, Tinca tinca", 0), (2, "n10", "kite", 0), (3, "n20", "house", 0), (4, "n01", "thing", 3)]
TRUTH = [3, 1, 2, 2, 1]
NAMES = ["n10", "n20", "n30"]


def kit(folder: Path, truth: list[Any] = TRUTH) -> Path:
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = np.array([SYNSETS[at] for at in range(len(SYNSETS))], dtype=fields)
    (folder / "data").mkdir(parents=True)
    savemat(folder / "data" / "meta.mat", {"synsets": rows})
    (folder / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{one}\n" for one in truth))
    return folder


def test_pictures_get_the_class_of_their_number_in_the_order_of_synsets(tmp_path: Path) -> None:
    """Picture n is of class truth[n]; labels index sorted synsets, so that they agree with folders of a training set."""
    pictures = tmp_path / "val"
    pictures.mkdir()
    for number in (2, 1, 5, 4, 3):
        colour = (number * 40, 0, 0)
        Image.new("RGB", (40, 40), colour).save(pictures / f"ILSVRC2012_val_{number:08d}.JPEG")
    Image.new("RGB", (40, 40)).save(pictures / "ILSVRC2012_val_00000006.JPEG")
    Image.new("RGB", (40, 40)).save(pictures / "cover.jpg")
    done = striate("import", pictures, tmp_path / "store", "--devkit", kit(tmp_path / "kit"), "--workers", 1, "--json")
    assert done.returncode == 0, done.stderr
    store = ImageStore(tmp_path / "store")
    assert store.class_names == NAMES
    ids = {number: wnid for number, wnid, _, _ in SYNSETS}
    assert [NAMES[label] for label in store.labels] == [ids[one] for one in TRUTH]
    assert store.table["term"].to_pylist() == ["house", "tench", "kite", "kite", "tench"]
    reasons = dict(zip(store.rejected["key"].to_pylist(), store.rejected["reason"].to_pylist()))
    assert "1 to 5, not 6" in reasons["ILSVRC2012_val_00000006.JPEG"] and "ends in no number" in reasons["cover.jpg"]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda data: (data / "meta.mat").unlink(), "no development kit"),
        (lambda data: (data / "meta.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200)), "table of synsets"),
        (lambda data: (data / "ILSVRC2012_validation_ground_truth.txt").unlink(), "cannot be read"),
        (lambda data: (data / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n4\n"), "line 2: '4' is no number"),
    ],
)
def test_a_kit_that_is_none_is_named(tmp_path: Path, harm: Any, message: str) -> None:
    folder = kit(tmp_path / "kit")
    harm(folder / "data")
    with pytest.raises(BadInput, match=message):
        DevkitSource(ArraySource(np.zeros((1, 3, 8, 8), np.uint8)), folder)
