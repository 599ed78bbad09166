"""DistBelief's optimisers, raced (Dean et al. 2012, figures 4 and 5): time to one loss by replicas and by ways to exchange.

Machines are imagined, gradients and pictures are not (`striate.app.reproduce.race`). Their networks were told what is to be
seen; ours is a sparse autoencoder, which learns from the same pictures as the paper's other figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import takewhile
from typing import Any

import numpy as np

from striate.app.reproduce.finding import Finding
from striate.app.reproduce.race import ENTRANTS, NEAR, Race, Result, Results, Track, grey, kept, races, taken_up
from striate.app.reproduce.stages import Stages
from striate.show import Figure, Table
from striate.show import figures as draw

_ASTRAY = 5.0
_ONE, _OFTEN, _WARM = "synchronous", "Downpour, Adagrad", "Downpour, Adagrad, warm start"


def optimisers(stages: Stages) -> Finding:
    """Figure 9: the race."""
    race = races(small=stages.size == "small")
    told = {"race": asdict(race), "ways": list(ENTRANTS), "store": stages.store.path.name, "pictures": len(stages.store)}

    def run() -> dict[str, Any]:
        track = Track(race, grey(stages.store), stages.screen.say)
        return {"target": track.target, "rows": kept(track.run())}

    found = stages.remember("race", told, run)
    return finding(race, found["target"], taken_up(found["rows"]))


def finding(race: Race, target: float, results: Results) -> Finding:
    """What the results say, beside the paper."""
    alone = _mean(results[NEAR, _ONE, 1].seconds)
    best = {way: min((_mean(results[NEAR, way, count].seconds), count) for count in race.replicas) for way in ENTRANTS}
    many = race.watched
    adagrad, fixed = results[NEAR, _WARM, many], results[NEAR, "Downpour, one rate, warm start", many]
    return Finding(
        "9",
        "Downpour with Adagrad reaches an accuracy soonest, whatever the number of machines; Adagrad and a warm start take its "
        "instability away.",
        f"time to the loss of one replica after {race.minibatches} minibatches, of it: "
        + "; ".join(f"{way}: {_times(alone, seconds)} with {count}" for way, (seconds, count) in best.items())
        + f". With {many} replicas Adagrad's pushes are {adagrad.mean_staleness:.0f} updates stale on average, and "
        + _pictures(_mean(adagrad.images), _mean(results[NEAR, _ONE, 1].images)),
        _mean(adagrad.seconds) < min(alone, _mean(fixed.seconds), _mean(results[NEAR, _OFTEN, many].seconds)),
        (
            Figure(
                "How many times sooner than one replica; machines are imagined, each way at its best rate.",
                draw.curves(_speeds(race, results, alone), "replicas", "times sooner", log=True),
                wide=True,
            ),
            Figure(
                f"Loss by time, {many} replicas, one seed; the dashed line is to be reached.",
                draw.curves(_losses(race, results), "time, in steps of one replica", "loss", target, log=True),
                wide=True,
            ),
            Figure(
                "How stale Downpour's pushes are.",
                draw.curves(_stale(race, results), "updates between pull and push", "share of pushes"),
                wide=True,
            ),
        ),
        (_table(race, results),),
    )


def _mean(values: Sequence[float | None]) -> float:
    """Of seeds; without end where one of them was not done."""
    return math.inf if None in values else float(np.mean([value for value in values if value is not None]))


def _times(one: float, other: float) -> str:
    ratio = one / other
    return f"{ratio:.2g} times as soon" if math.isfinite(other) and ratio else "not reached"


def _pictures(many: float, one: float) -> str:
    return f"take {many / one:.2g} times the pictures" if math.isfinite(many) else "the loss is not reached"


def _speeds(race: Race, results: Results, alone: float) -> dict[str, tuple[list[float], list[float]]]:
    counts = [float(count) for count in race.replicas]
    lines = {"as many times": (counts, counts)}
    for way in ENTRANTS:
        speed = {count: alone / _mean(results[NEAR, way, count].seconds) for count in race.replicas}
        done = [count for count, value in speed.items() if value]
        if done:
            lines[way] = ([float(count) for count in done], [speed[count] for count in done])
    return lines


def _losses(race: Race, results: Results) -> dict[str, tuple[list[float], list[float]]]:
    lines = {}
    for way in ENTRANTS:
        seen = [(seconds, loss) for seconds, loss in results[NEAR, way, race.watched].losses if seconds and math.isfinite(loss)]
        seen = _until_astray(seen)
        lines[way] = ([seconds for seconds, _ in seen], [loss for _, loss in seen])
    return lines


def _until_astray(looks: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """What goes astray is followed until that is plain: its last losses would flatten all others."""
    most = _ASTRAY * looks[0][1] if looks else 0.0
    return list(takewhile(lambda look: look[1] < most, looks))


def _stale(race: Race, results: Results) -> dict[str, tuple[list[float], list[float]]]:
    lines = {}
    for count in race.replicas[1:]:
        counts = results[NEAR, _OFTEN, count].staleness
        total = sum(counts.values())
        lines[f"{count} replicas"] = ([float(value) for value in counts], [one / total for one in counts.values()])
    return lines


def _table(race: Race, results: Results) -> Table:
    header = ["machines", "way", "replicas", "rate", "time", "pictures", "staleness", "models moved a step", "at one's rate"]
    return Table(header, [[place, way, f"{count}", *_cells(one)] for (place, way, count), one in results.items()])


def _cells(one: Result) -> list[str]:
    unchanged = "" if one.unchanged is None else f"{one.unchanged:.0f}"
    spans = [_interval(one.seconds), _interval(one.images)]
    return [f"{one.rate:g}", *spans, f"{one.mean_staleness:.1f}", f"{one.moved:.2f}", unchanged]


def _interval(values: Sequence[float | None]) -> str:
    """Mean, and half of its 95% interval by Student's t."""
    from scipy.stats import t

    done = [value for value in values if value is not None]
    if len(done) < len(values):
        return f"reached by {len(done)} of {len(values)}"
    half = t.ppf(0.975, len(done) - 1) * np.std(done, ddof=1) / len(done) ** 0.5 if len(done) > 1 else math.nan
    return f"{np.mean(done):,.0f} +- {half:,.0f}"


FIGURES: dict[str, Callable[[Stages], Finding]] = {"9": optimisers}
