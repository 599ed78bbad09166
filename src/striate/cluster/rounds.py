"""Rounds: a shard's update is the mean of one push from every member, applied when the last of them has come.

Synchronous SGD has a step a round, local SGD and DiLoCo many. Who leaves, or is lost, is waited for no longer.
"""

from __future__ import annotations

from collections.abc import Collection

import torch

from striate.cluster.shards import Push, Receipt, Shard, as_tensor
from striate.train.updates import Rates


class Rounds:
    """Gathers pushes for one shard.

    Args:
        shard: what they change.

    Attributes:
        done: rounds so far.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard, self.done = shard, 0
        self._members: frozenset[str] = frozenset()
        self._sum = torch.zeros(len(shard))
        self._begin()

    def _begin(self) -> None:
        self._came: set[str] = set()
        self.shard.taken = self._came
        self._rates: list[Rates] = []
        self._steps = 0
        self._sum.zero_()

    def expect(self, members: Collection[str]) -> None:
        """Who takes part from now on; a round that waited for others may be done by this."""
        self._members = frozenset(members)
        self._finish_if_all_came()

    def waits_for(self, replica: str) -> bool:
        """Whether what a replica sent is in a round that is not done."""
        return replica in self._came

    def push(self, push: Push) -> Receipt:
        """Take one member's part."""
        fate, staleness = self.shard.admit(push), self.shard.behind(push.base)
        if fate != "repeated":
            self._came.add(push.replica)
        if fate == "applied":
            self.shard.staleness[staleness] += 1
            self._sum.add_(as_tensor(push.update))
            self._rates.append(push.rates)
            self._steps += push.steps
        self._finish_if_all_came()
        return Receipt(fate, staleness, self.shard.version)

    def _finish_if_all_came(self) -> None:
        if not self._came or not self._members <= self._came:
            return
        if count := len(self._rates):
            # Schedules go by minibatches, which members take in turn.
            rates = Rates(*(sum(column) / count for column in zip(*((r.learning_rate, r.momentum) for r in self._rates))))
            self.shard.apply(self._sum.div_(count).numpy(), rates, self._steps)
        self.done += 1
        self._begin()
