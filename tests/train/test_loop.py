"""The loop and exact resume, on a real learner: whatever is interrupted ends in the same bits as what was not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput, Diverged, Interrupted
from striate.models.rbm import new_rbm
from striate.train import (
    Batches,
    CDSettings,
    ContrastiveLearner,
    Hooks,
    LoopSettings,
    MemoryRows,
    Run,
    ScheduleSettings,
    save_start,
    schedule,
    train,
)
from striate.train.loop import Window, snapshot_steps
from striate.train.run import read_metrics

TOTAL = 40


def _learner(chains: int | None = None) -> ContrastiveLearner:
    rbm = new_rbm(6, torch.zeros(5), draws=Draws(1))
    settings = CDSettings(chains=chains, sparsity_target=0.2, sparsity_cost=1.0, weight_decay=1e-3)
    return ContrastiveLearner(rbm, settings, schedule(ScheduleSettings(0.05, "linear", momentum_steps=9), TOTAL), seed=2)


def _batches() -> Batches:
    return Batches(MemoryRows(Draws(3).normal("rows", (33, 5))), 4, seed=5)


def _hooks(stop: Callable[[], bool] = lambda: False, **over: Callable[..., None]) -> Hooks:
    quiet: dict[str, Callable[..., None]] = {name: lambda *_: None for name in ("resumed", "progress", "snapshot", "saved")}
    return Hooks(stop=stop, **{**quiet, **over})


def _settings(**over: object) -> LoopSettings:
    return LoopSettings(
        **{"total_steps": TOTAL, "log_every": 7, "checkpoint_every_s": 1e9, "snapshot_steps": (0, 10, TOTAL)} | over
    )  # type: ignore[arg-type]


def _begin(path: Path, learner: ContrastiveLearner) -> Run:
    run = Run(path)
    save_start(learner, run)
    return run


def _lines(path: Path) -> list[dict[str, float]]:
    """Metrics without the clock."""
    return [{name: value for name, value in line.items() if name != "seconds"} for line in read_metrics(path)]


def _assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    assert set(a) == set(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module", params=[None, 3], ids=["cd", "pcd"])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ContrastiveLearner, Path, int | None]:
    """A run that nothing interrupted."""
    path = tmp_path_factory.mktemp("whole")
    learner = _learner(request.param)
    train(learner, _batches(), _begin(path, learner), _settings(), _hooks())
    return learner, path, request.param


def test_metrics_are_means_over_their_windows_and_end_with_the_last_step(tmp_path: Path) -> None:
    """Against the same steps taken by hand."""
    learner, by_hand = _learner(), _learner()
    train(learner, _batches(), _begin(tmp_path, learner), _settings(), _hooks())
    expected, window = [], []
    for batch in _batches().starting_at(0):
        window.append(float(by_hand.step(batch)["reconstruction_error"]))
        if by_hand.step_number % 7 == 0 or by_hand.step_number == TOTAL:
            expected.append((by_hand.step_number, math.fsum(window) / len(window)))
            window = []
        if by_hand.step_number == TOTAL:
            break
    got = [(line["step"], line["reconstruction_error"]) for line in _lines(tmp_path)]
    assert [step for step, _ in got] == [7, 14, 21, 28, 35, 40]
    assert got == [(step, pytest.approx(value, rel=1e-12)) for step, value in expected]
    assert _lines(tmp_path)[-1]["epoch"] == TOTAL / 8
    _assert_same(learner.state(), by_hand.state())


@pytest.mark.parametrize("at", [1, 6, 7, 8, 20, 39])
def test_stopped_at_any_step_and_resumed_everything_is_the_same(
    whole: tuple[ContrastiveLearner, Path, int | None], tmp_path: Path, at: int
) -> None:
    """Before, on and after a line of metrics and an epoch's end (8 steps); then stopped a second time."""
    reference, reference_path, chains = whole
    learner = _learner(chains)
    run = _begin(tmp_path, learner)
    steps = iter(range(1, TOTAL + 1))
    with pytest.raises(Interrupted, match=f"stopped at step {at} of 40, saved: striate resume"):
        train(learner, _batches(), run, _settings(), _hooks(lambda: next(steps) == at))
    again = iter([False, True])
    if at < 38:
        with pytest.raises(Interrupted):
            train(_learner(chains), _batches(), Run(tmp_path), _settings(), _hooks(lambda: next(again)))
    final = _learner(chains)
    told: list[int] = []
    train(final, _batches(), Run(tmp_path), _settings(), _hooks(resumed=lambda step, warnings: told.append(step)))
    _assert_same(final.state(), reference.state())
    assert _lines(tmp_path) == _lines(reference_path)
    assert told == [at + 2 if at < 38 else at]


