"""What all decisions on a picture come to: found, kept, verified, rejected, disputed.

A false positive is worse than a false negative: a picture that nobody kept is not kept, one on which two people differ is
disputed until somebody settles it, and one that is kept in two classes is disputed in both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from striate.app.labelling.ledger import Decision, Ledger

Verdict = Literal["kept", "verified", "rejected", "disputed"]


def verdict(first: Iterable[Decision], second: Iterable[Decision], settled: Iterable[Decision]) -> Verdict | None:
    """What the answers on one picture and class come to; None where there are none."""
    last = max(settled, key=lambda one: one.at, default=None)
    if last is not None and last.answer != "ask":
        return "verified" if last.answer == "keep" else "rejected"
    checked = [one.answer for one in second]
    answers = {one.answer for one in first} | set(checked)
    if not answers:
        return None
    if len(answers) > 1 or "ask" in answers:
        return "disputed"
    if answers == {"reject"}:
        return "rejected"
    return "verified" if checked else "kept"


@dataclass(frozen=True)
class Verdicts:
    """Of every picture that anybody decided on.

    Attributes:
        by_class: class -> position -> verdict.
        labels: position -> class, of pictures kept or verified in exactly one class.
        twice: positions kept in more than one class.
    """

    by_class: Mapping[str, Mapping[int, Verdict]]
    labels: Mapping[int, str]
    twice: frozenset[int]


def verdicts(ledger: Ledger, verified_only: bool = False) -> Verdicts:
    """All verdicts.

    Args:
        ledger: the decisions.
        verified_only: label only what a second person confirmed.
    """
    by_class: dict[str, dict[int, Verdict]] = {}
    with ledger.reading() as standing:
        for name in {name for name, _ in standing}:
            first, second, settled = (standing.get((name, stage), {}) for stage in ("first", "verify", "settle"))
            by_class[name] = {}
            for position in {*first, *second, *settled}:
                found = verdict(*(stage.get(position, {}).values() for stage in (first, second, settled)))
                if found is not None:
                    by_class[name][position] = found
    good = ("verified",) if verified_only else ("kept", "verified")
    kept = Counter(position for found in by_class.values() for position, one in found.items() if one in ("kept", "verified"))
    twice = frozenset(position for position, count in kept.items() if count > 1)
    for own in by_class.values():
        own.update({position: "disputed" for position in twice & own.keys() if own[position] in ("kept", "verified")})
    labels = {position: name for name, found in by_class.items() for position, one in found.items() if one in good}
    return Verdicts(by_class, labels, twice)
