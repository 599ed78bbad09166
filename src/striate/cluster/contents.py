"""What a replica sends to parameter shards: gradients that are applied there by a rule, or changes that its own steps made.

A sum grows until it is pushed; what was not sent yet survives new parameters, as slopes or on top of them.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

from striate.cluster.ahead import Ahead
from striate.cluster.flat import Flat
from striate.train.exchanged import Shareable
from striate.train.updates import Rates

B = TypeVar("B")
B_contra = TypeVar("B_contra", contravariant=True)


class Content(Protocol[B_contra]):
    """What a replica sends: see `Gradients` and `Changes`."""

    update: Tensor

    def learn(self, batch: B_contra) -> tuple[dict[str, Tensor], Rates]:
        """One step; metrics, and the rates that what it gave is to be applied with."""
        ...

    def collect(self) -> None:
        """Bring `update` up to date."""
        ...

    def take_in(self, values: Tensor, updates: int) -> None:
        """Go on from these parameters, which the shards have after so many updates."""
        ...


class Gradients(Generic[B]):
    """Sums of gradients; the parameters change by pulling, and by steps of its own where nothing came since the last.

    Args:
        learner: gives gradients.
        flat: its parameters.
        ahead: makes those steps; None for none.
    """

    def __init__(self, learner: Any, flat: Flat, ahead: Ahead | None = None) -> None:
        self._learner, self._flat, self._ahead, self.update = learner, flat, ahead, flat.new()
        self._last = self.update if ahead is None else flat.new()
        self._rates: Rates | None = None

    def learn(self, batch: B) -> tuple[dict[str, Tensor], Rates]:
        """Metrics and rates of the step that is made elsewhere."""
        if self._ahead is not None and self._rates is not None:
            self._ahead.step(self._last, self._rates)
            self._learner.refresh()
        slope = self._learner.slope(batch)
        if self._ahead is None:
            self._flat.add(self.update, slope.gradients)
        else:
            self.update.add_(self._flat.gather(self._last, slope.gradients))
        self._rates = slope.rates
        return slope.metrics, slope.rates

    def collect(self) -> None:
        """It is."""

    def take_in(self, values: Tensor, updates: int) -> None:
        """As they are: what was not sent yet are slopes, not changes."""
        self._flat.scatter(values)
        self._learner.refresh()
        self._rates = None
        if self._ahead is not None:
            self._ahead.take_in(values, updates)


class Changes(Generic[B]):
    """What the learner's own steps have changed since the last time."""

    def __init__(self, learner: Shareable[B], flat: Flat) -> None:
        self._learner, self._flat, self.update = learner, flat, flat.new()
        self._before = flat.gather(flat.new())
        self._now = flat.new()

    def learn(self, batch: B) -> tuple[dict[str, Tensor], Rates]:
        """The learner's step; its changes are applied as they are."""
        return self._learner.step(batch), Rates(1.0, 0.0)

    def collect(self) -> None:
        """Add what has changed since."""
        self._flat.gather(self._now)
        self.update.add_(self._now).sub_(self._before)
        self._before, self._now = self._now, self._before

    def take_in(self, values: Tensor, updates: int) -> None:
        """With what was learned since the push, and what was left out of it, on top."""
        self._flat.gather(self._now)
        since = self._now.sub_(self._before)
        self._before.copy_(values).add_(self.update)
        self._flat.scatter(since.add_(self._before))
        self._learner.refresh()
