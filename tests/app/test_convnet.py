"""Convolutional nets by the real commands: train, stop and resume, answers from views, fine-tuning, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import striate as package
from striate.draws import Draws
from striate.images import ArraySource, ImageStore, import_images
from striate.models.convnet import ConvNet, named_net
from training import recipe_file, small_store, striate

RECIPE = """
name: tiny
preprocess: {kind: mean}
model: {kind: convnet, net: 80sec}
train:
  epochs: 20
  batch_size: 20
  learning_rate: 1e-3
  schedule: constant
  initial_momentum: 0.9
  weight_decay: 0
  log_every: 7
  snapshots: 3
  dtype: fp32
  validation: 0.2
  workers: 0
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("convnet")
    small_store(folder / "store")
    done = striate("train", recipe_file(folder, RECIPE), f"data.store={folder / 'store'}", "--run", folder / "run", "--json")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_trained_net_answers_and_its_features_are_probed(trained: Path) -> None:
    result = striate("probe", trained / "run", "--test", trained / "store", "--predictions", trained / "p.parquet", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    # Bars that lie or stand: 120 pictures, of which 96 were seen in training.
    assert found["top1_error"] < 0.2
    table = pq.read_table(trained / "p.parquet")
    probabilities = np.stack(table["probabilities"].to_numpy())
    assert probabilities.shape == (120, 2)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    wrong = (probabilities.argmax(axis=1) != table["label"].to_numpy()).mean()
    assert wrong == pytest.approx(found["top1_error"], abs=1e-4)
    assert json.loads(table.schema.metadata[b"striate"])["class_names"] == ["standing", "lying"]
    probed = striate("probe", trained / "run", "--train", trained / "store", "--test", trained / "store", "--json")
    assert probed.returncode == 0, probed.stderr
    assert json.loads(probed.stdout)["net"]["accuracy"] == pytest.approx(1 - found["top1_error"], abs=1e-4)


def test_a_mixture_of_nets_with_tuned_weights_warns_of_its_own_pictures(trained: Path) -> None:
    run, store = trained / "run", trained / "store"
    mixed = striate("probe", run, run, "--test", store, "--tune", store, "--json")
    assert mixed.returncode == 0, mixed.stderr
    assert "look too good" in mixed.stderr
    assert sum(json.loads(mixed.stdout)["weights"]) == pytest.approx(1)


def test_every_layer_can_be_encoded(trained: Path) -> None:
    encoder = package.load(trained / "run")
    assert encoder.layers[0] == "pixels"
    assert encoder.layers[-1] == "logits"
    pictures = ImageStore(trained / "store")[:5]
    found = encoder.encode(pictures, ["pixels", "pool1", "fc64", "logits"])
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        name: (5, encoder.dims[name]) for name in ("pixels", "pool1", "fc64", "logits")
    }


def test_the_report_and_the_kernels_are_drawn(trained: Path) -> None:
    shown = striate("show", trained / "run", "report", "--json")
    assert shown.returncode == 0, shown.stderr
    assert Path(json.loads(shown.stdout)["report"]).stat().st_size > 10_000
    refused = striate("show", trained / "run", "reconstructions")
    assert refused.returncode == 2


def test_a_run_stopped_in_the_middle_of_an_epoch_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store")
    recipe = recipe_file(tmp_path, RECIPE.replace("epochs: 20", "epochs: 5"))
    changes = (f"data.store={store}", "augment.crop=12", "augment.reflect=true", "model.crop=12", "augment.colour_noise=0.1")
    assert striate("train", recipe, *changes, "--run", tmp_path / "whole").returncode == 0
    halted = (*changes, "train.checkpoint_every_s=1e-6", "train.keep=100")
    assert striate("train", recipe, *halted, "--run", tmp_path / "cut").returncode == 0
    # As a kill after step 11 of 24 leaves it: later checkpoints are not there yet.
    for file in (tmp_path / "cut" / "checkpoints").iterdir():
        if int("".join(filter(str.isdigit, file.name.split(".")[0]))) > 11:
            file.unlink() if file.is_file() else [inner.unlink() for inner in file.iterdir()]
    resumed = striate("resume", tmp_path / "cut")
    assert resumed.returncode == 0, resumed.stderr
    whole, cut = (load_file(tmp_path / name / "encoder.safetensors") for name in ("whole", "cut"))
    assert all((whole[name] == cut[name]).all() for name in whole)


