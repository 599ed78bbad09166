"""From a store to a trained run to everything that is drawn and measured of it, by the real commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate
from striate.errors import BadInput
from striate.images import ArraySource, import_images


def command(*arguments: object, code: int = 0) -> dict[str, Any]:
    """Run a verb as people do; its JSON, or its one line on stderr when it should fail."""
    done = subprocess.run(
        [sys.executable, "-m", "striate", *map(str, arguments), "--json"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == code, done.stderr
    if code:
        lines = done.stderr.strip().splitlines()
        assert lines[-1].startswith("striate: ")
        return {"error": lines[-1]}
    return json.loads(done.stdout)


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of upright (0) or level (1) stripes of any phase and colour, with noise: pixels alone say little."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    y, x = np.mgrid[0:16, 0:16]
    phase, frequency = random.uniform(0, 2 * np.pi, (count, 1, 1)), random.uniform(0.15, 0.3, (count, 1, 1))
    wave = np.where(labels[:, None, None] == 0, x, y) * 2 * np.pi * frequency + phase
    levels = 128 + 50 * np.cos(wave)[:, None] * random.uniform(0.5, 1, (count, 3, 1, 1))
    return np.clip(levels + 15 * random.standard_normal((count, 3, 16, 16)), 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("looking")
    for name, seed in (("train", 0), ("test", 1)):
        images, labels = stripes(700, seed)
        import_images(ArraySource(images, labels, ["upright", "level"]), root / name, name=name)
    recipe = root / "stripes.yaml"
    recipe.write_text(
        "name: stripes\n"
        f"data: {{store: {root / 'train'}}}\n"
        "preprocess: {kind: whiten, patch: 6, patches: 20000, epsilon: 100}\n"
        "model: {hidden: 48, sigma: 0.5, hidden_bias: -4}\n"
        "train: {epochs: 6, batch_size: 100, learning_rate: 0.05, sparsity_target: 0.03, sparsity_cost: 10, snapshots: 4}\n"
    )
    command("train", recipe, "--run", root / "run")
    return root


def test_filters_of_stripes_are_edges_and_the_sheet_is_there(trained: Path) -> None:
    found = command("show", trained / "run", "filters")
    assert found["edge"] > 0.5
    assert found["edge"] + found["point"] + found["noise"] == pytest.approx(1, abs=1e-3)
    assert Path(found["sheet"]).read_bytes().startswith(b"\x89PNG")


def test_features_beat_pixels_at_what_pixels_cannot_tell(trained: Path) -> None:
    """Stripes of any phase are not linearly separable in pixels; activities averaged over regions tell them apart."""
    found = command("probe", trained / "run", "--train", trained / "train", "--test", trained / "test")
    for key in ("pixels", "features"):
        assert found[key]["low"] <= found[key]["accuracy"] <= found[key]["high"]
        assert (found[key]["train_size"], found[key]["test_size"]) == (700, 700)
    assert found["features"]["low"] > 0.9
    assert found["features"]["low"] > found["pixels"]["high"]
    assert json.loads((trained / "run" / "probe.json").read_text())["confusion"]
    report = command("show", trained / "run", "report")
    page = Path(report["report"]).read_text()
    assert f"{100 * found['features']['accuracy']:.1f}%" in page
    assert page.count("data:image/png;base64,") >= 12


@pytest.mark.parametrize("what", ["curves", "reconstructions", "activities"])
def test_other_figures_are_drawn(trained: Path, what: str) -> None:
    for path in command("show", trained / "run", what)["figures"]:
        assert Path(path).read_bytes().startswith(b"\x89PNG")


def test_a_loaded_run_encodes_pictures_of_any_size_its_patches_fit(trained: Path) -> None:
    encoder = striate.load(trained / "run", (3, 24, 24))
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 24, 24), dtype=np.uint8)
    features = encoder.encode(images)["hidden1"]
    assert features.shape == (5, encoder.dims["hidden1"]) == (5, 192)
    assert ((features >= 0) & (features <= 1)).all()
    with pytest.raises(BadInput, match="cannot be read by patches"):
        striate.load(trained / "run", (3, 4, 4))


@pytest.mark.science
def test_preprocessing_figures_agree_on_correlated_pictures(tmp_path: Path) -> None:
    """Smooth, mirror-symmetric random pictures have the covariance the paper describes; white noise has not."""
    random = np.random.default_rng(0)
    # Correlation exp(-(|dx| + |dy|) / 4): at equal distances it is higher along rows and columns, as in photographs.
    place = np.arange(16)
    root = np.linalg.cholesky(np.exp(-np.abs(place[:, None] - place) / 8))
    grey, colour = (random.normal(size=(1500, channels, 16, 16)) for channels in (1, 3))
    smooth = 127 + 45 * (root @ (grey + 0.3 * colour) @ root.T)
    import_images(ArraySource(np.clip(smooth, 0, 255).astype(np.uint8)), tmp_path / "smooth")
    import_images(ArraySource(random.integers(0, 256, (1500, 3, 16, 16), dtype=np.uint8)), tmp_path / "noise")
    agreed = {}
    wanted = [word for number in ("1.1", "1.2", "1.3", "1.4", "1.5", "2.2", "2.3", "2.4") for word in ("--figure", number)]
    for name in ("smooth", "noise"):
        out = command("reproduce", "krizhevsky2009", "--store", tmp_path / name, "--out", tmp_path / f"out-{name}", *wanted)
        assert Path(out["report"]).exists()
        agreed[name] = {figure["figure"]: figure["agrees"] for figure in out["figures"]}
    assert set(agreed["smooth"]) == {"1.1", "1.2", "1.3", "1.4", "1.5", "2.2", "2.3", "2.4"}
    assert agreed["smooth"]["1.1"]
    assert agreed["smooth"]["1.2"]
    assert agreed["smooth"]["1.3"]
    assert not agreed["noise"]["1.1"]
    assert not agreed["noise"]["1.3"]


def test_what_cannot_be_shown_or_probed_is_one_line(trained: Path, tmp_path: Path) -> None:
    assert "expected a run directory" in command("show", tmp_path, "filters", code=2)["error"]
    import_images(ArraySource(stripes(30, 5)[0]), tmp_path / "unlabelled")
    error = command("probe", trained / "run", "--train", tmp_path / "unlabelled", "--test", trained / "test", code=2)["error"]
    assert "has no labels" in error
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "encoder.safetensors").write_bytes(b"rubbish")
    assert "no model" in command("show", tmp_path / "run", "filters", code=2)["error"]
    assert (
        "no figure '9.9'"
        in command("reproduce", "krizhevsky2009", "--store", trained / "train", "--figure", "9.9", code=2)["error"]
    )
