"""Deep belief nets by command: a layer trained on a finished run's activities, resumed, transposed, and encoded through."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import striate as package
from striate.app.load import load_model
from striate.images import ImageStore
from striate.models.rbm import transposed
from training import small_store, striate

_LAYER = """
name: layer
preprocess: {{kind: delete, delete: 100}}
model: {{kind: rbm, hidden: {hidden}, sigma: {sigma}, hidden_bias: -1.0{more}}}
train: {{epochs: {epochs}, batch_size: 20, learning_rate: {rate}, log_every: 5, snapshots: 2, dtype: fp32}}
"""


def _recipe(folder: Path, name: str, **settings: object) -> Path:
    defaults = {"hidden": 30, "sigma": 40.0, "more": "", "epochs": 4, "rate": 1e-3}
    file = folder / f"{name}.yaml"
    file.write_text(_LAYER.format(**(defaults | settings)))
    return file


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stack")
    small_store(root / "store")
    _run(root, _recipe(root, "one", epochs=60, rate=1e-2), "one")
    return root


def _run(root: Path, recipe: Path, name: str, *overrides: str, code: int = 0) -> str:
    done = striate("train", recipe, f"data.store={root / 'store'}", *overrides, "--run", root / name)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_a_second_layer_learns_from_the_activities_of_the_first(first: Path) -> None:
    """Its rows are p(h1 | v) of the finished run, which stays as it was inside the new one; encoders pass through both."""
    recipe = _recipe(first, "two", hidden=20, more=f", below: {first / 'one'}", rate=5e-2, epochs=100)
    _run(first, recipe, "two")
    below, model = load_model(first / "one"), load_model(first / "two")
    assert torch.equal(model.parts.rbms[0].weights, below.rbm.weights)
    assert model.rbm.weights.shape == (20, 30) and model.rbm.units.kind == "bernoulli"
    pictures = ImageStore(first / "store")[:50]
    encoder = package.load(first / "two")
    features = encoder.encode(pictures, ["hidden1", "hidden2"])
    assert torch.equal(features["hidden1"], package.load(first / "one").encode(pictures)["hidden1"])
    assert torch.equal(features["hidden2"], model.rbm.hidden_mean(features["hidden1"]))
    # Better than the activities' own means at rebuilding them: it has learned something of this data.
    rows = features["hidden1"]
    rebuilt = model.rbm.visible_mean(model.rbm.hidden_mean(rows))
    assert (rows - rebuilt).square().mean() < (rows - rows.mean(dim=0)).square().mean()


def test_a_stack_resumes_to_the_last_bit_without_the_run_it_stands_on(first: Path, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, "two", hidden=20, more=f", below: {first / 'one'}", epochs=8)
    _run(first, recipe, "long")
    known = load_model(first / "long").rbm.weights
    checkpoints = sorted((first / "long" / "checkpoints").glob("step-*"))
    for file in checkpoints:
        if "00000000" not in file.name and "step-" in file.name:
            file.unlink()
    if not list((first / "long" / "checkpoints").glob("step-00000000*")):
        pytest.fail("the first checkpoint is gone: nothing to resume from")
    text = (first / "long" / "recipe.yaml").read_text().replace(str(first / "one"), str(first / "moved-away"))
    (first / "long" / "recipe.yaml").write_text(text)
    assert striate("resume", first / "long").returncode == 0
    assert torch.equal(load_model(first / "long").rbm.weights, known)


def test_a_transposed_layer_starts_as_the_one_below_upside_down(first: Path) -> None:
    recipe = _recipe(first, "transposed", more=f", below: {first / 'one'}, transpose: true", epochs=0.2, rate=1e-12)
    recipe.write_text(recipe.read_text().replace("hidden: 30, ", ""))
    _run(first, recipe, "transposed")
    below, model = load_model(first / "one").rbm, load_model(first / "transposed").rbm
    start = transposed(below)
    assert torch.allclose(model.weights, start.weights, atol=1e-6)
    assert torch.allclose(model.hidden_bias, start.hidden_bias, atol=1e-6)


def test_what_second_layers_are_shown_as_is_pictures(first: Path) -> None:
    """Filters of a deeper layer are drawn in the pictures' space: sums of those below."""
    done = striate("show", first / "two", "report", "--json")
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["report"]).stat().st_size > 10_000
    model = load_model(first / "two")
    expected = model.parts.rbms[1].weights @ model.parts.rbms[0].weights
    assert np.allclose(model.parts.filters(), expected)


_PATCHES = """
name: patches
preprocess: {kind: whiten, epsilon: 10}
model: {kind: patch-rbms, patch: 4, hidden: 12, sigma: 0.5, hidden_bias: -2.0}
train: {epochs: 10, batch_size: 20, learning_rate: 1e-2, log_every: 5, dtype: fp32, checkpoint_every_s: 0.01, keep: 99}
"""
_MERGED = """
name: merged
preprocess: {{kind: whiten, epsilon: {epsilon}}}
model: {{kind: rbm, init: {run}{more}}}
train: {{epochs: 8, batch_size: 20, learning_rate: 1e-3, log_every: 1, snapshots: 2, dtype: fp32}}
"""


def test_patch_models_side_by_side_are_kept_merged_and_trained_on(first: Path) -> None:
    """26 models of 12 units on 16x16 pictures; resumed to the last bit; their merge is the next run's start (figure 2.10)."""
    (first / "patches.yaml").write_text(_PATCHES)
    _run(first, first / "patches.yaml", "patches")
    merged = load_model(first / "patches").rbm
    assert merged.weights.shape == (26 * 12, 3 * 256)
    # The first block sees the first tile only.
    inside = merged.weights[:12].view(12, 3, 16, 16)[:, :, :4, :4]
    assert torch.count_nonzero(merged.weights[:12]) == torch.count_nonzero(inside) == inside.numel()
    for file in sorted((first / "patches" / "checkpoints").glob("step-*"))[4:]:
        file.unlink()
    assert striate("resume", first / "patches").returncode == 0
    assert torch.equal(load_model(first / "patches").rbm.weights, merged.weights)

    recipe = first / "merged.yaml"
    recipe.write_text(_MERGED.format(run=first / "patches", epsilon=10, more=""))
    _run(first, recipe, "merged")
    model = load_model(first / "merged").rbm
    assert model.weights.shape == merged.weights.shape and not torch.equal(model.weights, merged.weights)
    lines = [json.loads(line) for line in (first / "merged" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["reconstruction_error"] < lines[0]["reconstruction_error"]
    recipe.write_text(_MERGED.format(run=first / "patches", epsilon=20, more=""))
    assert "preprocessed otherwise" in _run(first, recipe, "bad", code=2)
    recipe.write_text(_MERGED.format(run=first / "patches", epsilon=10, more=", hidden: 30"))
    assert "leave out model.hidden" in _run(first, recipe, "bad", code=2)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (", transpose: true", "needs a run to stand on"),
        (", below: {one}, transpose: true", "leave model.hidden out"),
        (", below: {one}, start: {{patch: 4}}", "leave it out"),
        (", below: nowhere", "has no encoder.safetensors"),
    ],
)
def test_layers_that_cannot_be_stacked_are_one_line(first: Path, more: str, words: str) -> None:
    recipe = _recipe(first, "bad", more=more.format(one=first / "one"))
    error = _run(first, recipe, "bad", code=2)
    assert words in error and error.strip().splitlines()[-1].startswith("striate: ")
