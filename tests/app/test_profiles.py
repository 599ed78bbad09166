"""`striate show NET`: switches side by side, layers and sizes."""

from __future__ import annotations

import json

from training import striate


def test_a_profile_is_printed_beside_the_others() -> None:
    done = striate("show", "source", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["parameters"] == 60_965_224
    assert found["training_gflop"] == 4.1356
    assert {"paper", "source", "half", "one-gpu"} <= set(found["switches"])
    assert found["switches"]["source"]["order"] == "norm-pool-relu"
    shown = striate("show", "paper")
    assert "60,965,224" in shown.stdout
    assert "*" in shown.stdout


def test_nets_without_switches_have_layers() -> None:
    found = json.loads(striate("show", "11pct", "--json").stdout)
    assert found["parameters"] == 2_112_970
    assert "switches" not in found


def test_what_is_neither_a_run_nor_a_net_is_one_line() -> None:
    done = striate("show", "sauce")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