def test_lines_after_the_checkpoint_and_a_torn_one_are_written_again(
    whole: tuple[ContrastiveLearner, Path, int | None], tmp_path: Path
) -> None:
    """As after kill -9: metrics have gone further than the checkpoint."""
    _, reference_path, chains = whole
    text = (reference_path / "metrics.jsonl").read_text()
    for number, further in enumerate((text[: text.index('{"step": 28')], text[: len(text) - 9], text + "\x00\x00")):
        path = tmp_path / str(number)
        learner = _learner(chains)
        with pytest.raises(Interrupted):
            train(
                learner,
                _batches(),
                _begin(path, learner),
                _settings(),
                _hooks(lambda learner=learner: learner.step_number == 10),
            )
        (path / "metrics.jsonl").write_text(further)
        train(_learner(chains), _batches(), Run(path), _settings(), _hooks())
        assert _lines(path) == _lines(reference_path)


def test_a_damaged_newest_checkpoint_costs_steps_but_no_bit(
    whole: tuple[ContrastiveLearner, Path, int | None], tmp_path: Path
) -> None:
    reference, reference_path, chains = whole
    run = None
    for at in (10, 20):
        learner = _learner(chains)
        run = run or _begin(tmp_path, learner)
        with pytest.raises(Interrupted):
            train(learner, _batches(), run, _settings(), _hooks(lambda at=at, learner=learner: learner.step_number == at))
    (tmp_path / "checkpoints" / "step-00000020.safetensors").write_bytes(b"torn")
    told: list[tuple[int, int]] = []
    final = _learner(chains)
    hooks = _hooks(resumed=lambda step, warnings: told.append((step, len(warnings))))
    train(final, _batches(), Run(tmp_path), _settings(), hooks)
    assert told == [(10, 1)]
    _assert_same(final.state(), reference.state())
    assert _lines(tmp_path) == _lines(reference_path)


def test_a_run_killed_between_its_last_checkpoint_and_its_model_saves_the_model_when_resumed(tmp_path: Path) -> None:
    learner = _learner()
    train(learner, _batches(), _begin(tmp_path, learner), _settings(), _hooks())
    saved: list[bool] = []
    train(_learner(), _batches(), Run(tmp_path), _settings(), _hooks(saved=lambda: saved.append(True)))
    assert saved == [True]


def test_snapshots_are_taken_at_their_steps(tmp_path: Path) -> None:
    taken: list[int] = []
    learner = _learner()
    train(learner, _batches(), _begin(tmp_path, learner), _settings(), _hooks(snapshot=taken.append))
    assert taken == [0, 10, TOTAL]


def test_snapshot_steps_include_both_ends_and_crowd_early() -> None:
    steps = snapshot_steps(1000, 6)
    assert steps == (0, 40, 160, 360, 640, 1000)
    assert snapshot_steps(1000, 1) == (1000,)
    assert snapshot_steps(2, 10)[0] == 0 and snapshot_steps(2, 10)[-1] == 2


def test_checkpoints_come_by_the_clock(tmp_path: Path) -> None:
    """With a limit of zero seconds every step is saved: as many saves as steps."""
    saves: list[int] = []
    learner = _learner()
    settings = _settings(checkpoint_every_s=0.0)
    train(learner, _batches(), _begin(tmp_path, learner), settings, _hooks(saved=lambda: saves.append(learner.step_number)))
    assert saves == list(range(1, TOTAL + 1))


