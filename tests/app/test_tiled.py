"""A sparse autoencoder trained by several processes from the command line: one run, whatever the grid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from striate.train.checkpoint import read_json
from striate.train.run import read_metrics
from training import stages_of_one, striate


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiled")
    stages_of_one(folder)
    return folder


def test_two_processes_and_then_three_train_the_run_of_one(place: Path) -> None:
    """Half of it by two, the rest by three in a row, then looked at: filters and curves as of one process."""
    begun = striate(
        "train", "tiny.yaml", "data.store=store", "--run", "two", "--processes", 2, "train.epochs=2", "--profile", "--json",
        folder=place,
    )  # fmt: skip
    assert begun.returncode == 0, begun.stderr
    told = json.loads(begun.stdout)
    assert len(told["profile"]) == 2 and all(one["products"] > 0 < one["received_bytes"] for one in told["profile"])
    assert "2 processes in 2 rows and 1 columns; the first receives" in begun.stderr
    assert read_json(place / "two" / "run.json")["cluster"]["grid"] == [2, 1]
    recipe = (place / "two" / "recipe.yaml").read_text()
    (place / "two" / "recipe.yaml").write_text(recipe.replace("epochs: 2.0", "epochs: 4.0"))
    went_on = striate("resume", "two", "--processes", 3, folder=place)
    assert went_on.returncode == 0, went_on.stderr
    first, second = (load_file(place / run / "encoder.safetensors") for run in ("one", "two"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=2e-2, atol=2e-3)
    expected, found = (read_metrics(place / run) for run in ("one", "two"))
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for wanted, line in zip(expected, found):
        assert line["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
    shown = striate("show", "two", "filters", "--json", folder=place)
    assert shown.returncode == 0, shown.stderr


def test_a_grid_of_another_number_of_processes_is_refused(place: Path) -> None:
    refused = striate(
        "train", "tiny.yaml", "data.store=store", "--run", "no", "--processes", 2, "cluster.grid=[3, 1]", folder=place
    )
    assert refused.returncode == 2
    assert "cluster.grid is 3 x 1, but 2 processes were started" in refused.stderr
