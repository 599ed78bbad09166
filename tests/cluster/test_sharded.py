"""Processes that share an RBM learn what one learns: all algorithms of chapter 4, uneven sizes, real processes (gloo)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jobs import BATCH, DTYPES, HIDDEN, VISIBLE, alone, data, learner, model, run, together
from striate.cluster.costs import Problem, received_bytes
from striate.cluster.layout import MODES, Layout
from striate.cluster.sharded import ShardedLearner
from striate.cluster.wire import Wire
from striate.errors import BadInput
from striate.train import CDSettings, ContrastiveLearner
from striate.train.contrastive import constant

STATES = {"data_states": True, "final_states": True}
# Everything that sums in another order when more processes share it: each is a case of its own.
CASES: dict[str, dict[str, Any]] = {
    "bits": {"kind": "bernoulli", "settings": {**STATES, "weight_decay": 1e-3}, "steps": 100},
    "levels drawn": {"kind": "bernoulli", "settings": {**STATES, "sample_data": True}},
    "means": {"kind": "bernoulli", "settings": {"k": 2, "sparsity_target": 0.1, "sparsity_cost": 1.0}},
    "chains": {"kind": "bernoulli", "settings": {"chains": 13, **STATES}},
    "chains, means": {"kind": "bernoulli", "settings": {"chains": 16, "k": 2, "sample_visible": False}},
    "gaussian": {"kind": "gaussian", "settings": STATES, "sync_images": 3 * BATCH},
    "deviations": {"kind": "gaussian", "settings": {"sigma_rate": 0.1, "sparsity_target": 0.2, "sparsity_cost": 1.0}},
    "gaussian chains": {"kind": "gaussian", "settings": {"chains": 8, "sigma_rate": 0.1}},
}

# Large enough for products to be cut up in another way in each process.
LARGE: dict[str, Any] = {"mode": "both", "visible": 301, "hidden": 203, "batch": 120}


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest of any parameter, velocity or chain."""
    names = set(one["state"])
    assert names <= set(other["state"])
    return max(float((one["state"][name].double() - other["state"][name].double()).abs().max()) for name in names)


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, Any]]:
    return {name: alone(case) for name, case in CASES.items()}


# Eight processes on a core or two spend their time waking one another: the whole table is for the long tests.
_SOME = {
    3: [("bits", "both"), ("means", "visible"), ("deviations", "each-update"), ("chains", "hidden"), ("gaussian", "both")],
    4: [("levels drawn", "both"), ("deviations", "visible"), ("gaussian", "hidden"), ("chains, means", "data")],
}


def test_two_processes_learn_what_one_does(expected: dict[str, dict[str, Any]]) -> None:
    check(expected, 2, [(name, mode) for name in CASES for mode in MODES])


@pytest.mark.parametrize("count", [3, 4])
def test_k_processes_learn_what_one_does(expected: dict[str, dict[str, Any]], count: int) -> None:
    check(expected, count, _SOME[count])


@pytest.mark.science
@pytest.mark.parametrize("count", [3, 4, 8])
def test_k_processes_learn_what_one_does_in_every_way(expected: dict[str, dict[str, Any]], count: int) -> None:
    check(expected, count, [(name, mode) for name in CASES for mode in MODES])


def check(expected: dict[str, dict[str, Any]], count: int, tried: list[tuple[str, str]]) -> None:
    """In float64, after up to 100 steps: parameters to 1e-10, drawn bits (kept chains are) exactly. Parts overlap in flight."""
    cases = [{**CASES[name], "mode": mode, "parts": 1 + number % 3} for number, (name, mode) in enumerate(tried)]
    for (name, mode), results in zip(tried, together(count, cases, collective_up_to=128)):
        first, one = results[0], expected[name]
        assert difference(one, first) < 1e-10, (name, mode)
        if "chains" in one["state"]:
            assert torch.equal(one["state"]["chains"], first["state"]["chains"]), (name, mode)
        for found, wanted in zip(first["metrics"], one["metrics"]):
            assert found["reconstruction_error"] == pytest.approx(wanted["reconstruction_error"], rel=1e-10), (name, mode)
            assert found["hidden_activity"] == pytest.approx(wanted["hidden_activity"], rel=1e-10), (name, mode)
        assert first["diagnose"] == pytest.approx(one["diagnose"], rel=1e-9), (name, mode)
        # What the others keep is nothing, and every process hears the same metrics.
        assert all(set(other["state"]) == {"step"} for other in results[1:])
        assert all(other["metrics"] == first["metrics"] for other in results)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp64"])
