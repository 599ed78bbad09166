"""What processes agree on before they begin, and how one's failure reaches all."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from jobs import free_port, rank_environment, run
from striate.cluster import parallel
from striate.cluster.parallel import Share, agreed, any_process, check_alike, from_first, tell_all
from striate.cluster.wire import Broken, reached
from striate.errors import BadInput, StriateError
from training import clean_server


def _caught(call: Callable[[], object]) -> tuple[str, str]:
    try:
        call()
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


def _compare(rank: int, count: int, facts: list[dict[str, str]]) -> tuple[str, str]:
    return _caught(lambda: check_alike(Share(rank, count), facts[rank]))


def test_whoever_differs_is_named_by_all() -> None:
    same = {"version of striate": "1.2", "recipe": "a"}
    assert run(3, _compare, [same] * 3) == [("", "")] * 3
    told = run(3, _compare, [same, same, {**same, "version of striate": "1.1"}])
    assert told == [("BadInput", "process 2 of 3 has another version of striate than the first: 1.1, not 1.2")] * 3
    check_alike(Share(), same)


def _prepare(rank: int, count: int, failing: dict[int, tuple[type, str]]) -> tuple[str, str]:
    def prepare() -> None:
        with agreed(Share(rank, count)):
            if rank in failing:
                kind, why = failing[rank]
                raise kind(why)

    return _caught(prepare)


@pytest.mark.parametrize(
    ("failing", "found"),
    [
        ({}, ("", "")),
        ({1: (BadInput, "no store")}, ("BadInput", "process 1 of 3: no store")),
        ({2: (StriateError, "full")}, ("StriateError", "process 2 of 3: full")),
        (dict.fromkeys(range(3), (BadInput, "bad key")), ("BadInput", "bad key")),
    ],
)
def test_what_keeps_one_from_going_on_stops_all(failing: dict[int, Any], found: tuple[str, str]) -> None:
    assert run(3, _prepare, failing) == [found] * 3


def _talk(rank: int, count: int) -> tuple[list[str], list[float], int]:
    shared = from_first(torch.tensor([float(rank), 5.0]))
    return tell_all("é" * rank), shared.tolist(), any_process(rank)


def test_everybody_hears_everybody() -> None:
    """Texts of any length, none among them; the first's numbers; the most urgent wish."""
    assert run(3, _talk) == [(["", "é", "éé"], [0.0, 5.0], 2)] * 3


def _lose(rank: int, port: int, said: Path) -> None:
    """The last is killed; the first waits for it, the second for the first, which will never send."""
    os.environ.update(rank_environment(rank, 3, port))
    parallel._ROLL_CALL_S = 2.0
    try:
        with parallel.processes(timeout_s=60):
            dist.barrier()
            if rank == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            with reached():
                dist.recv(torch.zeros(3), (rank - 1) % 3)
    except Broken as error:
        said.write_text(f"{error.speaker} {error}")


def test_who_waits_for_a_survivor_comes_to_the_roll_call_too(tmp_path: Path) -> None:
    """So that nobody but the lost one is missed there, and one alone tells the user."""
    port, files = free_port(), [tmp_path / f"{rank}" for rank in range(3)]
    job = [clean_server().Process(target=_lose, args=(rank, port, files[rank])) for rank in range(3)]
    for process in job:
        process.start()
    for process in job:
        process.join(30)
    assert [process.exitcode for process in job] == [0, 0, -signal.SIGKILL]
    first, second = (file.read_text() for file in files[:2])
    assert first.startswith("True process 2 of 3 was killed")
    assert second.startswith("False process 2 of 3 was killed")
