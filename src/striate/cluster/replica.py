"""A replica: a learner among others of the same model, whose step pulls, learns and pushes.

It learns from its own minibatches as if it were alone, and exchanges with the parameter shards now and then: gradients that the
shards apply by their rule, or the changes that its own steps made (for learners that give no gradients, for local SGD and for
DiLoCo). Alone in its pace, it never waits for another replica: messages travel while it computes, what was pulled is copied in
between two steps and never under a running one (Dean et al. 2012, algorithm 7.1), and while shards do not answer it learns on
and what it has to say adds up. In rounds it waits until all have spoken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

from striate.cluster.ahead import Ahead
from striate.cluster.contents import Changes, Content, Gradients
from striate.cluster.flat import Flat
from striate.cluster.pauses import Coming, Learned, Needed, Waiting, Work, driven
from striate.cluster.shards import Receipt, Version
from striate.cluster.traffic import Traffic
from striate.errors import StriateError
from striate.train.exchanged import Shareable
from striate.train.updates import Rates

B = TypeVar("B")

# So many pushes' worth of steps a replica runs ahead of shards that do not answer.
_MOST_AHEAD = 20
# An answer that takes such a share of a step is waited for: it is worth more than the time, being a whole step fresher.
_WORTH_WAITING = 0.08


class Poisoned(StriateError):
    """A replica's own numbers are not finite any more: it must begin anew."""


@dataclass(frozen=True)
class Pulled:
    """Parameters as they came.

    Attributes:
        versions: of each shard.
        values: flat, of all parameters; None where none is newer than what the caller had.
    """

    versions: tuple[Version, ...]
    values: Tensor | None


@dataclass(frozen=True)
class Sent:
    """What goes to the shards.

    Attributes:
        update: flat, of all parameters; may be written to when the call that sends it returns.
        base: versions that were last pulled.
        rates: for the shards' rule.
        steps: that are in it.
    """

    update: Tensor
    base: tuple[Version, ...]
    rates: Rates
    steps: int


class ParameterShards(Protocol):
    """All shards as one replica reaches them; pushes are numbered and packed by whoever implements this.

    Attributes:
        pulled_bytes: that came so far.
        pushed_bytes: that went.
    """

    pulled_bytes: int
    pushed_bytes: int

    def pull(self, known: tuple[Version, ...] | None) -> Waiting[Pulled]:
        """Ask for the parameters, where they are newer than what is known."""
        ...

    def push(self, sent: Sent) -> Waiting[list[Receipt]]:
        """Send an update; of what is sent, what is left out on the way stays in it."""
        ...

    def swap(self, sent: Sent) -> Waiting[tuple[list[Receipt], Pulled]]:
        """Push, and pull what has become of it; in rounds, when the round is done."""
        ...


@dataclass(frozen=True)
class Pace:
    """When a replica exchanges.

    Attributes:
        pull_every: steps from pull to pull, where gradients are sent; changes are answered with what they have become, and so
            are gradients if this is `push_every`.
        push_every: steps from push to push; their gradients, or changes, are added up.
        rounds: whether it waits for the others after each push.
        rates: for the shards' rule; None: the learner's own, by its schedule.
        ahead: the rule by which it takes steps of its own between pulls, where gradients are sent; empty for none.
    """

    pull_every: int = 1
    push_every: int = 1
    rounds: bool = False
    rates: Rates | None = None
    ahead: str = ""