class _Blowing:
    """Gives 0.5, then what it is told to, from a step on."""

    finished = False

    def __init__(self, value: float, at: int, norm: float = 1.0) -> None:
        self.step_number, self._value, self._at, self._norm = 0, value, at, norm

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        self.step_number += 1
        value = self._value if self.step_number >= self._at else 0.5
        return {"reconstruction_error": torch.tensor(value), "hidden_activity": torch.tensor(0.1)}

    def diagnose(self) -> dict[str, float]:
        return {"weight_rms": self._norm if self.step_number >= self._at else 1.0}

    def state(self) -> dict[str, Tensor]:
        return {"step": torch.tensor(self.step_number)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.step_number = int(state["step"])


@pytest.mark.parametrize("value", [math.nan, math.inf, 1000.0])
def test_a_run_that_blows_up_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path, value: float) -> None:
    learner = _Blowing(value, 30)
    run = Run(tmp_path)
    save_start(learner, run)
    seen: list[int] = []

    def saved() -> None:
        seen.append(learner.step_number)

    settings = _settings(log_every=1, checkpoint_every_s=0.0)
    with pytest.raises(Diverged, match=r"at step 30|by step 30") as caught:
        train(learner, _batches(), run, settings, _hooks(saved=saved))
    assert "the checkpoint of step 29" in str(caught.value) and "learning_rate" in str(caught.value)
    checkpoint, _ = run.checkpoints.newest()
    assert checkpoint is not None and checkpoint.step == 29 == seen[-1]
    assert [line["step"] for line in read_metrics(tmp_path)][-1] == 29


def test_weights_that_blew_up_between_two_lines_of_metrics_are_not_saved(tmp_path: Path) -> None:
    learner = _Blowing(0.5, 30, norm=math.nan)
    run = Run(tmp_path)
    save_start(learner, run)
    with pytest.raises(Diverged, match="weight_rms became nan at step 30"):
        train(learner, _batches(), run, _settings(log_every=1000, checkpoint_every_s=0.0), _hooks())
    assert run.checkpoints.steps()[-1] == 29


def test_what_counts_as_blown_up_is_held_against_the_start_of_the_run_not_of_the_sitting(tmp_path: Path) -> None:
    """An error of 15 is 30 times the first of 0.5; a monitor that forgot would take 15 for the start."""
    learner = _Blowing(15.0, 1000)
    run = Run(tmp_path)
    save_start(learner, run)
    with pytest.raises(Interrupted):
        train(learner, _batches(), run, _settings(), _hooks(lambda: learner.step_number == 20))
    with pytest.raises(Diverged, match=r"rose from 0\.5 to 15"):
        train(_Blowing(15.0, 21), _batches(), run, _settings(), _hooks())


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_not_begun_anew(tmp_path: Path) -> None:
    learner = _learner()
    run = _begin(tmp_path, learner)
    (tmp_path / "checkpoints" / "step-00000000.safetensors").write_bytes(b"")
    with pytest.raises(BadInput, match=r"no whole checkpoint.*step 0 is damaged.*begin a new run"):
        train(learner, _batches(), run, _settings(), _hooks())


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run = _begin(tmp_path, _learner())
    other = ContrastiveLearner(new_rbm(7, torch.zeros(5), draws=Draws(1)), CDSettings(), schedule(ScheduleSettings(0.1), 9))
    with pytest.raises(BadInput, match="has shape"):
        train(other, _batches(), run, _settings(), _hooks())


def test_a_window_averages_each_metric_over_the_steps_that_told_it() -> None:
    """As when one stage has finished learning and the next begins; kept and taken up in the middle."""
    window = Window()
    for value in (1.0, 3.0):
        window.add({"first": torch.tensor(value), "always": torch.tensor(value)})
    again = Window(window.state())
    again.add({"second": torch.tensor(7.0), "always": torch.tensor(8.0)})
    assert again.means() == {"first": 2.0, "always": 4.0, "second": 7.0}
    assert again.steps == 3
    old = {"steps": 4, "sums": {"error": 2.0}}
    assert Window(old).means() == {"error": 0.5}, "a checkpoint of before is read"
