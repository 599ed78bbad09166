"""A race of ways to exchange: the same small network on the same pictures, by more and more replicas, to the same loss.

Everything is real but the clock (`striate.cluster.virtual`). Each way has its best learning rate at every number of replicas,
found on a seed of its own by doubling and halving; times are of other seeds. So what is compared is ways, not luck with a rate.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from striate.app.exchanging import chosen_rule, intervals, rates, warm_start
from striate.app.groups import ExchangeGroup
from striate.cluster.ahead import rule_ahead
from striate.cluster.replica import Pace
from striate.cluster.virtual import Course, Machines, Team, train
from striate.draws import Draws
from striate.errors import BadInput
from striate.images import ImageStore
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.models.sparse.net import stage_terms
from striate.models.sparse.shapes import costs
from striate.train import Batches, MemoryRows
from striate.train.sparse import SparseLearner, SparseSettings
from striate.train.updates import Rates

_BATCH, _HELD, _MOST_PICTURES, _EDGE = 16, 256, 10_000, 24
_NET = NetSpec((1, _EDGE, _EDGE), (StageSpec(size=8, stride=4, maps=8, pool=3, norm=0),))
# How many times one replica's pictures, for each of the first few, a way may take before it counts as lost; looks on the way.
_PATIENCE, _FEW, _LOOKS = 2, 4, 40
_TRIES, _SHARDS = 8, 8


@dataclass(frozen=True)
class Entrant:
    """One way.

    Attributes:
        exchange: as a recipe has it.
        rate: to begin looking for the best one at.
        own_steps: whether replicas step between pulls, where the rule is for that.
    """

    exchange: ExchangeGroup
    rate: float = 0.04
    own_steps: bool = True


def _downpour(rule: str, warm: int, every: int = 1, rate: float = 0.04, own_steps: bool = True) -> Entrant:
    keys = {"rule": rule, "warm_start_steps": warm, "pull_every": every, "push_every": every}
    return Entrant(ExchangeGroup.model_validate(keys), rate, own_steps)


NEAR, SLOW, UNEQUAL = "a fast network", "a network 25 times slower", "an eighth of all replicas three times slower"
# Minibatches of a warm start.
_WARM = 20
ENTRANTS = {
    "synchronous": Entrant(ExchangeGroup(mode="synchronous")),
    "Downpour, one rate": _downpour("sgd", 0, rate=0.004),
    "Downpour, one rate, warm start": _downpour("sgd", _WARM, rate=0.004),
    "Downpour, Adagrad": _downpour("adagrad", 0),
    "Downpour, Adagrad, warm start": _downpour("adagrad", _WARM),
    "the same, every 4th step": _downpour("adagrad", _WARM, 4),
    "the same, every 16th step": _downpour("adagrad", _WARM, 16),
    "the same, without steps of its own": _downpour("adagrad", _WARM, 16, own_steps=False),
    "local SGD, every 16th step": Entrant(ExchangeGroup(mode="local", push_every=16)),
    "DiLoCo, every 16th step": Entrant(ExchangeGroup(mode="diloco", push_every=16)),
}


@dataclass(frozen=True)
class Race:
    """Where it is run.

    Attributes:
        minibatches: that one replica learns from until it has the loss that is to be reached.
        replicas: numbers of them, from 1 up.
        seeds: of the start, the order of pictures and the length of steps; 0 is for finding rates.
        machines: by what they are called; rates are found on the first.
        watched: number of replicas that all machines are tried with, and whose losses are kept.
    """

    minibatches: int
    replicas: tuple[int, ...]
    seeds: tuple[int, ...]
    machines: Mapping[str, Machines]
    watched: int


@dataclass(frozen=True)
class Result:
    """Of one way with so many replicas on some machines. Times are in steps of one replica.

    Attributes:
        rate: the best one.
        seconds: until the loss was reached, by seed; None where it was not.
        images: pictures that all replicas learned from until then, the same.
        staleness: how often each was.
        moved: whole models that travelled to and from all replicas, a step of one replica.
        losses: (seconds, loss) of the first seed's looks.
        unchanged: seconds at the rate that is best for one replica, seed 0; None where the loss was not reached.
    """

    rate: float
    seconds: list[float | None]
    images: list[float | None]
    staleness: dict[int, int]
    moved: float
    losses: list[tuple[float, float]] = field(default_factory=list)
    unchanged: float | None = None

    @property
    def mean_staleness(self) -> float:
        """Updates between a pull and its push."""
        return sum(value * count for value, count in self.staleness.items()) / max(sum(self.staleness.values()), 1)


Results = dict[tuple[str, str, int], Result]
"""By machines, way and number of replicas."""


def model_bytes() -> int:
    """Of the network that races."""
    return 4 * costs(_NET, _BATCH).parameters


def races(small: bool) -> Race:
    """The race at two sizes. A step is the unit of time; the whole model on its way takes a fiftieth of it, or half."""
    near = Machines(1.0, jitter=0.2, copy_s=0.01, latency_s=0.005, bandwidth=50.0 * model_bytes(), update_s=0.01)
    return Race(
        minibatches=150 if small else 600,
        replicas=(1, 4, 16, 32) if small else (1, 2, 4, 8, 16, 32),
        seeds=(1, 2, 3, 4, 5),
        machines={
            NEAR: near,
            SLOW: replace(near, bandwidth=2.0 * model_bytes(), latency_s=0.1),
            UNEQUAL: replace(near, slow=0.125, slower=3.0),
        },
        watched=16,
    )


def kept(results: Results) -> list[dict[str, Any]]:
    """For a file."""
    return [{"machines": place, "way": way, "replicas": count, **asdict(one)} for (place, way, count), one in results.items()]


def taken_up(rows: Sequence[dict[str, Any]]) -> Results:
    """From a file."""
    found: Results = {}
    for row in rows:
        told = {name: value for name, value in row.items() if name not in ("machines", "way", "replicas")}
        told["staleness"] = {int(value): count for value, count in told["staleness"].items()}
        found[row["machines"], row["way"], row["replicas"]] = Result(**told)
    return found


def grey(store: ImageStore) -> Tensor:
    """A store's first pictures, as `standardised`."""
    if len(store) < 4 * _BATCH:
        raise BadInput(f"a race needs {4 * _BATCH} pictures at least, {store.path} holds {len(store)}")
    return standardised(np.asarray(store[: min(len(store), _MOST_PICTURES)]))


