"""`striate train` of a sparse autoencoder and `striate neurons`, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import striate as package
from bars import crosses, others
from striate.images import ArraySource, import_images
from training import recipe_file, striate

RECIPE = """
name: stages
preprocess: {kind: standardise, contrast: true}
model:
  kind: sparse
  stages:
    - {size: 6, stride: 2, maps: 4, pool: 2, norm: 3, norm_edges: keep}
    - {size: 3, maps: 6, pool: 2, norm: 0}
train: {epochs: 6, batch_size: 16, learning_rate: 2e-2, log_every: 5, dtype: fp32}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("neurons")
    sets = {
        "train": np.concatenate([crosses(60, "a"), others(140, "b")]),
        "crosses": crosses(60, "c"),
        "others": others(100, "d"),
        "three": crosses(3, "e"),
        "black": np.zeros((40, 1, 16, 16), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None, None],
        "large": np.zeros((20, 1, 24, 24), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None, None],
    }
    for name, pictures in sets.items():
        import_images(ArraySource(pictures, None), folder / name, workers=1)
    recipe = recipe_file(folder, RECIPE)
    done = striate("train", recipe, f"data.store={folder / 'train'}", "--run", folder / "run")
    assert done.returncode == 0, done.stderr
    assert "GFLOP a picture" in done.stdout
    return folder


def judge(folder: Path, *more: object) -> dict[str, object]:
    command = ("--positives", folder / "crosses", "--negatives", folder / "others", "--json", *more)
    done = striate("neurons", folder / "run", *command)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result


def test_a_unit_that_knows_crosses_is_found(trained: Path) -> None:
    result = judge(trained)
    assert {"best_unit", "accuracy", "chance", "random_filters", "linear_template"} <= result.keys()
    assert result["chance"] == pytest.approx(100 / 160)
    assert float(result["held_out"]) > 0.85
    assert result["layer"] == "norm2"
    # The unit named is the one whose answers were judged.
    encoder = package.load(trained / "run")
    answers = encoder.encode(crosses(60, "c"), ["norm2"])["norm2"][:, int(result["best_unit"])]
    away = encoder.encode(others(100, "d"), ["norm2"])["norm2"][:, int(result["best_unit"])]
    threshold = float(result["threshold"])
    right = int((answers > threshold).sum()) + int((away <= threshold).sum())
    assert right / 160 == pytest.approx(float(result["accuracy"]), abs=1e-3)
    assert float(result["stimulus"]["answer"]) > float(result["stimulus"]["test_most"])
    page = Path(str(result["report"])).read_text()
    assert "What it wants" in page and "Invariance" in page
    for name in ("histogram", "roc", "top", "stimulus", "scale", "turn"):
        assert (trained / "run" / "figures" / f"neuron-{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (trained / "run" / "figures" / "neuron-stimulus.gif").read_bytes().startswith(b"GIF8")


def test_treated_pictures_are_judged_too(trained: Path) -> None:
    result = judge(trained, "--treat", "--layer", "pool1")
    assert result["treated"] and result["layer"] == "pool1"
    assert result["nuisances"]["colour"] == pytest.approx(result["chance"])


def test_poses_are_a_curve_too(trained: Path, tmp_path: Path) -> None:
    """Crosses as they are, and faded ones: the unit answers less to what is further from a cross."""
    faded = np.concatenate([crosses(20, "g"), (crosses(20, "g") * 0.6 + 40).astype(np.uint8), others(20, "h")])
    import_images(ArraySource(faded, np.arange(60) // 20, ["0", "30", "90"]), tmp_path / "poses", workers=1)
    curve = judge(trained, "--poses", tmp_path / "poses")["invariance"]["pose"]
    assert curve["at"] == [0.0, 30.0, 90.0]
    assert max(curve["mean"]) == pytest.approx(1) and curve["mean"][2] < 0.5
    import_images(ArraySource(faded[:20], np.zeros(20, np.int64), ["0"]), tmp_path / "one", workers=1)
    command = ("--positives", trained / "crosses", "--negatives", trained / "others", "--poses", tmp_path / "one")
    done = striate("neurons", trained / "run", *command)
    assert done.returncode == 2 and "one pose" in done.stderr


def test_a_patch_model_is_judged_on_whole_pictures(trained: Path, tmp_path: Path) -> None:
    """Templates are whole pictures too, though what it was trained on are patches; it has no stimulus to climb to."""
    done = striate(
        "train", recipe_file(tmp_path), f"data.store={trained / 'train'}", "train.epochs=1", "--run", tmp_path / "run"
    )
    assert done.returncode == 0, done.stderr
    command = ("--positives", trained / "crosses", "--negatives", trained / "others", "--json")
    judged = striate("neurons", tmp_path / "run", *command)
    assert judged.returncode == 0, judged.stderr
    result = json.loads(judged.stdout)
    assert result["linear_template"] > 0.9 and "stimulus" not in result and "random_network" not in result


def test_what_cannot_be_judged_is_said(trained: Path) -> None:
    run, good = trained / "run", trained / "others"
    for positives, more, said in (
        ("three", (), "3 pictures of the concept"),
        ("large", (), "import them at that size"),
        ("crosses", ("--layer", "norm9"), "no layer 'norm9'"),
        ("crosses", ("--limit", "0"), "--limit must be at least 1"),
    ):
        done = striate("neurons", run, "--positives", trained / positives, "--negatives", good, *more)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
    # Flat pictures have no contrast: nothing that any unit could answer to.
    done = striate("neurons", run, "--positives", trained / "black", "--negatives", trained / "black")
    assert done.returncode == 2 and "nothing can be measured" in done.stderr, done.stderr


def test_the_same_recipe_gives_the_same_network_which_is_looked_at(trained: Path, tmp_path: Path) -> None:
    whole = package.load(trained / "run")
    recipe = recipe_file(tmp_path, RECIPE)
    run = tmp_path / "run"
    common = (f"data.store={trained / 'train'}", "--run", run)
    assert striate("train", recipe, *common, "train.epochs=6").returncode == 0
    again = package.load(run)
    pictures = crosses(4, "f")
    assert torch.equal(whole.encode(pictures)["norm2"], again.encode(pictures)["norm2"])
    shown = striate("show", run, "reconstructions", "--json")
    assert shown.returncode == 0, shown.stderr
    assert striate("show", run, "report").returncode == 0


def test_networks_that_do_not_fit_are_named_before_training(trained: Path, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, RECIPE)
    for change, said in (
        ("model.stages=[{size: 18}]", "do not fit into 16x16"),
        ("model.stages=[{size: 5, stride: 2}]", "would never be seen"),
        ("train.penalty=[0.1, 0.2, 0.3]", "one for each of 2 stages"),
        ("model.stages=[{sise: 5}]", "sise"),
    ):
        done = striate("train", recipe, f"data.store={trained / 'train'}", change, "--run", tmp_path / "bad")
        assert done.returncode == 2, (change, done.stderr)
        assert said in done.stderr, done.stderr