class Replica(Generic[B]):
    """One of several that train a model. It is itself a learner.

    Args:
        learner: trains; its parameters become the shards'.
        shards: as this replica reaches them.
        pace: when it exchanges.
        gradients: whether it sends gradients (the learner has `slope`), or its own steps' changes.
        clock: seconds, of whatever time it lives in.
    """

    def __init__(
        self,
        learner: Shareable[B],
        shards: ParameterShards,
        pace: Pace,
        *,
        gradients: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.learner, self.shards, self.pace, self.traffic, self._clock = learner, shards, pace, Traffic(), clock
        flat = Flat(learner.exchanged())
        # One message does for both where they are due together; and its answer has one's own push in it.
        self._flat, self._swaps = flat, pace.rounds or not gradients or pace.pull_every == pace.push_every
        self._gradients = gradients
        self._begin()

    def _begin(self) -> None:
        pulled = self.shards.pull(None).get()
        assert pulled.values is not None
        self._flat.scatter(pulled.values)
        self.learner.refresh()
        self.traffic.pulls += 1
        self._base = pulled.versions
        self._content: Content[B] = self._new_content()
        self._pushing: Waiting[Any] | None = None
        self._pulling: Waiting[Pulled] | None = None
        self._unsent, self._since_pull, self._rates, self._step_s = 0, 0, Rates(1.0, 0.0), 0.0
        self.traffic.on_its_way = 0

    def _new_content(self) -> Content[B]:
        if not self._gradients:
            return Changes(self.learner, self._flat)
        pace, ahead = self.pace, None
        if pace.ahead:
            ahead = Ahead(pace.ahead, self._flat, pace.push_every, pace.rates)
        return Gradients(self.learner, self._flat, ahead)

    @property
    def step_number(self) -> int:
        """The learner's, which names its draws and its place in the schedule."""
        return self.learner.step_number

    @step_number.setter
    def step_number(self, number: int) -> None:
        self.learner.step_number = number

    @property
    def unsaid(self) -> int:
        """How many of the last minibatches may not be in the shards: not sent, or not answered yet."""
        return self._unsent + self.traffic.on_its_way

    @property
    def finished(self) -> bool:
        """The learner's word."""
        return self.learner.finished

    def step(self, batch: B) -> dict[str, Tensor]:
        """One minibatch; the learner's metrics.

        Raises:
            Poisoned: the shards refused what its own steps had made of its parameters.
        """
        return driven(self.stepping(batch))

    def stepping(self, batch: B) -> Work[dict[str, Tensor]]:
        """The same, for whoever does the waiting."""
        if self._pulling is not None:
            yield from self._take_what_came(self._pulling)
        elif self._swaps and self._pushing is not None and (yield Coming(self._pushing, _WORTH_WAITING * self._step_s)):
            yield from self._answered()
        begun = self._clock()
        metrics, own = self._content.learn(batch)
        yield Learned()
        self._step_s = self._clock() - begun
        self._rates = self.pace.rates or own
        self._unsent += 1
        if self._unsent >= self.pace.push_every:
            yield from self._send()
        self._since_pull += 1
        if not self._swaps and self._pulling is None and self._since_pull >= self.pace.pull_every:
            # Asked for now, it comes while the next step is computed, or before.
            self._pulling, self._since_pull = self.shards.pull(self._base), 0
        return metrics

    def catch_up(self) -> None:
        """Begin from the shards' parameters of now, after a time in which others have gone on."""
        driven(self.catching_up())

    def catching_up(self) -> Work[None]:
        """The same, for whoever does the waiting."""
        yield from self.flushing()
        self._pulling = None
        self._take_in((yield from self._waited(self.shards.pull(self._base))))

    def _take_what_came(self, pulling: Waiting[Pulled]) -> Work[None]:
        came = yield Coming(pulling, _WORTH_WAITING * self._step_s)
        if came or self._since_pull > _MOST_AHEAD * self.pace.pull_every:
            self._take_in((yield from self._waited(pulling)))
            self._pulling = None

    def _take_in(self, pulled: Pulled) -> None:
        self._base = pulled.versions
        if pulled.values is not None:
            self.traffic.pulls += 1
            self._content.take_in(pulled.values, pulled.versions[0].updates if pulled.versions else 0)

    def _send(self) -> Work[None]:
        """Push what has added up, unless the last push is still on its way and there is time."""
        if self._pushing is not None:
            if not (yield Coming(self._pushing)) and self._unsent < _MOST_AHEAD * self.pace.push_every:
                return
            yield from self._answered()
        self._content.collect()
        sent = Sent(self._content.update, self._base, self._rates, self._unsent)
        self._pushing = self.shards.swap(sent) if self._swaps else self.shards.push(sent)
        self.traffic.on_its_way, self._unsent = self._unsent, 0
        if self.pace.rounds:
            yield from self._answered()

    def _answered(self) -> Work[None]:
        """Take the answer to the last push, waiting for it if need be."""
        assert self._pushing is not None
        answer, self._pushing = (yield from self._waited(self._pushing)), None
        receipts, pulled = answer if self._swaps else (answer, None)
        refused = self.traffic.refused
        self.traffic.count(receipts)
        if self.traffic.refused > refused and isinstance(self._content, Changes):
            raise Poisoned("the parameters of a replica are not finite any more")
        if pulled is not None:
            self._take_in(pulled)

    def _waited(self, waiting: Waiting[Any]) -> Work[Any]:
        begun = self._clock()
        answer = yield Needed(waiting)
        self.traffic.waited_s += self._clock() - begun
        return answer

    def flush(self) -> None:
        """Send what is left, and wait until it is there."""
        driven(self.flushing())

    def flushing(self) -> Work[None]:
        """The same, for whoever does the waiting."""
        if self._pushing is not None:
            yield from self._answered()
        if self._unsent:
            yield from self._send()
        if self._pushing is not None:
            yield from self._answered()

    def diagnose(self) -> dict[str, float]:
        """The learner's."""
        return self.learner.diagnose()

    def state(self) -> dict[str, Tensor]:
        """The learner's, with the parameters it has at the moment."""
        return self.learner.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The learner's, but for the parameters, which are the shards'."""
        self.learner.load_state(state)
        self._begin()
