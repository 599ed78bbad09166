"""Steps of a replica's own between two pulls, by the shards' rule: w <- w - alpha g (Dean et al. 2012, algorithm 7.1).

Without them gradients that are sent every n steps are n gradients at one place: at every 16th step a small sparse autoencoder's
loss is 127 after 400 minibatches where it is 68 exchanging each time, and 76 with them (`striate reproduce le2012`, figure 9).
What comes from the shards takes their place.
"""

from __future__ import annotations

import math

from torch import Tensor

from striate.cluster.flat import Flat
from striate.cluster.rules import RULES
from striate.cluster.shards import keep_norms
from striate.train.updates import Rates


class Ahead:
    """A replica's own copy of what the shards would do with its last gradient.

    Args:
        rule: the shards', a name in `striate.cluster.rules`.
        flat: the learner's parameters, which move.
        push_every: steps in an update.
        rates: of its steps; None: the learner's own, as they are told.

    A rule whose steps grow shorter with the gradients it has seen has seen fewer here than there: steps are shortened as if all
    that the shards have seen were like those seen here.
    """

    def __init__(self, rule: str, flat: Flat, push_every: int, rates: Rates | None = None) -> None:
        self._rule, self._flat, self._push_every = RULES[rule], flat, push_every
        self._rows = flat.rows(slice(0, flat.size))
        self._values = flat.gather(flat.new())
        self._memories = [flat.new() for _ in range(self._rule.memories)]
        self._rates, self._seen, self._seen_there = rates, 0, 0

    def take_in(self, values: Tensor, updates: int) -> None:
        """Go on from the shards' parameters, after so many updates."""
        self._values.copy_(values)
        self._seen_there = updates * self._push_every

    def step(self, gradients: Tensor, rates: Rates) -> None:
        """Down a flat gradient; the learner's parameters are changed."""
        self._seen += 1
        self._seen_there = max(self._seen_there + 1, self._seen)
        rates = self._rates or rates
        if self._rule.fades:
            rates = Rates(rates.learning_rate * math.sqrt(self._seen / self._seen_there), rates.momentum)
        self._rule.apply(self._values, self._memories, gradients, rates)
        keep_norms(self._values, self._rows)
        self._flat.scatter(self._values)


def rule_ahead(rule: str, rounds: bool) -> str:
    """By which rule a replica goes on between pulls, given the shards'; empty where it does not, or has nothing to wait for."""
    return rule if RULES[rule].takes_gradients and not rounds else ""
