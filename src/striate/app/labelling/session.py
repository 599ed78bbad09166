"""Labelling under way: a store, its classes, everybody's decisions, and the order that pictures come in. Knows nothing of HTTP.

Scores are fitted again behind the labellers' backs (`refit`), when enough was decided since; a page never waits for them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from striate.app.labelling.classes import LabelClass, positions_by_term, terms_of
from striate.app.labelling.ledger import ANSWERS, STAGES, Decision, Ledger, Stage
from striate.app.labelling.queue import Queue
from striate.app.labelling.ranking import ORDERS, Order, Ranker, middle_of
from striate.app.labelling.verdicts import Verdicts, verdicts
from striate.draws import generator
from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.aside import aside_mask
from striate.images.store import read_rows

# Scores are worth fitting again after so many decisions.
_REFIT_AFTER = 50
_LONGEST_S = 60.0
_LONGEST_NAME = 60


class Changed(BadInput):
    """The store is not the one that this server was started on."""


@dataclass(frozen=True)
class Given:
    """One answer as the page sends it."""

    token: str
    position: int
    answer: str
    seconds: float


@dataclass
class _Class:
    """What is worked out of one class."""

    own: np.ndarray
    scores: np.ndarray | None = None
    middle: float = 0.5
    fitted_on: int = -1


class Session:
    """Everything that a page of labels asks for.

    Args:
        store: the pictures.
        classes: what is to be labelled.
        ledger: the decisions.
        review: shares of kept and of rejected pictures that a second person sees.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: ImageStore,
        classes: Sequence[LabelClass],
        ledger: Ledger,
        review: tuple[float, float] = (1.0, 0.2),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.classes, self.ledger, self.review = store, {one.name: one for one in classes}, ledger, review
        self._clock = clock
        self._mutex = threading.RLock()
        self.ranker: Ranker | None = None
        self._digests: list[str] = read_rows(store.path, "meta", ["sha256"])["sha256"].to_pylist()
        self._stamp = _stamp(store)
        self._aside = aside_mask(store)
        self._terms = terms_of(store)
        # A keyed draw a picture: who is in the sample that is looked at again does not depend on when it was kept.
        self._sampled = generator(0, "review").random(len(store))
        self._worked: dict[str, _Class] = {}
        by_term = positions_by_term(self._terms)
        for one in classes:
            own = one.positions(by_term)
            self._worked[one.name] = _Class(own[~self._aside[own]])
        self._queues: dict[tuple[str, Stage], Queue] = {}
        self._verdicts: tuple[int, Verdicts] | None = None

    @property
    def aside(self) -> int:
        """How many pictures are set aside."""
        return int(self._aside.sum())

    def _queue(self, name: str, stage: Stage) -> Queue:
        """Made when it is first asked for: a queue holds arrays of the store's length."""
        with self._mutex:
            if (name, stage) not in self._queues:
                self._queues[name, stage] = queue = Queue(len(self.store), self._clock)
                queue.decide(list(self.ledger.answers(name, stage)), True)
            return self._queues[name, stage]

    def verdicts(self) -> Verdicts:
        """What all decisions come to; worked out once for every state of the ledger."""
        with self._mutex:
            if self._verdicts is None or self._verdicts[0] != self.ledger.count:
                self._verdicts = self.ledger.count, verdicts(self.ledger)
            return self._verdicts[1]

    def known(self, name: str) -> LabelClass:
        """A class by name.

        Raises:
            BadInput: there is none.
        """
        if name not in self.classes:
            raise BadInput(f"no class {name[:80]!r} is being labelled here")
        return self.classes[name]

    def term(self, position: int) -> str:
        """The search term a picture was found under."""
        return self._terms[position] or ""

    # Pages ---------------------------------------------------------------------------------------------------------

    def page(
        self,
        labeller: str,
        name: str,
        stage: Stage = "first",
        order: Order = "found",
        count: int = 40,
        wide: bool = False,
        beside: Sequence[int] = (),
        fresh: bool = False,
    ) -> list[int]:
        """Positions of the pictures a labeller sees next.

        Args:
            labeller: who asks.
            name: the class.
            stage: first, verify or settle.
            order: see `ranking.ORDERS`; verifying and settling have their own.
            count: at most so many.
            wide: also pictures that were not found under the class's terms.
            beside: positions on their way to this labeller already.
            fresh: give back first what this labeller was lent: another order was chosen.

        Raises:
            BadInput: no such class, stage, order, or an empty name.
            Changed: the store was changed.
        """
        check_labeller(labeller)
        self.known(name)
        if stage not in STAGES or order not in ORDERS:
            raise BadInput(f"no stage {stage!r} or order {order!r}: there are {', '.join(STAGES)}; {', '.join(ORDERS)}")
        self.check_store()
        queue = self._queue(name, stage)
        if fresh:
            queue.release(labeller)
        waiting = self._order(labeller, name, stage, order, wide)
        taken = queue.take(labeller, max(1, min(count, 500)), waiting, np.array(beside, dtype=np.int64))
        return [int(position) for position in taken]

    def _order(self, labeller: str, name: str, stage: Stage, order: Order, wide: bool) -> np.ndarray:
        if stage == "verify":
            return self.to_verify(name, labeller)
        if stage == "settle":
            return np.array([position for position, _ in self.disputed(name)], dtype=np.int64)
        worked = self._worked[name]
        candidates = worked.own
        if wide:
            candidates = np.concatenate([worked.own, np.flatnonzero(~self._promised(name) & ~self._aside)])
        if order == "found" or self.ranker is None:
            return candidates
        if worked.scores is None:
            self._fit(name)
        assert worked.scores is not None
        return self.ranker.order(order, candidates, worked.scores, worked.middle)

    def to_verify(self, name: str, labeller: str = "") -> np.ndarray:
        """Positions that a second person is to see, in a drawn order; of one labeller's, only what others decided first."""
        kept, rejected = self.review
        chosen = [
            position
            for position, answers in self.ledger.answers(name, "first").items()
            if labeller not in answers
            and self._sampled[position] < (kept if any(a.answer == "keep" for a in answers.values()) else rejected)
        ]
        found = np.array(chosen, dtype=np.int64)
        return found[np.argsort(self._sampled[found], kind="stable")]

    def disputed(self, name: str) -> list[tuple[int, list[Decision]]]:
        """Pictures on which answers differ, or that are kept in two classes, with all answers of this class."""
        found = self.verdicts().by_class.get(name, {})
        stages = [self.ledger.answers(name, stage) for stage in STAGES]
        return [
            (position, [one for stage in stages for one in stage.get(position, {}).values()])
            for position, verdict in sorted(found.items())
            if verdict == "disputed"
        ]

    # Decisions -----------------------------------------------------------------------------------------------------

    def decide(self, labeller: str, name: str, stage: Stage, given: Sequence[Given]) -> int:
        """Write answers down; returns when they are safe.

        Returns:
            How many were new.

        Raises:
            BadInput: an answer, position or class there is not.
            Changed: the store was changed.
            StriateError: they could not be written; none of them was.
        """
        check_labeller(labeller)
        self.known(name)
        if stage not in STAGES:
            raise BadInput(f"no stage {stage!r}: there are {', '.join(STAGES)}")
        self.check_store()
        now = self._clock()
        rows = []
        for number, one in enumerate(given):
            if one.answer not in (*ANSWERS, "undo") or not 0 <= one.position < len(self.store) or not 8 <= len(one.token) <= 64:
                raise BadInput(
                    f"no answer {one.answer[:20]!r} on picture {one.position}: expected one of {', '.join(ANSWERS)}, undo"
                )
            seconds = min(max(float(one.seconds), 0.0), _LONGEST_S)
            digest = self._digests[one.position]
            # Answers of one request are apart by less than the clock tells, and in order.
            at = now + 1e-6 * number
            rows.append(Decision(one.token, at, labeller, name, stage, one.position, digest, one.answer, seconds))
        added = self.ledger.add(rows)
        standing = self.ledger.answers(name, stage)
        positions = np.array([one.position for one in given], dtype=np.int64)
        answered = np.array([int(position) in standing for position in positions], dtype=bool)
        queue = self._queue(name, stage)
        queue.decide(positions[answered], True)
        queue.decide(positions[~answered], False)
        return added

    def last(self, labeller: str, name: str, stage: Stage) -> int | None:
        """The picture that a labeller answered on last, of what stands."""
        mine = [(by[labeller].at, position) for position, by in self.ledger.answers(name, stage).items() if labeller in by]
        return max(mine)[1] if mine else None

    # Progress ------------------------------------------------------------------------------------------------------

    def progress(self, name: str) -> dict[str, int]:
        """Counts of one class."""
        found: dict[str, int] = {"kept": 0, "verified": 0, "rejected": 0, "disputed": 0}
        for one in self.verdicts().by_class.get(name, {}).values():
            found[one] += 1
        worked = self._worked[name]
        decided = self.ledger.answers(name, "first")
        left = len(worked.own) - int(np.isin(worked.own, list(decided)).sum())
        return {**found, "found": len(worked.own), "left": left}

    def tally(self, name: str, stage: Stage) -> dict[str, int]:
        """Counts for the page that is being worked on: answers that stand, and pictures under the class's terms that wait."""
        waiting = self._queue(name, "first").remaining(self._worked[name].own)
        return {**self.ledger.tally(name, stage), "left": waiting}

    # Scores --------------------------------------------------------------------------------------------------------

    def refit(self) -> list[str]:
        """Fit anew the scores of classes that somebody looks at and on which enough was decided; returns their names."""
        stale = [
            name
            for name, worked in self._worked.items()
            if worked.scores is not None and abs(len(self.ledger.answers(name, "first")) - worked.fitted_on) >= _REFIT_AFTER
        ]
        for name in stale:
            self._fit(name)
        return stale

    def _promised(self, name: str) -> np.ndarray:
        promised = np.zeros(len(self.store), dtype=bool)
        promised[self._worked[name].own] = True
        return promised

    def _fit(self, name: str) -> None:
        assert self.ranker is not None
        worked, promised, answers = self._worked[name], self._promised(name), self.ledger.answers(name, "first")
        kept, rejected = (
            np.array([p for p, by in answers.items() if all(a.answer == answer for a in by.values())], dtype=np.int64)
            for answer in ("keep", "reject")
        )
        scores = self.ranker.scores(promised, kept, rejected)
        worked.middle = middle_of(scores, kept, rejected, promised)
        worked.scores, worked.fitted_on = scores, len(answers)

    # The store -----------------------------------------------------------------------------------------------------

    def check_store(self) -> None:
        """Make sure that the pictures are still those that the page shows.

        Raises:
            Changed: they are not, or there are more.
        """
        stamp = _stamp(self.store)
        if stamp == self._stamp:
            return
        with self._mutex:
            try:
                digests = read_rows(self.store.path, "meta", ["sha256"])["sha256"].to_pylist()
            except BadInput as error:
                raise Changed(f"the store was changed while it was labelled: {error}") from None
            if digests[: len(self._digests)] != self._digests:
                raise Changed(f"{self.store.path} holds other pictures now: nothing was saved; start `striate label` again")
            # Pictures were added: what the page shows is still right, the new ones wait for the next start.
            self._stamp = stamp


def check_labeller(name: str) -> None:
    """Refuse a name that says nothing.

    Raises:
        BadInput: it is empty, or too long.
    """
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise BadInput(f"a labeller's name has 1 to {_LONGEST_NAME} printable characters, found {name[:80]!r}")


def _stamp(store: ImageStore) -> tuple[Any, ...]:
    """What changes when a store's table does."""
    found: list[tuple[str, int, int]] = []
    for file in [store.path / "meta.parquet", *sorted((store.path / "parts").glob("*.parquet"))]:
        try:
            known = file.stat()
        except OSError:
            continue
        found.append((file.name, known.st_mtime_ns, known.st_size))
    return tuple(found)
