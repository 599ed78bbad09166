"""Learning rates that fall at stated epochs, or when the held-out error stops falling, by layer where asked.

Source: Krizhevsky et al. 2012, section 5: "divide the learning rate by 10 when the validation error rate stopped improving";
the authors' own drops by epoch are in their parameter file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from striate.errors import BadInput


@dataclass(frozen=True)
class Stage:
    """From an epoch on.

    Attributes:
        epoch: from which this holds.
        factor: on the learning rate.
        layers: further factors by layer; 0 freezes one.
    """

    epoch: float
    factor: float = 1.0
    layers: Mapping[str, float] = field(default_factory=dict)


def stage_at(stages: Sequence[Stage], epoch: float) -> Stage:
    """The last stage that has begun; before the first one nothing is changed."""
    begun = [stage for stage in stages if epoch >= stage.epoch]
    return max(begun, key=lambda stage: stage.epoch) if begun else Stage(0)


def exponential(epochs: float, total: float, steps: int) -> tuple[Stage, ...]:
    """Drops at even distances that together divide the rate by `total` (the authors' later nets: 4 steps, 250 in all)."""
    if steps < 1 or total < 1:
        raise BadInput(f"an exponential schedule needs steps and a division of at least 1, found {steps} and {total}")
    return tuple(Stage(epochs * n / (steps + 1), total ** (-n / steps)) for n in range(steps + 1))


class Plateau:
    """Divides the rate when the error has not fallen for some epochs.

    Args:
        patience: epochs without a new best before a drop.
        divide: by how much.
        drops: how many drops at most; after the last, patience once more ends the training.
        least: an error counts as better only if it falls below the best by this share of it (one epoch's error is noisy).
    """

    def __init__(self, patience: int, divide: float = 10.0, drops: int = 3, least: float = 0.002) -> None:
        self.patience, self.divide, self.drops, self.least = patience, divide, drops, least
        self.state = [0.0, 2.0, 0.0]

    @property
    def factor(self) -> float:
        """On the learning rate now."""
        return self.divide ** -min(self.state[0], self.drops)

    @property
    def finished(self) -> bool:
        """Whether the last drop has brought all it could."""
        return self.state[0] > self.drops

    def see(self, error: float) -> None:
        """Take in one epoch's error, averaged over the held-out pictures."""
        dropped, best, since = self.state
        if error < best * (1 - self.least):
            self.state = [dropped, error, 0.0]
        elif since + 1 >= self.patience:
            self.state = [dropped + 1, best, 0.0]
        else:
            self.state = [dropped, best, since + 1]