def test_a_net_is_fine_tuned_to_other_classes(trained: Path, tmp_path: Path) -> None:
    """Everything but the classifier is taken over; a frozen layer stays what it was."""
    recipe = recipe_file(tmp_path, RECIPE.replace("epochs: 20", "epochs: 1"))
    tuned = striate(
        "train", recipe, f"data.store={trained / 'store'}", f"model.init={trained / 'run'}", "model.classes=5",
        "train.layer_rates={conv1: 0}", "--run", tmp_path / "tuned",
    )  # fmt: skip
    assert tuned.returncode == 0, tuned.stderr
    before, after = (load_file(path / "encoder.safetensors") for path in (trained / "run", tmp_path / "tuned"))
    assert (before["convnet.conv1.weight"] == after["convnet.conv1.weight"]).all()
    assert not (before["convnet.conv2.weight"] == after["convnet.conv2.weight"]).all()
    assert len(after["convnet.fc10.bias"]) == 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["preprocess.kind=whiten"], "preprocess.kind=mean"),
        (["model.net=80sek"], "did you mean 80sec"),
        (["model.crop=12", "augment.crop=14"], "set augment.crop=12"),
        (["train.batch_size=500"], "a batch has 500"),
        (["train.plateau={patience: 2}", "train.validation=0"], "train.validation"),
        (["model.switches={columns: 1}"], "80sec has none"),
        (["train.stages=[{epoch: 1, layers: {conv7: 0}}]"], "no layer 'conv7'"),
        (["train.stages=[{epoch: 1, faktor: 0}]"], "factor"),
        (["model.classes=2", "augment.crop=64"], "augment.crop is 64"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, changes: list[str], said: str) -> None:
    store = small_store(tmp_path / "store")
    done = striate("train", recipe_file(tmp_path, RECIPE), f"data.store={store}", *changes, "--run", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) < 400


def test_a_checkpoint_of_another_net_is_refused(trained: Path, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, RECIPE.replace("80sec", "13pct"))
    init = f"model.init={trained / 'run'}"
    other = striate("train", recipe, f"data.store={trained / 'store'}", init, "--run", tmp_path / "other")
    assert other.returncode == 2
    assert "(80sec) has (32, 3, 5, 5) for conv1.weight, this net needs (64, 3, 5, 5)" in other.stderr


def test_a_state_dict_of_torchvision_s_names_starts_a_net(tmp_path: Path) -> None:
    """Saved as torch users save it, taken over without running anything in the file."""
    store = small_store(tmp_path / "store", count=40)
    text = RECIPE.replace("net: 80sec", "net: one-gpu, switches: {units: 16}, crop: 67").replace("epochs: 20", "epochs: 1")
    changes = ("preprocess.kind=mean", "train.validation=0", "train.learning_rate=1e-20")
    big = tmp_path / "big"
    pictures = np.repeat(np.repeat(ImageStore(store)[:], 5, axis=2), 5, axis=3)
    import_images(ArraySource(pictures, np.arange(40) % 2, ["a", "b"]), big, workers=1)
    spec = named_net("one-gpu", 2, {"units": 16}, 67)
    state = ConvNet(spec, Draws(9)).state_dict()
    torch.save(state, tmp_path / "alexnet.pth")
    recipe = recipe_file(tmp_path, text)
    done = striate(
        "train", recipe, f"data.store={big}", "augment.crop=67", *changes, f"model.init={tmp_path / 'alexnet.pth'}", "--run",
        tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "run" / "encoder.safetensors")
    assert all(torch.allclose(found[f"convnet.{name}"], tensor, atol=1e-6) for name, tensor in state.items())
    (tmp_path / "bad.pth").write_bytes(b"no state dict")
    bad = striate(
        "train", recipe, f"data.store={big}", "augment.crop=67", f"model.init={tmp_path / 'bad.pth'}", "--run", tmp_path / "b"
    )
    assert bad.returncode == 2, bad.stderr
    assert "no state dict" in bad.stderr


def test_labels_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    """A billionth class would ask for a billion units; a class beyond the names has none."""
    pictures = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    labels = np.arange(40) % 2
    labels[7] = 1_000_000_000
    import_images(ArraySource(pictures, labels), tmp_path / "wild", workers=1)
    labels[7] = 5
    import_images(ArraySource(pictures, labels, ["a", "b"]), tmp_path / "beyond", workers=1)
    recipe = recipe_file(tmp_path, RECIPE)
    for name, said in (
        ("wild", "labels go up to 1000000000"),
        ("beyond", "labels go up to 5, but the pictures' store names 2"),
    ):
        done = striate("train", recipe, f"data.store={tmp_path / name}", "--run", tmp_path / "run")
        assert done.returncode == 2, done.stderr
        assert said in done.stderr


def processes(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same command in two processes, as torchrun starts them; without the dashes it takes --run for its own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--", "striate"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300, env=environment
    )


@pytest.mark.science
def test_two_processes_train_the_run_that_one_trains(tmp_path: Path) -> None:
    """From the command line, dropout, crops and a held-out error included; one run directory, one result."""
    store = small_store(tmp_path / "store", 200)
    text = RECIPE.replace("epochs: 20", "epochs: 2").replace("net: 80sec", "net: small, switches: {units: 16}")
    recipe = recipe_file(tmp_path, text)
    common = ("train", recipe, f"data.store={store}", "train.validation=0.2", "--json", "--run")
    one, two = tmp_path / "one", tmp_path / "two"
    alone = striate(*common, one)
    assert alone.returncode == 0, alone.stderr
    shared = processes(*common, two)
    assert shared.returncode == 0, shared.stderr
    expected, found = (json.loads(done.stdout) for done in (alone, shared))
    assert found["steps"] == expected["steps"] and found["run"] == str(two)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    states = [load_file(run / "encoder.safetensors") for run in (one, two)]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-3, atol=1e-5)
    uneven = processes(*common, tmp_path / "three", "train.batch_size=5")
    assert uneven.returncode != 0 and "cannot be shared evenly by 2" in uneven.stderr
