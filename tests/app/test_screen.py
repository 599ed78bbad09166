"""What people see of long work: a bar on a terminal, plain lines elsewhere, and rates that tell the truth after a resume."""

from __future__ import annotations

import io
import itertools
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from striate.app.screen import Screen, Task
from training import recipe_file, small_store, striate


def _task(total: float | None) -> tuple[Task, io.StringIO]:
    """A task that prints lines, on a clock that shows 0 at the start and 11 s ever after."""
    said, clock = io.StringIO(), itertools.chain([0.0], itertools.repeat(11.0))
    return Task(Console(file=said, width=200), "training", total, "images", None, clock=lambda: next(clock)), said


def test_a_line_tells_share_rate_fields_and_time_left() -> None:
    """440 of 1,000 in 11 s: 40 a second, 14 s for the rest."""
    task, said = _task(1000)
    task.advance(440, error="0.5")
    assert said.getvalue() == "training: 44% 40 images/s  error 0.5  14 s left\n"


def test_what_was_done_before_counts_for_the_share_but_not_for_the_rate() -> None:
    """500 were done before a resume; 220 in 11 s are 20 a second, and 280 are left: 14 s."""
    task, said = _task(1000)
    task.skip(500)
    task.advance(220)
    assert said.getvalue() == "training: 72% 20 images/s  14 s left\n"


def test_without_a_total_there_is_a_rate_and_no_guess() -> None:
    task, said = _task(None)
    task.advance(22)
    assert said.getvalue() == "training: 2 images/s\n"


def test_lines_come_seconds_apart_however_often_the_work_advances() -> None:
    task, said = _task(1000)
    for _ in range(500):
        task.advance(1)
    assert said.getvalue().count("\n") == 1


def test_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """No markup, no emoji codes, no colours, no wrapping: paths may hold anything."""
    odd = "[bold]a[/bold] :cat: /x/" + "y" * 300 + " 12 'q'"
    Screen().say(odd)
    Screen(to_stderr=True).say(odd)
    Screen().warn(odd)
    printed = capsys.readouterr()
    assert printed.out == f"{odd}\n" and printed.err == f"{odd}\nstriate: {odd}\n"


def test_piped_output_has_no_control_characters(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s", 60)
    answer = striate("train", recipe_file(tmp_path), f"data.store={store}", "train.epochs=0.2", "--run", tmp_path / "run")
    assert answer.returncode == 0 and answer.stderr == ""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", answer.stdout)


def test_on_a_terminal_there_is_a_bar_with_rate_error_and_time_left(tmp_path: Path) -> None:
    """In a real pseudo-terminal."""
    store = small_store(tmp_path / "s", 60)
    arguments = ["train", str(recipe_file(tmp_path)), f"data.store={store}", "train.epochs=40", "--run", str(tmp_path / "run")]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-m", "striate", *arguments], stdout=theirs, stderr=theirs, stdin=theirs, env=environment
    )
    os.close(theirs)
    seen, ends = b"", time.monotonic() + 60
    bar = re.compile(rb"training .*%.*\d:\d\d.*images/s  error \d")
    while not bar.search(re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", seen)) and time.monotonic() < ends:
        try:
            seen += os.read(ours, 4096)
        except OSError:
            break
    process.kill()
    process.wait()
    os.close(ours)
    assert bar.search(re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", seen)), seen[-2000:]
