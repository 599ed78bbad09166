"""Learners that leave a mark for every minibatch, so that afterwards it is told of each what became of it: whole numbers.

Processes cannot import the modules of tests; this one they find, beside `crews`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

import crews
from striate.cluster.asynchronous.actors import Workbench
from striate.train.exchanged import Slope


class Marking(crews.Counting):
    """Every shard has a weight for every minibatch, whose gradient is -1 there and nothing elsewhere.

    What is learned from is written down first.
    """

    def __init__(self, size: int, steps: int, log: str, step_s: float = 0.0, **mishaps: Any) -> None:
        super().__init__(size, step_s, **mishaps)
        self._steps = steps
        self._log = os.open(Path(log) / f"{os.getpid()}-{time.time_ns()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def slope(self, batch: int) -> Slope:
        os.write(self._log, b"%d\n" % batch)
        return self._marked(batch)

    def _marked(self, batch: int) -> Slope:
        slope = super().slope(batch)
        gradient = torch.zeros_like(self.weight)
        gradient[batch :: self._steps] = -1
        return Slope(slope.metrics, [gradient], slope.rates)

    def step(self, batch: int) -> dict[str, Tensor]:
        """The rehearsal's: nobody hears of it."""
        return self._marked(batch).metrics


def bring(brought: dict[str, Any], rows: None) -> Workbench:
    """In a replica's process."""
    state = brought.pop("state")
    learner = Marking(**brought)
    learner.load_state(state)
    return Workbench(learner, lambda slot: slot)


def fleet(ray: ModuleType, crew: crews.Crew, steps: int, log: Path, step_s: float, **mishaps: Any) -> crews.Fleet:
    """A fleet of marking replicas, begun."""
    log.mkdir()
    whole = crews.Counting(crew.shards * steps)
    told = {"size": crew.shards * steps, "steps": steps, "log": str(log), "step_s": step_s, **mishaps}
    made = crews.Fleet(whole, crew, ray, bring, lambda state: {**told, "state": state}, None, steps, 10, lambda line: None)
    made.load_state(whole.state())
    return made


class Marks:
    """What became of every minibatch.

    Args:
        ray: connected.
        made: a fleet that has taken all its steps.
        log: where replicas wrote down what they learned from.

    Attributes:
        lives: what each replica's process learned from, in order.
        learned: how often a minibatch was learned from.
        applied: (shards, minibatches): how often its gradient is in the weights.
        counted: what each shard has counted.
    """

    def __init__(self, ray: ModuleType, made: crews.Fleet, log: Path) -> None:
        self.applied = made.state()["weight"].numpy().reshape(made.crew.shards, -1)
        self.counted = ray.get([shard.counted.remote() for shard in made.shards.actors])
        self.lives = [[int(line) for line in file.read_text().split()] for file in log.iterdir()]
        counts = Counter(slot for life in self.lives for slot in life)
        self.learned = np.array([counts[slot] for slot in range(self.applied.shape[1])])

    def check(self, redone: int) -> None:
        """All was learned from, and not applied more often; shards have what they say: as many as were asked for, or more."""
        assert (self.learned >= 1).all() and self.learned.sum() <= len(self.learned) + redone
        assert (self.applied <= self.learned).all()
        assert [int(own.sum()) for own in self.applied] == [told["steps"] for told in self.counted]
        assert min(told["steps"] for told in self.counted) >= len(self.learned)

    def kept(self, shard: int) -> list[list[bool]]:
        """Of each life, minibatch by minibatch in its order, whether it is in a shard; of those that it alone had."""
        own = self.applied[shard]
        return [[bool(own[slot]) for slot in life if self.learned[slot] == 1] for life in self.lives]
