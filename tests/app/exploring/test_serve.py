"""`striate serve` before it serves: what it refuses, in one line each; how it ends."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

import training
from exploring import collection, run_of
from striate.app.exploring.jobs import Jobs
from striate.app.screen import Screen
from striate.errors import BadInput


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    run_of(folder / "run", collection(folder, 6).path)
    run_of(folder / "other-size", folder / "store", "gaussian")
    (folder / "empty").mkdir()
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere does not exist: give a run directory"),
        (["empty"], "empty is no run: it has neither run.json nor encoder.safetensors"),
        (["store"], "store is an image store; expected the run first: striate serve RUN store"),
        (["run", "empty"], "empty is no image store"),
        (["other-size", "store"], "takes colour pictures of 4x4; store holds colour ones of 9x10"),
        (["run", "store", "--layer", "hidden7"], "no layer 'hidden7': this model has hidden1"),
        (["run", "--host", "203.0.113.7"], "cannot be listened on"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(arguments: list[str], words: str, root: Path) -> None:
    done = training.striate("serve", *arguments, folder=root)
    assert done.returncode == 2 and done.stdout == ""
    assert words in done.stderr and done.stderr.count("\n") == 1


def test_a_port_in_use_is_named(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = training.striate("serve", "run", "--port", port, folder=root)
    assert done.returncode == 2 and f"127.0.0.1:{port} is in use" in done.stderr


def test_work_of_one_line_waits_its_turn_and_of_another_does_not() -> None:
    jobs, release = Jobs(), threading.Event()
    first = jobs.start("first", "", lambda screen: release.wait(20))
    second = jobs.start("second", "", lambda screen: 2)
    third = jobs.start("third", "", lambda screen: 3, line="slow")
    after = jobs.start("after", "", lambda screen: second.result + 1, second)
    assert third.finished.wait(20) and third.result == 3
    assert not second.finished.is_set() and second.state == "waiting"
    release.set()
    assert after.finished.wait(20) and after.result == 3 and first.result
    assert jobs.start("second", "", lambda screen: 99) is second


def test_what_waits_for_work_that_fails_fails_alike_and_is_begun_again_later() -> None:
    now = [0.0]
    jobs = Jobs(clock=lambda: now[0])

    def fail(screen: Screen) -> None:
        raise BadInput("no room")

    first = jobs.start("first", "", fail)
    after = jobs.start("after", "", lambda screen: 1, first)
    assert after.finished.wait(20) and (after.state, after.error) == ("failed", "no room")
    assert jobs.start("first", "", fail) is first
    now[0] = 60.0
    again = jobs.start("first", "", lambda screen: 7)
    assert again.finished.wait(20) and again.result == 7


def test_stopping_ends_work_at_its_next_report_and_what_waits_for_it() -> None:
    jobs, begun = Jobs(), threading.Event()

    def work(screen: Screen) -> None:
        with screen.progress("counting", None, "numbers") as task:
            begun.set()
            while True:
                task.advance()

    endless = jobs.start("endless", "", work)
    waiting = jobs.start("waiting", "", lambda screen: 1, endless)
    assert begun.wait(20)
    jobs.stop()
    assert endless.finished.wait(20) and "the server ends" in endless.error
    assert waiting.finished.wait(20) and waiting.state == "failed"
