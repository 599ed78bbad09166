"""Every decision anybody made, in one SQLite file that survives kill -9: who, what, when, how long.

Rows are only ever added. Undoing adds a row, too; so does changing one's mind. A decision is acknowledged after its transaction
was synced (write-ahead log, synchronous FULL). Each carries a token of the page's own making: a page that repeats what it
got no answer for adds nothing. One server writes; anybody may read the file while it does.

Stages: `first` (a labeller looks through what was found), `verify` (a second person, blind to the first answer), `settle`
(somebody decides where they differ).
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from striate.errors import BadInput, StriateError
from striate.files import sole_writer

Stage = Literal["first", "verify", "settle"]
Answer = Literal["keep", "reject", "ask"]
STAGES: tuple[Stage, ...] = ("first", "verify", "settle")
ANSWERS: tuple[Answer, ...] = ("keep", "reject", "ask")
FILE = "labels.sqlite"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY,
    token TEXT NOT NULL UNIQUE,
    at REAL NOT NULL,
    labeller TEXT NOT NULL,
    class TEXT NOT NULL,
    stage TEXT NOT NULL,
    position INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    answer TEXT NOT NULL,
    seconds REAL NOT NULL
);
PRAGMA user_version = 1;
"""
_COLUMNS = "token, at, labeller, class, stage, position, sha256, answer, seconds"


@dataclass(frozen=True)
class Decision:
    """One answer; `undo` takes the labeller's earlier answer on the same picture back.

    Attributes:
        token: made by the page, different for each.
        at: seconds since 1970.
        labeller: a name.
        name: of the class.
        stage: first, verify or settle.
        position: of the picture in the store.
        sha256: of its pixels.
        answer: keep, reject, ask, or undo.
        seconds: it took.
    """

    token: str
    at: float
    labeller: str
    name: str
    stage: Stage
    position: int
    sha256: str
    answer: str
    seconds: float


Standing = dict[tuple[str, Stage], dict[int, dict[str, Decision]]]
"""(class, stage) -> position -> labeller -> the answer that stands."""


class Ledger:
    """The decisions on a store's pictures.

    Args:
        store: the store's directory.
        writing: take the file for writing; one process at a time.

    Raises:
        BadInput: another process writes, or the file is no ledger.
    """

    def __init__(self, store: Path, writing: bool = True) -> None:
        self.file = store / FILE
        busy = f"{store} is being labelled by another server: open its page, or stop it"
        self._lock_file = sole_writer(store / ".labels.lock", busy) if writing else None
        self._mutex = threading.RLock()
        self._standing: Standing = {}
        self._tokens: set[str] = set()
        self._tallies: dict[tuple[str, Stage], Counter[str]] = {}
        self.count = 0
        try:
            self._connection = self._open(writing)
            for row in self._connection.execute(f"SELECT {_COLUMNS} FROM decisions ORDER BY id"):
                self._take(Decision(*row))
        except sqlite3.DatabaseError as error:
            self.close()
            raise BadInput(f"{self.file} cannot be read as a ledger of decisions: {error}") from None

    def _open(self, writing: bool) -> sqlite3.Connection:
        if not writing and not self.file.exists():
            return sqlite3.connect(":memory:").executescript(_SCHEMA).connection
        connection = sqlite3.connect(self.file, check_same_thread=False, timeout=10)
        if writing:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, 1):
                raise BadInput(f"{self.file} is of version {version}, this Striate reads version 1")
            connection.executescript(_SCHEMA)
        return connection

    def close(self) -> None:
        """Let another process write."""
        if hasattr(self, "_connection"):
            self._connection.close()
        if self._lock_file is not None:
            self._lock_file.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, decisions: Sequence[Decision]) -> int:
        """Write decisions in one synced transaction; those whose token is there already are passed over.

        Returns:
            How many were new.

        Raises:
            StriateError: they could not be written (a full disk, say); none of them was.
        """
        with self._mutex:
            new = [one for one in decisions if one.token not in self._tokens]
            try:
                with self._connection:
                    self._connection.executemany(
                        f"INSERT INTO decisions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        [(d.token, d.at, d.labeller, d.name, d.stage, d.position, d.sha256, d.answer, d.seconds) for d in new],
                    )
            except sqlite3.Error as error:
                raise StriateError(f"not saved: {error} ({self.file}); make room, nothing that was saved is lost") from None
            for one in new:
                self._take(one)
            return len(new)

    def _take(self, one: Decision) -> None:
        self._tokens.add(one.token)
        self.count += 1
        answers = self._standing.setdefault((one.name, one.stage), {}).setdefault(one.position, {})
        tally = self._tallies.setdefault((one.name, one.stage), Counter())
        if one.labeller in answers:
            tally[answers[one.labeller].answer] -= 1
        if one.answer != "undo":
            tally[one.answer] += 1
        if one.answer == "undo":
            answers.pop(one.labeller, None)
            if not answers:
                del self._standing[one.name, one.stage][one.position]
        else:
            answers[one.labeller] = one

    @contextmanager
    def reading(self) -> Iterator[Standing]:
        """What stands now, unchanged while it is looked at."""
        with self._mutex:
            yield self._standing

    def answers(self, name: str, stage: Stage) -> dict[int, dict[str, Decision]]:
        """Position -> labeller -> the answer that stands, a copy."""
        with self._mutex:
            return {position: dict(by) for position, by in self._standing.get((name, stage), {}).items()}

    def tally(self, name: str, stage: Stage) -> dict[str, int]:
        """How many of each answer stand."""
        with self._mutex:
            counts = self._tallies.get((name, stage), Counter())
            return {answer: counts[answer] for answer in ANSWERS}

    def classes(self) -> list[str]:
        """Names of classes that anybody decided on."""
        with self._mutex:
            return sorted({name for name, _ in self._standing})

    def all(self) -> Iterable[Decision]:
        """Every row in order, undone ones included."""
        with self._mutex:
            return [Decision(*row) for row in self._connection.execute(f"SELECT {_COLUMNS} FROM decisions ORDER BY id")]
