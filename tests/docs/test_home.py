"""The stand-in for a home folder: what pages count in it is there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools.home import CLASSES, PICTURES, TEST, TRAIN, make_home
from tools.material import COPIES, FOUND, FRAMES, TERMS, WHITE
from tools.run import DOCS

from striate.images.sources import open_source


@pytest.mark.parametrize("real", [False, True])
def test_a_home_folder_has_the_counts_that_pages_quote(
    tmp_path: Path, real: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once of photographs that ship, once of real data where they are at hand; fewer pictures than the pages', for the time."""
    monkeypatch.setattr("tools.home.PICTURES", 40)
    make_home(tmp_path, request.getfixturevalue("shared_data") if real else None)
    assert len(list((tmp_path / "Pictures").iterdir())) == 42
    for part, count in (("train", TRAIN), ("test", TEST)):
        folders = sorted((tmp_path / "sorted" / part).iterdir())
        assert [len(list(folder.iterdir())) for folder in folders] == [count] * CLASSES
    tutorial, labelling = ((DOCS / f"{name}.md").read_text() for name in ("tutorial", "labelling"))
    assert f"{PICTURES + 2:,} seen = {PICTURES:,} kept + 1 rejected + 1 exact" in tutorial
    assert f"{TRAIN * CLASSES} seen" in tutorial and f"{TEST * CLASSES} seen" in tutorial
    found = Counter(file.parent.name for file in (tmp_path / "found").glob("*/*"))
    assert found == dict.fromkeys(TERMS, FOUND + COPIES + WHITE) and f"{found.total()} seen" in labelling
    _check_formats(tmp_path / "data", tmp_path / "sorted" / "test")


def _check_formats(data: Path, pictures: Path) -> None:
    """Each format holds the same pictures of the same classes: read by the readers, told from one another by their levels."""
    expected = Counter(dict.fromkeys(range(CLASSES), TEST))
    for name in ("mnist", "shards", "parquet", "arrays.npz", "table"):
        assert Counter(item.label for item in open_source(data / name)) == expected, name
    batches = Counter(item.label for item in open_source(data / "cifar-10-binary.tar.gz"))
    assert batches == dict.fromkeys(range(CLASSES), TRAIN + TEST)
    levels = sorted(_mean(Image.open(file).resize((32, 32))) for file in pictures.glob("*/*"))
    for name in ("arrays.npz", "tiny_images.bin"):
        assert np.allclose(sorted(_mean(item.data) for item in open_source(data / name)), levels), name
    assert sum(1 for _ in open_source(data / "clips")) == 2 * FRAMES


def _mean(picture: object) -> float:
    return float(np.asarray(picture).mean())
