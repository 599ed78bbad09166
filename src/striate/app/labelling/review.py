"""After the first pass: do people agree, how many labels are wrong, by class and by labeller, and which look wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.app.labelling.ledger import Decision, Ledger
from striate.app.labelling.verdicts import Verdicts
from striate.errors import BadInput
from striate.measure.agreement import ErrorRate, Kappa, cohen_kappa, error_rate, fleiss_kappa

if TYPE_CHECKING:
    from striate.app.labelling.session import Session


@dataclass(frozen=True)
class ClassReview:
    """One class.

    Attributes:
        name: of it.
        kept, verified, rejected, disputed: pictures.
        looked_at: pictures that a second person saw.
        kappa: of first and second answers, weighted as if all had been seen (Cohen).
        everybody: of pictures that three or more people judged, as many for each (Fleiss); None where there are none.
        errors: share of kept labels that the second look, or whoever settled it, found wrong.
        missed: share of rejected pictures that should have been kept.
    """

    name: str
    kept: int
    verified: int
    rejected: int
    disputed: int
    looked_at: int
    kappa: Kappa
    everybody: Kappa | None
    errors: ErrorRate
    missed: ErrorRate


@dataclass(frozen=True)
class LabellerReview:
    """One person's first answers.

    Attributes:
        name: of the labeller.
        decisions: answers that stand, in any stage.
        seconds: median time an answer took.
        errors: share of what they kept that was found wrong.
    """

    name: str
    decisions: int
    seconds: float
    errors: ErrorRate


@dataclass(frozen=True)
class Review:
    """All of it."""

    classes: Sequence[ClassReview]
    labellers: Sequence[LabellerReview]
    suspects: Sequence[dict[str, Any]]
    why_no_suspects: str


def review(session: Session) -> Review:
    """Everything the review page shows."""
    classes = [review_class(session.ledger, name, session.review, session.verdicts()) for name in session.classes]
    suspects, why = _suspects(session)
    return Review(classes, review_labellers(session.ledger), suspects, why)


def _second_opinion(second: dict[str, Decision], settled: dict[str, Decision]) -> bool | None:
    """Whether a picture belongs, as far as somebody beyond the first labeller said: who settled it, else all verifiers."""
    last = max(settled.values(), key=lambda one: one.at, default=None)
    if last is not None and last.answer != "ask":
        return last.answer == "keep"
    answers = {one.answer for one in second.values()} - {"ask"}
    return answers == {"keep"} if len(answers) == 1 else None


def review_class(ledger: Ledger, name: str, sampled: tuple[float, float], judged_so: Verdicts) -> ClassReview:
    """One class.

    Args:
        ledger: the decisions.
        name: of the class.
        sampled: shares of kept and of rejected pictures that a second person sees.
        judged_so: what all decisions come to.
    """
    first, second, settled = (ledger.answers(name, stage) for stage in ("first", "verify", "settle"))
    pairs: list[tuple[bool, bool, float]] = []
    wrong = {True: 0, False: 0}
    judged = {True: 0, False: 0}
    counts: list[tuple[int, int]] = []
    for position, answers in first.items():
        own = {one.answer for one in answers.values()}
        everyone = [one.answer for one in (*answers.values(), *second.get(position, {}).values())]
        if len(everyone) >= 3 and "ask" not in everyone:
            counts.append((everyone.count("keep"), everyone.count("reject")))
        if own not in ({"keep"}, {"reject"}):
            continue
        kept = own == {"keep"}
        checked = _second_opinion(second.get(position, {}), {})
        if checked is not None:
            pairs.append((kept, checked, 1 / max(sampled[0] if kept else sampled[1], 1e-9)))
        final = _second_opinion(second.get(position, {}), settled.get(position, {}))
        if final is not None:
            judged[kept] += 1
            wrong[kept] += final != kept
    found = list(judged_so.by_class.get(name, {}).values())
    same = [row for row in counts if sum(row) == 3]
    return ClassReview(
        name=name,
        kept=found.count("kept"),
        verified=found.count("verified"),
        rejected=found.count("rejected"),
        disputed=found.count("disputed"),
        looked_at=len(pairs),
        kappa=cohen_kappa([a for a, _, _ in pairs], [b for _, b, _ in pairs], [w for _, _, w in pairs]),
        everybody=fleiss_kappa(np.array(same)) if same else None,
        errors=error_rate(wrong[True], judged[True]),
        missed=error_rate(wrong[False], judged[False]),
    )


def review_labellers(ledger: Ledger) -> list[LabellerReview]:
    """Everybody who answered, by name."""
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    wrong: defaultdict[str, int] = defaultdict(int)
    judged: defaultdict[str, int] = defaultdict(int)
    with ledger.reading() as standing:
        for (name, stage), by_position in standing.items():
            for position, answers in by_position.items():
                for one in answers.values():
                    seconds[one.labeller].append(one.seconds)
                if stage != "first":
                    continue
                second, settled = (standing.get((name, after), {}).get(position, {}) for after in ("verify", "settle"))
                final = _second_opinion(second, settled)
                for one in answers.values():
                    if one.answer == "keep" and final is not None:
                        judged[one.labeller] += 1
                        wrong[one.labeller] += not final
    return [
        LabellerReview(name, len(times), float(np.median(times)), error_rate(wrong[name], judged[name]))
        for name, times in sorted(seconds.items())
    ]


def _suspects(session: Session) -> tuple[list[dict[str, Any]], str]:
    """Labels that the model doubts, most suspect first; or why there are none."""
    import torch

    from striate.measure.suspects import find_suspects

    if session.ranker is None:
        return [], "start with --features RUN, and labels that a model doubts are listed here"
    names = list(session.classes)
    labels = session.verdicts().labels
    positions = np.array(sorted(labels), dtype=np.int64)
    numbers = np.array([names.index(labels[int(p)]) for p in positions if labels[int(p)] in session.classes], dtype=np.int64)
    positions = np.array([p for p in positions if labels[int(p)] in session.classes], dtype=np.int64)
    try:
        found = find_suspects(session.ranker.components[torch.from_numpy(positions)], numbers, len(names))
    except BadInput as error:
        return [], str(error)
    return [
        {
            "position": int(positions[row]),
            "label": names[numbers[row]],
            "guess": names[found.guess[row]],
            "belief": float(found.belief[row]),
        }
        for row in found.order[: max(60, int(found.doubted.sum()))]
        if found.guess[row] != numbers[row]
    ], ""
