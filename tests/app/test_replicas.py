"""`striate train --replicas`: a run of several replicas is a run like any other; what is not for them is refused at once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from striate.app.alike import check_here, facts
from striate.app.crew_files import parse_wanted, read_now
from striate.app.exchanging import chosen_rule, intervals, rates, takes_advice, warm_start
from striate.app.groups import ExchangeGroup
from striate.app.load import load_model
from striate.app.recipe import load_recipe
from striate.app.replicas import check_gpus
from striate.cluster.asynchronous.crew import Wanted
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
    """Checkpoints know neither replicas nor shards; every line of the curves is there once; an interval once taken is kept."""
    run, said = place / "run", place / "said"
    said.mkdir()
    longer = ("train.epochs=40", "train.log_every=100", "train.checkpoint_every_s=0.5", "cluster.exchange.shards=2")
    longer += ("cluster.exchange.push_every=auto",)
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
    record = json.loads((run / "run.json").read_text())
    interval = record["exchange_every"]
    every = f"every {interval} steps" if interval > 1 else "at every step"
    assert f"an exchange {every}: advised, and kept to" in (said / "out").read_text()
    # As it might have been found in another hour.
    (run / "run.json").write_text(json.dumps({**record, "exchange_every": 13}))
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
    assert record["plan"]["push_every"] == record["plan"]["taken"] == 13
    assert sum(record["staleness"].values()) == record["updates"] and record["plan"]["parameters"] == 24 * 108 + 24 + 108
    assert not (run / "shards").exists()
    assert load_model(run).rbm.num_hidden == 24
    # It is done: a plain resume has nothing to add, and finds the checkpoint its own.
    again = striate("resume", run, "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["steps"] == 3000


def test_a_person_changes_how_many_there_are_while_it_goes(place: Path) -> None:
    """One joins and leaves again, each told by the verb and kept in run.json; nothing is handed out twice."""
    run, said = place / "elastic", place / "elastic-said"
    said.mkdir()
    nobody = striate("replicas", run, 2)
    assert nobody.returncode == 2 and "is no run directory" in nobody.stderr
    longer = ("train.epochs=4000", "train.log_every=50", "train.checkpoint_every_s=30")
    driver = start(
        "train", place / "tiny.yaml", f"data.store={place / 'store'}", *longer, "--run", run, "--replicas", 1, said=said
    )

    def wait_for(reached: Callable[[dict[str, Any]], bool]) -> None:
        until = time.monotonic() + 100
        while not reached(read_now(run)):
            assert time.monotonic() < until and driver.is_alive(), ((said / "error").read_text(), read_now(run))
            time.sleep(0.05)

    def rates(now: dict[str, Any]) -> list[float]:
        return [one["images_per_s"] for one in now.get("replicas", []) if one["images_per_s"]]

    wait_for(lambda now: len(rates(now)) == 1)
    more = striate("replicas", run, 2, "--json")
    assert more.returncode == 0 and json.loads(more.stdout)["heard"], more.stderr
    wait_for(lambda now: len(rates(now)) == 2)
    fewer = striate("replicas", run, 1)
    assert fewer.returncode == 0 and "1 wanted at step" in fewer.stderr + fewer.stdout
    wait_for(lambda now: len(now["replicas"]) == 1)
    assert driver.pid is not None
    os.kill(driver.pid, signal.SIGTERM)
    driver.join(60)
    assert driver.exitcode == 130, (said / "error").read_text()
    cluster = json.loads((run / "run.json").read_text())["cluster"]
    assert [(one["replica"], one["how"]) for one in cluster["crew"]] == [("0.1", None), ("1.1", "left")]
    stayed, left = cluster["crew"]
    assert stayed["joined_step"] == 0 < left["joined_step"] < left["left_step"] and left["left_s"] > left["joined_s"]
    assert cluster["minibatches_redone"] == cluster["replicas_lost"] == 0
    counts = {line["replicas"] for line in read_metrics(run)}
    assert counts == {1.0, 2.0} and any("images_per_s_1" in line for line in read_metrics(run))
    done = striate("replicas", run)
    assert done.returncode == 2 and f"striate resume {run} --replicas K" in done.stderr


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--address", "10.0.0.1:6379"), "give --replicas K, too"),
        (("--replicas", 2, "train.patience=3"), "train.patience needs one process that sees every step"),
        (("--replicas", 2, "cluster.exchange.momentum=0.5"), "give cluster.exchange.rate, too"),
        (("--replicas", 2, "train.dtype=fp64"), "replicas exchange float32"),
        (("--replicas", 2, "cluster.exchange.pull_evry=3"), "did you mean cluster.exchange.pull_every?"),
        (("--replicas", 2, "cluster.exchange.pull_every=0"), "pull_every: expected a number of steps from 1, or auto, found 0"),
        (("--replicas", 2, "cluster.exchange.mode=local", "cluster.exchange.push_every=auto"), "is for mode=downpour"),
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
    ("exchange", "gradients", "advised", "found"),
    [
        ({}, True, None, (1, 1)),
        ({"pull_every": 3, "push_every": 2}, True, 9, (3, 2)),
        ({"pull_every": 3, "push_every": 2}, False, 9, (2, 2)),
        ({"pull_every": "auto", "push_every": "auto"}, True, 9, (9, 9)),
        ({"pull_every": "auto", "push_every": "auto"}, True, None, (1, 1)),
        ({"pull_every": "auto", "push_every": 4}, True, 9, (9, 4)),
        ({"push_every": "auto"}, False, 9, (9, 9)),
        ({"mode": "diloco"}, False, None, (50, 50)),
        ({"mode": "synchronous"}, True, None, (1, 1)),
    ],
)
def test_intervals_are_the_recipe_s_or_the_plan_s(
    exchange: dict[str, Any], gradients: bool, advised: int | None, found: tuple[int, int]
) -> None:
    assert intervals(ExchangeGroup(**exchange), gradients, advised) == found


def test_changes_take_no_advice_on_pulls() -> None:
    """They are answered at each push, so there is nothing to choose."""
    group = ExchangeGroup(pull_every="auto", push_every=4)
    assert takes_advice(group, True) and not takes_advice(group, False)


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


def test_a_number_or_a_range_of_replicas() -> None:
    assert (parse_wanted("4"), parse_wanted("2:8")) == (Wanted(4, 4), Wanted(2, 8))
    assert (str(Wanted(4, 4)), str(Wanted(2, 8))) == ("4", "2:8")
    for wrong in ("", "0", "0:2", "3:2", "2:", ":2", "1:2:3", "-1", "two", "2.5"):
        with pytest.raises(ValueError):
            parse_wanted(wrong)


def test_a_machine_with_other_versions_or_pictures_is_named(place: Path, tmp_path: Path) -> None:
    recipe = load_recipe(place / "tiny.yaml", [f"data.store={place / 'store'}"])
    own = facts(recipe)
    check_here(recipe, own)
    with pytest.raises(BadInput, match=r"on .+ the version of torch is \d.+, where the run was started 1\.0: install the same"):
        check_here(recipe, {**own, "version of torch": "1.0"})
    other = load_recipe(place / "tiny.yaml", [f"data.store={small_store(tmp_path / 'other', count=80)}"])
    with pytest.raises(BadInput, match=f"the store of pictures is {facts(other)['store of pictures']}, .*copy the store there"):
        check_here(other, own)
    # Where it lies is each machine's own.
    check_here(load_recipe(place / "tiny.yaml", [f"data.store={small_store(tmp_path / 'same')}"]), own)
    with pytest.raises(BadInput, match=r"on .+nowhere.*; replicas read the pictures at the path"):
        check_here(load_recipe(place / "tiny.yaml", [f"data.store={tmp_path / 'nowhere'}"]), own)


def test_a_cluster_without_a_gpu_is_told_before_anything_starts() -> None:
    with pytest.raises(BadInput, match=r"no machine of the Ray cluster at head:6379 has a GPU \(16 cores\)"):
        check_gpus("cuda", "head:6379", {"CPU": 16.0})
    check_gpus("auto", "head:6379", {"CPU": 16.0})
    check_gpus("cuda", "head:6379", {"CPU": 16.0, "GPU": 1.0})
