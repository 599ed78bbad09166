"""`striate train --replicas R --processes P`: the run of one process where it must be, and a run like any other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from striate.app.build import build
from striate.app.gangs import check_gang
from striate.app.recipe import load_recipe
from striate.errors import BadInput
from striate.train.checkpoint import read_json
from striate.train.run import read_metrics
from training import stages_of_one, striate

RBM = "name: rbm\npreprocess: {kind: standardise}\nmodel: {kind: rbm, hidden: 8}\ntrain: {epochs: 1, batch_size: 16}\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, two recipes, and the run of one process."""
    folder = tmp_path_factory.mktemp("gangs")
    stages_of_one(folder)
    (folder / "rbm.yaml").write_text(RBM)
    return folder


def test_a_gang_of_two_and_then_one_of_three_train_the_model_of_one_process(place: Path) -> None:
    """In rounds of one replica every number is one process's, to the rounding of sixteen steps of Adagrad."""
    rounds = "cluster.exchange.mode=synchronous"
    begun = striate(
        "train", "tiny.yaml", "data.store=store", "--run", "gang", "--replicas", 1, "--processes", 2, rounds,
        "cluster.grid=[1,2]", "train.epochs=2", folder=place, limit_s=240,
    )  # fmt: skip
    assert begun.returncode == 0, begun.stderr
    assert "1 replica of 2 processes and 2 shards" in begun.stdout
    record = read_json(place / "gang" / "run.json")["cluster"]
    assert record["grid"] == [1, 2] and record["processes_a_replica"] == record["shards"] == 2
    # Every number was pushed once a step, whoever held it.
    assert record["pushed_bytes"] == 8 * 4 * record["plan"]["parameters"]
    assert record["border_bytes"] == 8 * sum(record["plan"]["border_bytes"])
    recipe = (place / "gang" / "recipe.yaml").read_text().replace("epochs: 2.0", "epochs: 4.0")
    (place / "gang" / "recipe.yaml").write_text(recipe.replace("grid:\n  - 1\n  - 2", "grid: null"))
    went_on = striate("resume", "gang", "--replicas", 1, "--processes", 3, "--json", folder=place, limit_s=240)
    assert went_on.returncode == 0, went_on.stderr
    assert json.loads(went_on.stdout)["steps"] == 16
    assert read_json(place / "gang" / "run.json")["cluster"]["grid"] == [3, 1]
    expected, found = (read_metrics(place / run) for run in ("one", "gang"))
    assert [line["step"] for line in found] == [4, 8, 12, 16]
    for wanted, line in zip(expected, found):
        assert line["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
    first, second = (load_file(place / run / "encoder.safetensors") for run in ("one", "gang"))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert float((second[name] - tensor).norm() / tensor.norm()) < 1e-3, name


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("tiny.yaml", "--processes", 2, "cluster.grid=[3,1]"), "cluster.grid is 3 x 1, but 2 processes were started"),
        (("tiny.yaml", "--processes", 4, "cluster.exchange.shards=3"), "cluster.exchange.shards must be at least 4, found 3"),
        (("rbm.yaml", "--processes", 2), "share the places of model.kind=sparse, found rbm"),
    ],
)
def test_what_gangs_cannot_do_is_said_before_anything_is_written(place: Path, asked: tuple[Any, ...], said: str) -> None:
    recipe, *rest = asked
    done = striate("train", recipe, "data.store=store", "--run", "no", "--replicas", 2, *rest, folder=place)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert not (place / "no").exists()


def test_gangs_are_not_for_gpus_yet(place: Path) -> None:
    """Whether a GPU was asked for or is what `auto` has found; one process a replica may have it."""
    experiment = build(load_recipe(place / "tiny.yaml", [f"data.store={place / 'store'}"]), print)
    on_gpu = replace(experiment, device=torch.device("cuda", 0))
    with pytest.raises(BadInput, match=r"compute on processors, found device=auto \(cuda:0\): set device=cpu, or leave --pr"):
        check_gang(on_gpu, 2)
    check_gang(on_gpu, 1)
    check_gang(experiment, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gangs_on_a_gpu_are_refused_before_anything_is_written(place: Path) -> None:
    asked = ("tiny.yaml", "data.store=store", "device=cuda", "--run", "gpu", "--replicas", 2, "--processes", 2)
    done = striate("train", *asked, folder=place)
    assert done.returncode == 2 and "compute on processors, found device=cuda (cuda" in done.stderr, done.stderr
    assert not (place / "gpu").exists()