def standardised(pictures: np.ndarray) -> Tensor:
    """Pictures (n, c, h, w) small, grey, each of mean 0 and deviation 1: (n, pixels)."""
    levels = torch.from_numpy(pictures).float().mean(dim=1, keepdim=True)
    rows = functional.interpolate(levels, size=(_EDGE, _EDGE), mode="area").flatten(1)
    rows -= rows.mean(dim=1, keepdim=True)
    return rows / rows.std(dim=1, keepdim=True).clamp_min(1e-3)


class Track:
    """Runs of one race on pictures.

    Args:
        race: see there.
        rows: pictures, (n, pixels); the last are kept apart for judging.
        say: told of each way as it is done.
        ways: who races.
    """

    def __init__(
        self, race: Race, rows: Tensor, say: Callable[[str], None], ways: Mapping[str, Entrant] = MappingProxyType(ENTRANTS)
    ) -> None:
        self._ways, self.net = ways, _NET
        held = min(_HELD, len(rows) // 4)
        self._race, self._say, self._rows, self._held = race, say, MemoryRows(rows[:-held]), rows[-held:]
        self._every, self._first = max(1, race.minibatches // _LOOKS), next(iter(race.machines.values()))
        self.target = self._target()

    def _target(self) -> float:
        """The loss that one replica has after so many minibatches, on seed 0."""
        entrant, count = ENTRANTS["synchronous"], self._race.minibatches
        return self._run(entrant, self._first, 1, entrant.rate, 0, count, -math.inf).looks[-1].value

    def run(self) -> Results:
        """Every way with every number of replicas on the first machines; with the watched number on the others."""
        found: Results = {}
        for way, entrant in self._ways.items():
            best, alone = entrant.rate, None
            for count in self._race.replicas:
                best, tried = self._best_rate(entrant, count, best, alone)
                alone = alone or best
                for place, machines in self._race.machines.items():
                    if machines is self._first or count == self._race.watched:
                        unchanged = tried[alone] if machines is self._first else None
                        found[place, way, count] = self._result(entrant, machines, count, best, unchanged)
                self._say(f"{way}, {count} replicas: {_told(found[NEAR, way, count])}")
        return found

    def _best_rate(self, entrant: Entrant, count: int, start: float, alone: float | None) -> tuple[float, dict[float, Any]]:
        """By doubling and halving; whatever was tried, and the seconds it took."""
        tried: dict[float, tuple[float, float]] = {}

        def score(rate: float) -> tuple[float, float]:
            if rate not in tried:
                course = self._run(entrant, self._first, count, rate, 0)
                reached = course.reached(self.target)
                last = course.looks[-1].value
                tried[rate] = (reached.seconds if reached else math.inf, last if math.isfinite(last) else math.inf)
            return tried[rate]

        best = start
        while len(tried) < _TRIES and (better := min((best, best / 2, best * 2), key=score)) != best:
            best = better
        if alone is not None:
            score(alone)
        return best, {rate: one[0] if math.isfinite(one[0]) else None for rate, one in tried.items()}

    def _result(self, entrant: Entrant, machines: Machines, count: int, rate: float, unchanged: float | None) -> Result:
        courses = [self._run(entrant, machines, count, rate, seed) for seed in self._race.seeds]
        reached = [course.reached(self.target) for course in courses]
        staleness = sum((course.staleness for course in courses), Counter[int]())
        models = sum(course.moved_bytes for course in courses) / model_bytes()
        return Result(
            rate,
            [None if look is None else look.seconds for look in reached],
            [None if look is None else float(look.steps * _BATCH) for look in reached],
            dict(sorted(staleness.items())),
            models / sum(course.looks[-1].steps for course in courses),
            [(look.seconds, look.value) for look in courses[0].looks] if count == self._race.watched else [],
            unchanged,
        )

    def _run(
        self,
        entrant: Entrant,
        machines: Machines,
        count: int,
        rate: float,
        seed: int,
        steps: int | None = None,
        until: float | None = None,
    ) -> Course:
        exchange, total = entrant.exchange, steps or _PATIENCE * min(count, _FEW) * self._race.minibatches

        def make() -> SparseLearner:
            net = SparseNet(_NET).start(Draws(seed))
            return SparseLearner(net, SparseSettings(), lambda step: Rates(rate, 0.0))

        rule, gradients = chosen_rule(exchange, make())
        pace = Pace(
            *intervals(exchange, gradients),
            exchange.mode != "downpour",
            rates(exchange, 0.0, gradients, count),
            rule_ahead(rule, exchange.mode != "downpour") if entrant.own_steps else "",
        )
        warm = warm_start(exchange, gradients, count, total) if count > 1 else 0
        team = Team(count, rule, pace, gradients, _SHARDS, warm_start_steps=warm)
        batches, until = Batches(self._rows, _BATCH, seed), self.target if until is None else until
        return train(team, machines, make, batches.at, total, self._loss, self._every, seed, until)

    @torch.no_grad()
    def _loss(self, learner: SparseLearner) -> float:
        (stage,) = learner.net.stages
        x = learner.net.maps(self._held, torch.float32)
        encoder, decoder = (stage.operand(one, torch.float32) for one in (stage.encoder, stage.decoder_or_encoder))
        terms, _ = stage_terms(stage, x, encoder, decoder, learner.net.pool_floor)
        return float(terms.reconstruction + learner.settings.penalty(0) * terms.sparsity)


def _told(result: Result) -> str:
    reached = [seconds for seconds in result.seconds if seconds is not None]
    said = f"{np.mean(reached):.0f} steps' time" if reached else "the loss was not reached"
    return f"{said}, rate {result.rate:g}, staleness {result.mean_staleness:.1f}"
