"""What one replica exchanged with its shards, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from striate.cluster.shards import Receipt


@dataclass
class Traffic:
    """Counts of a replica's life.

    Attributes:
        pulls: parameters that came.
        pushes: updates that were answered.
        refused: of those, by how many shards.
        on_its_way: minibatches in the update that is not answered yet.
        waited_s: for shards.
        staleness: of its updates, as shards found it.
    """

    pulls: int = 0
    pushes: int = 0
    refused: int = 0
    on_its_way: int = 0
    waited_s: float = 0.0
    staleness: Counter[int] = field(default_factory=Counter)

    def count(self, receipts: list[Receipt]) -> None:
        """One push's receipts, of every shard."""
        self.pushes, self.on_its_way = self.pushes + 1, 0
        for receipt in receipts:
            self.refused += receipt.fate == "refused"
            if receipt.fate == "applied":
                self.staleness[receipt.staleness] += 1
