"""The run directory: what is written is there, and what cannot be written stops nothing but itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from striate.train import Run
from striate.train.run import machine, read_metrics


def test_fields_of_run_json_add_up_and_later_ones_win(tmp_path: Path) -> None:
    run = Run(tmp_path / "deep" / "run")
    run.describe(status="running", seed=3)
    run.describe(status="done")
    assert json.loads((run.path / "run.json").read_text()) == {"status": "done", "seed": 3}


def test_metrics_are_appended_and_cut(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (10, 20, 30):
        run.log(step, {"error": 1 / step})
    run.cut_metrics(20)
    run.log(30, {"error": 0.1 + 0.2})
    assert read_metrics(tmp_path) == [
        {"step": 10, "error": 1 / 10},
        {"step": 20, "error": 1 / 20},
        {"step": 30, "error": 0.1 + 0.2},
    ]


@pytest.mark.parametrize("torn", [b'{"step": 3', b"\x00\x00\x00", b"\xff\xfe", b'{"step": 30}\x00'])
def test_a_torn_last_line_is_left_out(tmp_path: Path, torn: bytes) -> None:
    run = Run(tmp_path)
    run.log(10, {"error": 0.5})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    assert read_metrics(tmp_path) == [{"step": 10, "error": 0.5}]
    run.cut_metrics(10)
    run.log(20, {"error": 0.25})
    assert [line["step"] for line in read_metrics(tmp_path)] == [10, 20]


def test_events_hold_the_metrics(tmp_path: Path) -> None:
    """Read back by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Run(tmp_path)
    assert run.open_events(0) is None
    run.log(10, {"error": 0.5})
    run.log(20, {"error": 0.25})
    run.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("error")] == [(10, 0.5), (20, 0.25)]


def test_without_tensorboard_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is made impossible to import, as where it is not installed."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = Run(tmp_path)
    reason = run.open_events(0)
    assert reason is not None and "TensorBoard events are off" in reason
    run.log(10, {"error": 0.5})
    run.close()
    assert read_metrics(tmp_path) == [{"step": 10, "error": 0.5}]


def test_notes_are_dated_lines(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.note("began")
    run.note("ended")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line[20:] for line in lines] == ["began", "ended"]
    assert lines[0][:2] == "20" and lines[0][4] == "-"


def test_the_machine_is_named(tmp_path: Path) -> None:
    described = machine()
    assert described["threads"] >= 1 and described["torch"] and described["processor"]
    json.dumps(described)
