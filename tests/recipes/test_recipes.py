"""Every recipe that ships runs: three steps at each of its sizes on a small store of its kind, from a shell's point of view."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from striate.app.recipe import load_recipe, recipe_folders
from striate.app.yaml import read_yaml
from striate.draws import generator
from striate.images import ArraySource, import_images
from striate.models.convnet import PROFILES
from training import striate

ROOT = recipe_folders()[-1]
FILES = sorted(ROOT.rglob("*.yaml"))
# Sizes differ in numbers alone: they are loaded and checked; one recipe is run at each of its sizes.
CASES = [(file, size) for file in FILES for size in (None, *((read_yaml(file)["sizes"]) if file.stem == "second" else ()))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth pictures, so that whitening has something to whiten; of 16x16, so that 768 directions are found in no time."""
    return _smooth(tmp_path_factory.mktemp("recipes") / "store", 16, 300)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Larger ones, kept as JPEG."""
    return _smooth(tmp_path_factory.mktemp("recipes") / "photographs", 72, 60, quality=90)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As large as the networks of stages take them."""
    return _smooth(tmp_path_factory.mktemp("recipes") / "grey", 64, 200, channels=1)


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As those stages take them that recognition begins from."""
    return _smooth(tmp_path_factory.mktemp("recipes") / "colour", 32, 200)


def _smooth(path: Path, edge: int, count: int, channels: int = 3, **ways: int) -> Path:
    noise = generator(0, "recipes").normal(size=(count, channels, edge + 6, edge + 6))
    smooth = sum(noise[:, :, i : i + edge, j : j + edge] for i in range(7) for j in range(7))
    levels = np.clip(127 + 12 * smooth, 0, 255).astype(np.uint8)
    labels = np.arange(count) % 10
    import_images(ArraySource(levels, labels, [str(i) for i in range(10)]), path, workers=1, **ways)
    return path


_WITH_LOSS = ("net", "convnet", "sparse", "recogniser")

_LOWER = """
name: lower
preprocess: {{kind: {preprocess}, delete: 600, epsilon: {epsilon}}}
model: {{kind: {model}, patch: 8, hidden: 10}}
train: {{epochs: 1, batch_size: 100, learning_rate: 1e-4}}
"""


_STAGES = """
name: stages
preprocess: {kind: standardise}
model: {kind: sparse, stages: [{size: 6, stride: 2, maps: 4, pool: 2, norm: 3}]}
train: {epochs: 1, batch_size: 100}
"""


@pytest.fixture(scope="module")
def below(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that recipes stand on or start from: an RBM, patch models merged, and stages of filters."""
    root = tmp_path_factory.mktemp("below")
    patches = _LOWER.format(model="patch-rbms", preprocess="whiten", epsilon=100)
    rbm = _LOWER.format(model="rbm", preprocess="delete", epsilon=0).replace("patch: 8, ", "")
    for kind, text in (("rbm", rbm), ("patch-rbms", patches), ("stages", _STAGES)):
        (root / f"{kind}.yaml").write_text(text)
        answer = striate("train", root / f"{kind}.yaml", f"data.store={store}", "--run", root / kind)
        assert answer.returncode == 0, answer.stderr
    return root


def test_there_are_recipes() -> None:
    assert {"demo/patches", "learn/patches", "learn/whole"} <= {str(file.relative_to(ROOT).with_suffix("")) for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_a_recipe_opens_with_its_claim_command_and_what_to_expect(file: Path) -> None:
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert header[0].startswith("# Claim: ")
    assert any(line.startswith("# Command: striate ") for line in header)
    assert any(re.match(r"# (Expect|Time): ", line) for line in header)


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_every_size_of_a_recipe_is_sound(file: Path) -> None:
    for size in read_yaml(file).get("sizes") or {}:
        assert load_recipe(file, (), size).name


@pytest.mark.parametrize(("file", "size"), CASES, ids=[f"{file.relative_to(ROOT)}-{size}" for file, size in CASES])
def test_a_recipe_runs_three_steps(
    file: Path, size: str | None, store: Path, photographs: Path, grey: Path, colour: Path, below: Path, tmp_path: Path
) -> None:
    """Sizes of data and of starts are cut to what 300 pictures can give; the model and its settings stay."""
    recipe = load_recipe(file, (), size)
    small = [f"data.store={store}", "train.checkpoint_every_s=1000", "train.snapshots=1"]
    rows = 300
    if recipe.model.kind == "convnet":
        # Crops and dense layers of the photographs' nets are cut down with the pictures; compiling takes longer than the steps.
        small.append("train.compile=none")
        if recipe.model.net in PROFILES and recipe.model.net != "small":
            rows = 60
            small += [f"data.store={photographs}", "augment.crop=67", "model.crop=67", "model.switches={units: 64}"]
        else:
            small += ["augment.crop=16", "model.crop=16"]
    if recipe.model.kind == "sparse":
        rows = 200
        small.append(f"data.store={grey}" if file.stem in ("network", "fields") else f"data.store={colour}")
    if file.stem == "features":
        # 3,072 directions would take half a minute to find.
        small.append("preprocess.kind=standardise")
    if recipe.model.kind == "recogniser":
        small.append(f"model.below={below / 'stages'}")
    if recipe.preprocess.patch is not None:
        rows = 2 * recipe.train.batch_size
        small.append(f"preprocess.patches={rows}")
    batch = min(recipe.train.batch_size, rows)
    epoch = (rows - int(recipe.train.validation * rows)) // batch
    # Stage after stage, and the last begins with as many fields as it has pools.
    steps = 45 if file.stem == "fields" else 3
    if epoch == 0:
        batch, epoch = batch // 2, 1
    small += [f"train.batch_size={batch}", f"train.epochs={steps / epoch}"]
    if recipe.preprocess.delete or (recipe.preprocess.kind == "whiten" and not recipe.preprocess.epsilon):
        # 300 pictures span 299 directions of 768: what is kept must lie within them.
        small += ["preprocess.delete=600"]
    model = recipe.model
    if file.stem == "merged":
        small.append(f"model.init={below / 'patch-rbms'}")
    elif file.stem == "second" or (model.kind == "net" and model.hidden is None):
        small.append(f"model.below={below / 'rbm'}")
    if model.kind == "net" and model.hidden is not None:
        small.append("model.hidden=[50]")
    if model.kind == "rbm" and model.start is not None:
        small += ["model.start.patches=200", "model.start.epochs=1"]
        small += ["model.start.hidden=20"]
    if recipe.data.limit is not None:
        small += ["data.limit=null"]
    chosen = ("--size", size) if size else ()
    answer = striate("train", file, *chosen, *small, "--run", tmp_path / "run", "--json")
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert result["steps"] == steps and result["loss" if model.kind in _WITH_LOSS else "reconstruction_error"] > 0
