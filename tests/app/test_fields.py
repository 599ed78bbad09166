"""`train.together=fields` by the real commands: a unit for crosses, stopped and resumed, looked at, refused."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import striate as package
from bars import crosses, others
from striate.images import ArraySource, import_images
from training import recipe_file, striate

RECIPE = """
name: fields
preprocess: {kind: standardise, contrast: true}
model:
  kind: sparse
  stages:
    - {size: 6, stride: 2, maps: 8, pool: 2, norm: 3, norm_edges: keep, sharing: tied}
    - {size: 5, maps: 30, pool: 1, pool_group: 3, norm: 0}
train:
  epochs: 60
  batch_size: 50
  learning_rate: 5e-2
  log_every: 5
  dtype: fp32
  checkpoint_every_s: 0.0001
  keep: 300
  together: fields
  fields: [{penalty: 0.5, floor: 0.05}, {rule: winners, keep: 60, floor: 0.01, without_mean: true}]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 200 pictures 20 show a cross."""
    folder = tmp_path_factory.mktemp("fields")
    sets = {"train": np.concatenate([crosses(20, "a"), others(180, "b")]), "yes": crosses(60, "c"), "no": others(100, "d")}
    for name, pictures in sets.items():
        import_images(ArraySource(pictures, None), folder / name, workers=1)
    done = striate("train", recipe_file(folder, RECIPE), f"data.store={folder / 'train'}", "--run", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_unit_knows_what_a_tenth_of_the_pictures_show(trained: Path) -> None:
    """Nobody said which; by the protocol of one half chosen, the other judged: chance is 62.5%."""
    done = striate("neurons", trained / "run", "--positives", trained / "yes", "--negatives", trained / "no", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["layer"] == "norm2" and found["units"] == 10
    assert found["held_out"] > max(0.85, found["random_network"] + 0.1), found
    assert min(found["stimulus"]["answer"], found["stimulus"]["natural"]) > found["stimulus"]["test_most"]
    assert (trained / "run" / "figures" / "neuron-natural-stimulus.png").stat().st_size > 500


def test_it_is_taken_up_from_any_checkpoint_to_the_same_network(trained: Path, tmp_path: Path) -> None:
    """From one while the first stage learns, and one of the second: 240 steps, 120 each."""
    pictures = crosses(4, "f")
    whole = package.load(trained / "run").encode(pictures)["norm2"]
    for last in (60, 200):
        run = tmp_path / str(last)
        shutil.copytree(trained / "run", run)
        for file in (run / "checkpoints").iterdir():
            if int(re.sub(r"\D", "", file.stem)) > last:
                file.unlink()
        done = striate("resume", run)
        assert done.returncode == 0, done.stderr
        assert torch.equal(package.load(run).encode(pictures)["norm2"], whole)


def test_filters_kept_for_the_report_are_those_of_their_step(trained: Path, tmp_path: Path) -> None:
    changes = ("train.log_every=1000", "train.checkpoint_every_s=1000", "train.snapshots=16", "train.epochs=10")
    done = striate(
        "train", recipe_file(tmp_path, RECIPE), f"data.store={trained / 'train'}", *changes, "--run", tmp_path / "run"
    )
    assert done.returncode == 0, done.stderr
    kept = {
        int(re.sub(r"\D", "", file.stem)): load_file(file)["weights"] for file in (tmp_path / "run" / "snapshots").iterdir()
    }
    # Of 40 steps the first 20 are the first stage's, of which 4 go to moments.
    learning = [kept[step] for step in sorted(kept) if 4 <= step <= 20]
    assert len(learning) >= 4
    assert all(not torch.equal(one, other) for one, other in pairwise(learning))


def test_its_report_draws_the_curves_of_every_stage(trained: Path) -> None:
    done = striate("show", trained / "run", "report")
    assert done.returncode == 0, done.stderr
    page = (trained / "run" / "report.html").read_text()
    for said in ("The objective of training.", "Stage 1: squared error", "Stage 2: squared error", "Stage 2: mean pooled"):
        assert said in page, said
    assert "Cross-entropy" not in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--replicas", "2"), "train.together=fields needs one process"),
        (("--processes", "2"), "leave --processes and --profile out"),
        (("--profile",), "leave --processes and --profile out"),
        (("train.fields=[{}]",), "train.fields: 1 given for 2 stages"),
        (("train.epochs=0.5",), "steps: 2 for 2 stages"),
        (("train.batch_size=1", "train.epochs=0.1"), "stage 2 begins with 10 fields as its filters, but would see 2 before"),
    ],
)
def test_what_fields_cannot_do_is_one_line(trained: Path, tmp_path: Path, change: tuple[str, ...], said: str) -> None:
    done = striate(
        "train", recipe_file(tmp_path, RECIPE), f"data.store={trained / 'train'}", *change, "--run", tmp_path / "bad"
    )
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
