"""One server's part of the parameters: a flat vector that replicas pull and push to, whatever carries the messages.

Shards know nothing of one another and keep no order among replicas; each method is one whole step (Dean et al. 2012, section
4.1: Downpour SGD). Messages may come twice, and are applied once: a push carries its replica and a number, and what is not
newer than the last of that replica is dropped. Numbers that are not finite are refused and counted. A push says which version
its sender had last pulled; the updates applied since are its staleness.

A shard that is begun again from a snapshot has lost the pushes since. It sees that in the replicas' numbers, and counts them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from striate.cluster.rules import RULES, TINY
from striate.compute import as_tensor as as_tensor
from striate.train.updates import Rates


class Version(NamedTuple):
    """Of a shard's values.

    Attributes:
        life: another after every new beginning from a snapshot, so that equal counts of updates are not taken for equal values.
        updates: applied so far.
    """

    life: int
    updates: int


@dataclass(frozen=True)
class Rows:
    """A run of filters in a shard that are kept at norm one: weights from start to stop, ``width`` a filter."""

    start: int
    stop: int
    width: int


@dataclass(frozen=True)
class Push:
    """One message of a replica's.

    Attributes:
        replica: who sends it.
        sequence: its number among this replica's, from 1.
        base: what the replica had last pulled.
        rates: for the rule.
        update: float32, as long as the shard; a sum of gradients, or a change.
        steps: of the replica that are in it.
    """

    replica: str
    sequence: int
    base: Version
    rates: Rates
    update: np.ndarray
    steps: int = 1


class Receipt(NamedTuple):
    """What became of a push.

    Attributes:
        fate: `applied`, `repeated` (it had come before) or `refused` (not all of its numbers are finite).
        staleness: updates that were applied between the sender's pull and this.
        version: of the values after it.
    """

    fate: str
    staleness: int
    version: Version


class Shard:
    """The values of one part of the parameters, and what its rule remembers.

    Args:
        values: float32; copied.
        rule: a name in `striate.cluster.rules`.
        rows: filters to keep at norm one.
        memories: what the rule remembers, to begin with; None: nothing yet.
        forget: `adagrad`: share of the sums of squares forgotten at each update.
        life: see `Version`.

    Attributes:
        taken: whose last push was admitted, and is not in the values yet. A snapshot knows nothing of it, for it will be sent
            again.
    """

    def __init__(
        self,
        values: np.ndarray,
        rule: str,
        rows: Sequence[Rows] = (),
        memories: Sequence[np.ndarray] | None = None,
        forget: float = 0.0,
        life: int = 0,
    ) -> None:
        self._rule, self._rows, self._forget = RULES[rule], tuple(rows), forget
        self.values = torch.from_numpy(np.array(values, np.float32))
        if memories is None:
            self.memories = [torch.zeros_like(self.values) for _ in range(self._rule.memories)]
        else:
            self.memories = [torch.from_numpy(np.array(memory, np.float32)) for memory in memories]
        self.life, self.updates, self.steps, self.refused, self.repeated, self.lost = life, 0, 0, 0, 0, 0
        self.refused_steps = 0
        self.staleness: Counter[int] = Counter()
        self._last: dict[str, int] = {}
        self.taken: Collection[str] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def version(self) -> Version:
        """Of the values as they are."""
        return Version(self.life, self.updates)

    def pull(self, known: Version | None = None) -> tuple[Version, np.ndarray | None]:
        """The version, and the values (not a copy) unless they are what the caller has."""
        return self.version, None if known == self.version else self.values.numpy()

    def push(self, push: Push) -> Receipt:
        """Apply one update, at once, unless it is a repeat or not finite."""
        fate = self.admit(push)
        staleness = self.behind(push.base)
        if fate == "applied":
            self.staleness[staleness] += 1
            self.apply(push.update, push.rates, push.steps)
        return Receipt(fate, staleness, self.version)

    def behind(self, base: Version) -> int:
        """Updates applied since a version was pulled."""
        return max(0, self.updates - base.updates)

    def admit(self, push: Push) -> str:
        """Whether a push is to be applied, and count what becomes of it."""
        last = self._last.get(push.replica, 0)
        if push.sequence <= last:
            self.repeated += 1
            return "repeated"
        self.lost += push.sequence - last - 1
        self._last[push.replica] = push.sequence
        if not finite(push.update):
            self.refused += 1
            self.refused_steps += push.steps
            return "refused"
        return "applied"

    def apply(self, update: np.ndarray, rates: Rates, steps: int) -> None:
        """One update by the rule, of so many steps of replicas; filters that are kept at norm one have it again."""
        gradient = as_tensor(update)
        if self._forget:
            self.memories[0].mul_(1 - self._forget)
        self._rule.apply(self.values, self.memories, gradient, rates)
        keep_norms(self.values, self._rows)
        self.updates += 1
        self.steps += steps

    def update_s(self) -> float:
        """Seconds of an update, from one of a part of the values, copied."""
        size = min(len(self), 1 << 22)
        values, update = self.values[:size].clone(), torch.zeros(size)
        memories = [memory[:size].clone() for memory in self.memories]
        seconds = []
        for _ in range(3):
            begun = time.perf_counter()
            self._rule.apply(values, memories, update, Rates(0.0, 0.0))
            seconds.append(time.perf_counter() - begun)
        return min(seconds) * len(self) / size

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a snapshot keeps: copies of the vectors, and what is counted."""
        tensors = {"values": self.values.clone()}
        tensors |= {f"memory{number}": memory.clone() for number, memory in enumerate(self.memories)}
        return tensors, self.counted()

    def counted(self) -> dict[str, Any]:
        """Updates applied, pushes refused, and steps in them; those repeated, lost, each replica's last, each staleness."""
        return {
            "updates": self.updates,
            "steps": self.steps,
            "refused": self.refused,
            "refused_steps": self.refused_steps,
            "repeated": self.repeated,
            "lost": self.lost,
            "last": {name: number - (name in self.taken) for name, number in self._last.items()},
            "staleness": {str(key): value for key, value in self.staleness.items()},
        }

    def load(self, tensors: Mapping[str, Tensor], counted: Mapping[str, Any]) -> None:
        """Begin again from a snapshot, in a life of its own."""
        self.values.copy_(tensors["values"])
        for number, memory in enumerate(self.memories):
            memory.copy_(tensors[f"memory{number}"])
        for name in ("updates", "steps", "refused", "refused_steps", "repeated", "lost"):
            setattr(self, name, int(counted[name]))
        self._last = {name: int(number) for name, number in counted["last"].items()}
        self.staleness = Counter({int(key): int(value) for key, value in counted["staleness"].items()})


def keep_norms(values: Tensor, rows: Sequence[Rows]) -> None:
    """Filters of a flat vector that are kept at norm one have it again."""
    for one in rows:
        filters = values[one.start : one.stop].view(-1, one.width)
        filters.div_(filters.norm(dim=1, keepdim=True).clamp_min_(TINY))


def finite(update: np.ndarray) -> bool:
    """Whether every number is; a sum tells nearly always, at the speed of memory."""
    held = as_tensor(update)
    return bool(torch.isfinite(held.sum())) or bool(torch.isfinite(held).all())
