"""`striate train --replicas`: a run of several replicas is a run like any other; what is not for them is refused at once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from striate.app.exchanging import chosen_rule, rates, warm_start
from striate.app.groups import ExchangeGroup
from striate.app.load import load_model
from striate.errors import BadInput
from striate.train import Rates
from striate.train.checkpoint import CheckpointFolder
from striate.train.run import read_metrics
from training import recipe_file, small_store, start, striate


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and a recipe."""
    root = tmp_path_factory.mktemp("replicas")
    small_store(root / "store")
    recipe_file(root)
    return root


def test_a_run_of_two_whose_driver_is_killed_goes_on_with_one_and_then_alone(place: Path) -> None:
    """Checkpoints know neither replicas nor shards; every line of the curves is there once."""
    run, said = place / "run", place / "said"
    said.mkdir()
    longer = ("train.epochs=40", "train.log_every=100", "train.checkpoint_every_s=0.5", "cluster.exchange.shards=2")
    driver = start(
        "train", place / "tiny.yaml", f"data.store={place / 'store'}", *longer, "--run", run, "--replicas", 2, said=said
    )
    until = time.monotonic() + 100
    while not [step for step in CheckpointFolder(run / "checkpoints").steps() if step > 0]:
        assert time.monotonic() < until and driver.is_alive(), (said / "error").read_text()
        time.sleep(0.05)
    driver.kill()
    driver.join()
    reached = CheckpointFolder(run / "checkpoints").steps()[-1]
    assert 0 < reached < 3000
    done = striate("resume", run, "--replicas", 1, "--json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and json.loads(done.stdout)["steps"] == 3000
    steps = [line["step"] for line in read_metrics(run)]
    assert steps == sorted(set(steps)) and steps[-1] == 3000 and steps[:2] == [100, 200]
    first, last = read_metrics(run)[0], read_metrics(run)[-1]
    assert last["reconstruction_error"] < first["reconstruction_error"]
    assert any(name.startswith("images_per_s_") and value > 0 for name, value in first.items())
    assert last["pushes_refused"] == last["pushes_lost"] == 0
    record = json.loads((run / "run.json").read_text())["cluster"]
    assert record["replicas"] == 1 and record["shards"] == 2 and record["rule"] == "delta"
    assert sum(record["staleness"].values()) == record["updates"] and record["plan"]["parameters"] == 24 * 108 + 24 + 108
    assert not (run / "shards").exists()
    assert load_model(run).rbm.num_hidden == 24
    # It is done: a plain resume has nothing to add, and finds the checkpoint its own.
    again = striate("resume", run, "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["steps"] == 3000


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--address", "10.0.0.1:6379"), "give --replicas K, too"),
        (("--replicas", 2, "train.patience=3"), "train.patience needs one process that sees every step"),
        (("--replicas", 2, "cluster.exchange.momentum=0.5"), "give cluster.exchange.rate, too"),
        (("--replicas", 2, "train.dtype=fp64"), "replicas exchange float32"),
        (("--replicas", 2, "cluster.exchange.pull_evry=3"), "did you mean cluster.exchange.pull_every?"),
        (("--replicas", 2, "--profile"), "--profile is for --processes"),
        (("--replicas", 0), "expected a number of replicas from 1, or LEAST:MOST as 2:8, found '0'"),
        (("--replicas", "3:2"), "expected a number of replicas from 1, or LEAST:MOST as 2:8, found '3:2'"),
    ],
)
def test_what_is_not_for_replicas_is_said_in_a_line(place: Path, tmp_path: Path, asked: tuple[Any, ...], said: str) -> None:
    done = striate("train", place / "tiny.yaml", f"data.store={place / 'store'}", "--run", tmp_path / "run", *asked)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()


class Own:
    """Of a learner, what the choice looks at."""

    def __init__(self, rule: str | None) -> None:
        if rule is not None:
            self.own_rule = rule
            self.slope = lambda batch: None


@pytest.mark.parametrize(
    ("exchange", "own", "found"),
    [
        ({}, "adagrad", ("adagrad", True)),
        ({}, "momentum", ("momentum", True)),
        ({}, "momentum-outside", ("momentum", True)),
        ({}, None, ("delta", False)),
        ({"rule": "delta"}, "adagrad", ("delta", False)),
        ({"rule": "sgd"}, "adagrad", ("sgd", True)),
        ({"mode": "synchronous"}, "momentum", ("momentum", True)),
        ({"mode": "synchronous"}, None, ("delta", False)),
        ({"mode": "local"}, "momentum", ("delta", False)),
        ({"mode": "diloco"}, None, ("nesterov", False)),
    ],
)
def test_the_rule_follows_from_the_mode_and_the_model(
    exchange: dict[str, Any], own: str | None, found: tuple[str, bool]
) -> None:
    assert chosen_rule(ExchangeGroup(**exchange), Own(own)) == found


def test_one_replica_begins_where_several_would_overshoot() -> None:
    group = ExchangeGroup()
    assert warm_start(group, True, 2, 10_000) == 100 and warm_start(group, True, 2, 400) == 20
    assert warm_start(group, True, 1, 10_000) == warm_start(group, False, 2, 10_000) == 0
    assert warm_start(ExchangeGroup(mode="synchronous"), True, 2, 10_000) == 0
    assert warm_start(ExchangeGroup(warm_start_steps=7), False, 2, 10_000) == 7


@pytest.mark.parametrize(
    ("exchange", "gradients", "found"),
    [
        ({}, True, None),
        ({"rate": 0.3}, True, Rates(0.3, 0.9)),
        ({"rate": 0.3, "momentum": 0.2}, True, Rates(0.3, 0.2)),
        ({}, False, Rates(0.25, 0.0)),
        ({"rate": 1.0}, False, Rates(1.0, 0.0)),
        ({"mode": "synchronous"}, True, None),
        ({"mode": "synchronous"}, False, Rates(1.0, 0.0)),
        ({"mode": "local"}, False, Rates(1.0, 0.0)),
        ({"mode": "diloco"}, False, Rates(0.7, 0.9)),
        ({"mode": "diloco", "rate": 1.0, "momentum": 0.0}, False, Rates(1.0, 0.0)),
    ],
)
def test_changes_of_four_replicas_are_averaged(exchange: dict[str, Any], gradients: bool, found: Rates | None) -> None:
    assert rates(ExchangeGroup(**exchange), 0.9, gradients, 4) == found


@pytest.mark.parametrize(
    ("exchange", "said"), [({"rule": "adagrad"}, "gradients"), ({"mode": "local", "rule": "sgd"}, "leave")]
)
def test_a_rule_for_gradients_needs_gradients(exchange: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        chosen_rule(ExchangeGroup(**exchange), Own(None))
