"""The demo without a network: photographs that ship with packages, a report, and no harm to anyone's folder."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.app import photographs
from striate.app.main import main
from striate.app.photographs import PHOTOGRAPHS, SCALES, TILE, find_photographs, tiles
from striate.errors import BadInput
from striate.images import ImageStore

QUICK = ("preprocess.patches=3000", "train.epochs=2", "model.hidden=32")


def test_the_photographs_are_here_and_are_what_they_should_be() -> None:
    found, missing = find_photographs()
    assert missing == [] and len(found) == len(PHOTOGRAPHS) == 7
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for _, path in found}) == 7


def _elsewhere(monkeypatch: pytest.MonkeyPatch, skimage: Path | None) -> None:
    """Look for scikit-image's photographs in another folder, as if it were that package's (None: not installed)."""
    real = importlib.util.find_spec

    def find_spec(name: str) -> object:
        if name != "skimage":
            return real(name)
        return None if skimage is None else importlib.util.spec_from_file_location("skimage", skimage / "__init__.py")

    monkeypatch.setattr(photographs.importlib.util, "find_spec", find_spec)


def test_without_scikit_images_wheel_data_the_two_of_scikit_learn_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (None, tmp_path):
        _elsewhere(monkeypatch, place)
        found, missing = find_photographs()
        assert [photograph.name for photograph, _ in found] == ["china", "flower"]
        assert len(missing) == 5 and all("going on without it" in line for line in missing)


def test_a_picture_that_is_not_the_one_is_left_out_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "data" / "astronaut.png")
    _elsewhere(monkeypatch, tmp_path)
    found, missing = find_photographs()
    assert len(found) == 2 and "astronaut.png of skimage is not the picture it should be" in missing[0]


def test_with_no_photograph_at_all_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="striate learn FOLDER"):
        find_photographs()


def test_tiles_cover_each_photograph_once_a_scale_and_hold_its_pixels() -> None:
    found, _ = find_photographs()
    source = tiles(found[-2:])
    assert source.images.shape[1:] == (3, TILE, TILE) and source.keys is not None
    with Image.open(found[-2][1]) as opened:
        levels = np.asarray(opened.convert("RGB"))
    expected = sum((round(levels.shape[0] * scale) // TILE) * (round(levels.shape[1] * scale) // TILE) for scale in SCALES)
    names = [key.split("/")[0] for key in source.keys]
    assert names.count("china") == expected
    at = source.keys.index("china/1.00/64-96")
    assert (source.images[at].transpose(1, 2, 0) == levels[64:96, 96:128]).all()
    assert len(set(source.keys)) == len(source.keys)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """A short demo in this process, where every connection is an error."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _refuse)
        patch.setattr(socket, "getaddrinfo", _refuse)
        assert main(["demo", "--out", str(out), *QUICK]) == 0
    return out, json.loads((out / "run" / "run.json").read_text())


def _refuse(*arguments: object) -> None:
    raise AssertionError(f"the demo asked for the network: {arguments}")


def test_the_demo_ends_with_a_report_of_its_own_run(demo: tuple[Path, dict[str, object]]) -> None:
    out, described = demo
    assert described["status"] == "done"
    store = ImageStore(out / "photographs")
    assert store.class_names == [photograph.name for photograph in PHOTOGRAPHS] and len(store) > 2500
    assert (out / "run" / "report.html").stat().st_size > 50_000


def test_the_report_opens_offline_and_shows_the_credits(demo: tuple[Path, dict[str, object]]) -> None:
    """Nothing in it is loaded from elsewhere, and its pictures are whole PNGs."""
    text = (demo[0] / "run" / "report.html").read_text()
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)|url\(([^)]*)\)|@import\s+(\S+)""", text)
    assert all(link.startswith(("data:", "#")) for group in loaded for link in group if link)
    pictures = re.findall(r"data:image/png;base64,([^\"']+)", text)
    assert len(pictures) >= 5 and all(base64.b64decode(data).startswith(b"\x89PNG") for data in pictures)
    for author in ("danielbuechele", "vultilion", "CC BY 2.0", "NASA", "Stefan van der Walt"):
        assert author in text


def test_the_demo_is_made_anew_and_tells_its_numbers_as_json(
    demo: tuple[Path, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, before = demo
    assert main(["demo", "--out", str(out), *QUICK, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["photographs"] == 7 and result["report"] == str((out / "run" / "report.html").resolve())
    assert result["edge"] + result["point"] + result["noise"] == pytest.approx(1, abs=2e-4)
    assert json.loads((out / "run" / "run.json").read_text())["store_digest"] == before["store_digest"]


@pytest.mark.parametrize("name", ["photographs", "run", "anything"])
def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Someone's own pictures may lie in a folder `photographs`."""
    own = tmp_path / name / "holiday.jpg"
    own.parent.mkdir()
    own.write_bytes(b"precious")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert own.read_bytes() == b"precious" and [file.name for file in tmp_path.iterdir()] == [name]
    assert "holds something that no demo made" in capsys.readouterr().err