def test_both_copies_of_a_weight_agree_to_the_last_bit_where_units_are_binary(dtype: str) -> None:
    """Section 4.2: sums of products of ones and zeros are whole numbers, whatever their order. Nothing is synchronised before
    the one comparison at the end."""
    settings = {**STATES, "weight_decay": 1e-3, "sparsity_target": 0.1, "sparsity_cost": 1.0}
    case = {**LARGE, "kind": "bernoulli", "settings": settings, "dtype": dtype, "steps": 30, "sync_images": 30 * 120}
    ((found, *_),) = together(3, [case])
    assert found["metrics"][-1]["weight_drift"] == 0.0
    assert not any(name.startswith("rows.") for name in found["state"])


@pytest.mark.parametrize("dtype", ["fp32", "fp64"])
def test_gaussian_copies_drift_in_the_last_digits_alone(dtype: str) -> None:
    case = {**LARGE, "kind": "gaussian", "settings": STATES, "dtype": dtype, "steps": 20, "sync_images": 5 * 120}
    ((found, *_),) = together(3, [case])
    drifts = [metrics["weight_drift"] for metrics in found["metrics"] if "weight_drift" in metrics]
    assert len(drifts) == 4 and all(0 <= drift < 100 * torch.finfo(DTYPES[dtype]).eps for drift in drifts)


def test_copies_that_differ_are_measured_and_made_one() -> None:
    """Unlike the above, whose drift may well be nothing on a machine that sums everywhere in one order."""
    for drift, again, states in run(2, _apart):
        assert drift == pytest.approx(0.5, rel=1e-6) and again == 0.0
        before, after = states
        if after:
            assert float((before["rows.weights"] - before["weights"]).abs().max()) == pytest.approx(0.5 * 0.3, rel=0.1)
            assert not any(name.startswith("rows.weights") for name in after)
            torch.testing.assert_close(after["weights"], before["weights"], rtol=0, atol=0)


def _apart(rank: int, count: int) -> tuple[float, float, Any]:
    made = learner(Wire(rank, count), {"kind": "gaussian", "mode": "both", "dtype": "fp32"})
    rms = float(made.wire.total(made.copies.squares()[0].double()) / (HIDDEN * VISIBLE)) ** 0.5
    if rank == 1:
        # Of a weight whose other copy is the first process's.
        made.copies.rows.weights[3, 2] += 0.5 * rms
        made.copies.rows.refresh()
    before = made.copies.collect()
    drift, again = float(made.copies.reconcile()), float(made.copies.reconcile())
    return drift, again, (before, made.copies.collect())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "collective_up_to"), [("bernoulli", 0), ("gaussian", 1 << 30)])
def test_bytes_are_those_of_the_cost_model(mode: str, kind: str, collective_up_to: int) -> None:
    """At sizes that divide: what is counted at the collectives is what table 4.1's formulae, and ours for the others, say."""
    case = {"kind": kind, "mode": mode, "visible": 64, "hidden": 128, "batch": 16, "steps": 3, "dtype": "fp32"}
    cases = [{**case, "settings": STATES}, {**case, "settings": {"k": 2}}]
    for found, (states, k) in zip(together(4, cases, collective_up_to), [(True, 1), (False, 2)]):
        problem = Problem(64, 128, 16, binary=kind == "bernoulli", states=states, k=k)
        total = sum(one["received"] for one in found) / 3
        assert total == pytest.approx(received_bytes(problem, mode, 4), rel=1e-9)


