"""Decisions: none lost, none counted twice, whatever happens."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import labelling
from labelling import decision
from striate.app.labelling.ledger import FILE, Ledger
from striate.app.labelling.verdicts import verdict, verdicts
from striate.errors import BadInput, StriateError


def test_what_was_added_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    rows = [decision(3), decision(4, "reject"), decision(5, "ask", labeller="bert")]
    with Ledger(tmp_path) as ledger:
        assert ledger.add(rows) == 3
        before = ledger.answers("cat", "first")
    with Ledger(tmp_path, writing=False) as again:
        assert again.answers("cat", "first") == before
        assert list(again.all()) == rows
        assert again.tally("cat", "first") == {"keep": 1, "reject": 1, "ask": 1}


def test_a_repeated_token_counts_once(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        one = decision(1)
        assert (ledger.add([one]), ledger.add([one, decision(2)]), ledger.count) == (1, 1, 2)


def test_the_last_answer_stands_and_undoing_takes_it_back(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.add([decision(1), decision(1, "reject"), decision(2), decision(1, "keep", labeller="bert")])
        assert {who: one.answer for who, one in ledger.answers("cat", "first")[1].items()} == {"anna": "reject", "bert": "keep"}
        ledger.add([decision(1, "undo"), decision(2, "undo")])
        assert {p: list(by) for p, by in ledger.answers("cat", "first").items()} == {1: ["bert"]}
        assert ledger.tally("cat", "first") == {"keep": 1, "reject": 0, "ask": 0}
        assert ledger.count == 6


def test_one_server_writes_a_store(tmp_path: Path) -> None:
    with Ledger(tmp_path), pytest.raises(BadInput, match="another server"):
        Ledger(tmp_path)
    Ledger(tmp_path).close()


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all, but long enough to look at" * 30)
    with pytest.raises(BadInput, match=FILE):
        Ledger(tmp_path)


def test_a_full_disk_loses_nothing_that_was_saved(tmp_path: Path) -> None:
    """SQLite told that its file may not grow, as a full disk tells it."""
    with Ledger(tmp_path) as ledger:
        ledger.add([decision(1)])
        pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
        ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
        many = [decision(i, labeller="x" * 60) for i in range(2000)]
        with pytest.raises(StriateError, match="not saved"):
            ledger.add(many)
        assert ledger.count == 1 and ledger.tally("cat", "first")["keep"] == 1
        ledger._connection.execute("PRAGMA max_page_count = 1000000")
        # The page sends the same answers again.
        assert ledger.add(many) == 2000
    with Ledger(tmp_path, writing=False) as again:
        assert again.count == 2001


def _killed(folder: Path, rounds: int) -> None:
    acknowledged = folder / "acknowledged.txt"
    acknowledged.touch()
    for seed in range(rounds):
        places = f"Path({str(folder)!r}), Path({str(acknowledged)!r})"
        call = f"import labelling; from pathlib import Path; labelling.decide_for_ever({places}, {seed})"
        process = subprocess.Popen([sys.executable, "-c", call], cwd=Path(labelling.__file__).parent)
        before, started = acknowledged.stat().st_size, time.monotonic()
        while acknowledged.stat().st_size == before and time.monotonic() - started < 60:
            time.sleep(0.002)
        time.sleep(0.003 * (seed % 17))
        process.kill()
        process.wait()
    promised = acknowledged.read_text().split()
    assert len(promised) > rounds
    with Ledger(folder) as ledger:
        kept = [one.token for one in ledger.all()]
        assert ledger._connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert set(promised) <= set(kept)
    assert len(kept) == len(set(kept))
    # At most the one decision that was under way at each kill was written without its writer's knowing.
    assert len(kept) - len(promised) <= rounds


def test_kill_9_loses_no_acknowledged_decision(tmp_path: Path) -> None:
    _killed(tmp_path, 4)


@pytest.mark.science
@pytest.mark.timeout(900)
def test_kill_9_a_hundred_times_loses_no_acknowledged_decision(tmp_path: Path) -> None:
    _killed(tmp_path, 100)


def test_other_programs_may_read_while_the_server_writes(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.add([decision(1)])
        assert sqlite3.connect(tmp_path / FILE).execute("SELECT count(*) FROM decisions").fetchone() == (1,)


@pytest.mark.parametrize(
    ("first", "second", "settled", "expected"),
    [
        ("", "", "", None), ("k", "", "", "kept"), ("r", "", "", "rejected"), ("a", "", "", "disputed"),
        ("kr", "", "", "disputed"),
        ("k", "k", "", "verified"), ("k", "r", "", "disputed"), ("r", "k", "", "disputed"), ("r", "r", "", "rejected"),
        ("k", "a", "", "disputed"), ("k", "r", "k", "verified"), ("k", "r", "r", "rejected"), ("k", "r", "a", "disputed"),
        ("kr", "", "k", "verified"), ("k", "kk", "", "verified"), ("k", "kr", "", "disputed"),
    ],
)  # fmt: skip
def test_verdicts(first: str, second: str, settled: str, expected: str | None) -> None:
    """The table of all cases: nothing doubtful is kept."""
    words = {"k": "keep", "r": "reject", "a": "ask"}
    stages = [[decision(0, words[one], labeller=f"p{i}") for i, one in enumerate(text)] for text in (first, second, settled)]
    assert verdict(*stages) == expected


def test_a_picture_kept_in_two_classes_is_disputed_in_both(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.add([decision(1), decision(1, name="dog"), decision(2), decision(3, name="dog"), decision(3, "reject")])
        found = verdicts(ledger)
        assert found.twice == {1} and found.labels == {2: "cat", 3: "dog"}
        assert found.by_class["cat"][1] == found.by_class["dog"][1] == "disputed"
        ledger.add([decision(1, "reject", labeller="chief", name="dog", stage="settle")])
        assert verdicts(ledger).labels == {1: "cat", 2: "cat", 3: "dog"}
        assert verdicts(ledger, verified_only=True).labels == {}
