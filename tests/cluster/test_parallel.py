"""What processes agree on before they begin, and how one's failure reaches all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from jobs import run
from striate.cluster.parallel import Share, agreed, any_process, check_alike, from_first, tell_all
from striate.errors import BadInput, StriateError


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