@pytest.mark.parametrize("name", ["gaussian", "chains", "deviations"])
def test_a_state_of_four_processes_goes_on_in_two_and_in_one(expected: dict[str, dict[str, Any]], name: str) -> None:
    case = {**CASES[name], "steps": 8}
    modes = ["both", "visible", "each-update", "data"]
    begun = [results[0]["state"] for results in together(4, [{**case, "mode": mode} for mode in modes])]
    whole = alone({**case, "steps": 20})
    rest = [{**case, "mode": mode, "state": state, "steps": 12} for mode, state in zip(reversed(modes), begun)]
    for results in together(2, rest):
        assert difference(whole, results[0]) < 1e-10
    for state in begun:
        assert difference(whole, alone({**case, "state": state, "steps": 12})) < 1e-10


@pytest.mark.parametrize("mode", MODES)
def test_as_many_processes_go_on_to_the_last_bit(mode: str) -> None:
    """Also where the two copies of weights had drifted apart."""
    case = {"kind": "gaussian", "settings": {"sigma_rate": 0.05, "chains": 9}, "mode": mode, "dtype": "fp32", "steps": 12}
    ((whole, *_),) = together(3, [case])
    ((begun, *_),) = together(3, [{**case, "steps": 5}])
    ((rest, *_),) = together(3, [{**case, "state": begun["state"], "steps": 7}])
    assert set(rest["state"]) == set(whole["state"])
    assert all(torch.equal(rest["state"][name], whole["state"][name]) for name in whole["state"])


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
@pytest.mark.parametrize(
    "settings", [{}, STATES, {"chains": 10, "k": 2, "sparsity_target": 0.2, "sparsity_cost": 1.0, "weight_decay": 1e-2}]
)
def test_one_process_learns_what_the_plain_learner_does(kind: str, settings: dict[str, Any]) -> None:
    """float32: the same operations, so the same numbers up to the last digits of sums that are taken in another order."""
    plain = ContrastiveLearner(model(kind), CDSettings(**settings), constant(0.05, 0.9), seed=1)
    for step in range(20):
        told = plain.step(data(kind, step))
    found = alone({"kind": kind, "settings": settings, "dtype": "fp32"})
    assert set(found["state"]) == set(plain.state())
    assert difference({"state": plain.state()}, found) < 2e-6
    assert found["metrics"][-1] == pytest.approx({name: float(value) for name, value in told.items()}, rel=1e-5)
    assert found["diagnose"] == pytest.approx(plain.diagnose(), rel=1e-4)
    # And each goes on from the other's state.
    plain.load_state(found["state"])
    assert plain.step_number == 20


def test_a_model_begun_from_others_weights_is_theirs() -> None:
    made = ShardedLearner(model("gaussian"), CDSettings(sigma_rate=0.1), constant(0.1), Wire(), Layout("hidden"))
    made.step(data("gaussian", 0))
    other = model("gaussian").to(dtype=torch.float32)
    made.begin_from({name: tensor + 0.25 for name, tensor in other.state().items()})
    whole = made.collected()
    assert whole is not None and made.step_number == 0
    for name, tensor in whole.state().items():
        torch.testing.assert_close(tensor, other.state()[name] + 0.25)
    assert float(made.state()["velocity.weights"].abs().max()) == 0


def test_what_needs_one_process_is_refused() -> None:
    for settings, word in (
        ({"centring": True}, "centring"),
        ({"clip": 1.0}, "clip"),
        ({"sampler": "fast", "chains": 4}, "sampler"),
    ):
        with pytest.raises(BadInput, match=f"train.{word}.* one process"):
            ShardedLearner(model("bernoulli"), CDSettings(**settings), constant(0.1), Wire(), Layout("hidden"))
    with pytest.raises(BadInput, match="sigma"):
        ShardedLearner(model("bernoulli"), CDSettings(sigma_rate=0.1), constant(0.1), Wire(), Layout("hidden"))
    made = ShardedLearner(model("bernoulli"), CDSettings(), constant(0.1), Wire(), Layout("hidden"))
    with pytest.raises(BadInput, match=f"does not fit {VISIBLE} visible"):
        made.step(torch.zeros(4, VISIBLE + 1))
    with pytest.raises(BadInput, match="lacks"):
        made.load_state({"step": torch.tensor(3)})
    state = alone({"kind": "bernoulli", "steps": 1})["state"]
    with pytest.raises(BadInput, match=rf"shape \({HIDDEN}, {VISIBLE - 1}\)"):
        made.load_state({**state, "weights": state["weights"][:, 1:]})
