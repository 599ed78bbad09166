"""The main job: a folder in, a report out, for every kind of folder that people have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import hostile
from striate.draws import generator
from striate.images import ImageStore
from training import small_store, striate

QUICK = ("preprocess.patches=2000", "train.epochs=1", "model.hidden=24", "train.dtype=fp32")
COUNT = 140


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of pictures in sizes of their own (noise of two colours), a copy, and files that are none."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("pictures") / "holiday"
    random = generator(0, "learn-folder")
    for i in range(COUNT):
        name = "red" if i % 2 else "blue"
        (root / name).mkdir(parents=True, exist_ok=True)
        levels = random.integers(0, 120, (36 + i % 5, 40, 3), dtype=np.uint8)
        levels[..., 0 if i % 2 else 2] += 100
        (root / name / f"{i:03d}.png").write_bytes(hostile.encoded(Image.fromarray(levels), "PNG"))
    shutil.copy(root / "red" / "001.png", root / "red" / "copy.png")
    hostile.truncated_jpeg(root / "red")
    (root / "notes.txt").write_text("not a picture")
    return root


def _learn(*arguments: object) -> dict[str, Any]:
    answer = striate("learn", *arguments, "--json")
    assert answer.returncode == 0, answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


@pytest.fixture(scope="module")
def learned(folder: Path) -> tuple[Path, dict[str, Any]]:
    out = folder.parent / "out"
    return out, _learn(folder, "--out", out, *QUICK)


def test_a_folder_becomes_a_store_a_run_a_probe_and_a_report(learned: tuple[Path, dict[str, Any]]) -> None:
    out, result = learned
    store = ImageStore(out / "pictures")
    assert len(store) == COUNT == result["pictures"] and store.class_names == ["blue", "red"]
    assert Path(result["report"]).is_file() and Path(result["report"]).is_relative_to(out.resolve())
    assert result["edge"] + result["point"] + result["noise"] == pytest.approx(1, abs=2e-4)


def test_labelled_pictures_are_probed_on_a_part_that_the_probe_did_not_see(learned: tuple[Path, dict[str, Any]]) -> None:
    """Red and blue are told apart by anyone: pixels must reach 100% of the tenth set apart."""
    probe = learned[1]["probe"]
    for kind in ("pixels", "features"):
        assert probe[kind]["test_size"] == COUNT // 10 and probe[kind]["train_size"] == COUNT - COUNT // 10
        assert probe[kind]["low"] <= probe[kind]["accuracy"] <= probe[kind]["high"]
    assert probe["pixels"]["accuracy"] == 1.0


def test_run_again_it_adds_nothing_and_trains_no_further(learned: tuple[Path, dict[str, Any]], folder: Path) -> None:
    out, before = learned
    model = (out / "run" / "encoder.safetensors").read_bytes()
    again = _learn(folder, "--out", out, *QUICK)
    assert (out / "run" / "encoder.safetensors").read_bytes() == model
    assert {key: again[key] for key in before if key != "probe"} == {key: before[key] for key in before if key != "probe"}


def test_other_settings_or_other_pictures_are_refused_not_ignored(
    learned: tuple[Path, dict[str, Any]], folder: Path, tmp_path: Path
) -> None:
    out, _ = learned
    changed = striate("learn", folder, "--out", out, *QUICK, "model.hidden=30")
    assert changed.returncode == 2 and "model.hidden was 24, now 30" in changed.stderr and "--out" in changed.stderr
    shutil.copytree(folder, tmp_path / "more")
    shutil.copytree(out, tmp_path / "out")
    (tmp_path / "more" / "red" / "new.png").write_bytes(hostile.encoded(hostile.picture(9), "PNG"))
    more = striate("learn", tmp_path / "more", "--out", tmp_path / "out", *QUICK)
    assert more.returncode == 2 and "has other pictures than when" in more.stderr and more.stderr.count("\n") == 1


def test_a_store_is_learned_from_as_it_is_and_flat_pictures_need_no_labels(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s", 60, labelled=False)
    before = sorted(file.name for file in store.rglob("*"))
    result = _learn(store, "--out", tmp_path / "out", *QUICK)
    assert result["probe"] is None and result["store"] == str(store)
    assert Path(result["report"]).is_file() and not (tmp_path / "out" / "pictures").exists()
    assert sorted(file.name for file in store.rglob("*")) == before


def test_a_labelled_test_store_is_what_the_probe_is_judged_on(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s", 120)
    result = _learn(store, "--out", tmp_path / "out", *QUICK, "--test", small_store(tmp_path / "t", 50))
    assert result["probe"]["features"]["train_size"] == 120 and result["probe"]["features"]["test_size"] == 50


@pytest.mark.parametrize("make", [hostile.empty_folder, hostile.text_folder])
def test_a_folder_with_nothing_to_learn_from_is_one_line(tmp_path: Path, make: Any) -> None:
    answer = striate("learn", make(tmp_path), "--out", tmp_path / "out")
    lines = [line for line in answer.stderr.splitlines() if line]
    assert answer.returncode in (1, 2) and len(lines) == 1 and lines[0].startswith("striate: ")
    assert not (tmp_path / "out" / "run").exists()


def test_whole_pictures_are_refused_where_there_are_too_few(tmp_path: Path) -> None:
    answer = striate("learn", small_store(tmp_path / "s", 60), "--whole", "--out", tmp_path / "out")
    assert answer.returncode == 2 and "--whole needs 10,000 pictures or more, there are 60" in answer.stderr


def test_one_picture_is_enough_for_patches_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "a.png").write_bytes(hostile.encoded(hostile.picture(1, (200, 150)), "PNG"))
    result = _learn(folder, "--out", tmp_path / "out", *QUICK)
    assert result["pictures"] == 1 and result["probe"] is None
