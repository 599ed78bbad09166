"""What exchanging will cost, worked out before it begins from measured times; and how seldom is often enough.

A replica copies parameters out and updates in by itself; that time it does not learn. A shard applies one update after another;
when all replicas together ask more of it than there is time, they wait, or what they say adds up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# What pulling and pushing may take of a step before the plan says so, and after its advice.
_WORTH_SAYING, _AIMED_AT = 0.25, 0.1
# What exchanging may take of a step's processor time, the shard's part included, and how seldom is seldom enough: at every 16th
# step a replica that goes on by itself in between loses a tenth (docs/findings.md).
_LITTLE, _SELDOM = 0.05, 16


@dataclass(frozen=True)
class Plan:
    """Measured, and what follows.

    Attributes:
        parameters: of the model.
        memories: vectors that the shards' rule remembers.
        replicas: how many.
        shards: how many.
        pull_every: steps.
        push_every: steps.
        step_s: seconds of a replica's own step.
        pull_s: seconds of a pull.
        push_s: seconds of a push, until it is sent.
        update_s: seconds that all shards together need for one update.
        held: parameters of each process of a replica, where there are several.
        border_bytes: a step brings to each of them from the others.
        rounds: whether all wait for all, at an interval that is part of how they learn.
        taken: the interval that was advised once and is kept to; None: the recipe says which.
    """

    parameters: int
    memories: int
    replicas: int
    shards: int
    pull_every: int
    push_every: int
    step_s: float
    pull_s: float
    push_s: float
    update_s: float
    held: tuple[int, ...] = ()
    border_bytes: tuple[int, ...] = ()
    rounds: bool = False
    taken: int | None = None

    @property
    def largest(self) -> int:
        """Parameters of the process that has most."""
        return max(self.held, default=self.parameters)

    @property
    def server_bytes(self) -> int:
        """All shards' memory: values, what the rule remembers, and one copy for those who pull."""
        return 4 * self.parameters * (2 + self.memories)

    @property
    def replica_bytes(self) -> int:
        """A process's, beside its part of the model: what it has to send, what it pulled, and what it had before."""
        return 4 * self.largest * 4

    @property
    def bytes_a_step(self) -> float:
        """To and from the shards of one process, a step."""
        return 4 * self.largest * (1 / self.pull_every + 1 / self.push_every)

    @property
    def exchange_share(self) -> float:
        """Of a replica's time, what exchanging takes."""
        exchange = self.pull_s / self.pull_every + self.push_s / self.push_every
        return exchange / (exchange + self.step_s)

    @property
    def server_share(self) -> float:
        """Of a shard's time, what updates take; above 1 replicas run ahead of it."""
        return self.update_s / self.shards * self.replicas / (self.push_every * self.step_s)

    @property
    def advised_interval(self) -> int:
        """Steps between exchanges that leave nearly all processor time to steps, where shards share it with replicas."""
        taken_s = self.pull_s + self.push_s + self.update_s
        return min(max(1, math.ceil(taken_s / (_LITTLE * self.step_s))), _SELDOM)

    @property
    def better_interval(self) -> int | None:
        """Steps between exchanges that take a tenth of the time, where now they take too much; else None."""
        if max(self.exchange_share, self.server_share) <= _WORTH_SAYING:
            return None
        by_replica = (self.pull_s + self.push_s) * (1 - _AIMED_AT) / (_AIMED_AT * self.step_s)
        by_server = self.update_s / self.shards * self.replicas / (2 * _WORTH_SAYING * self.step_s)
        found = math.ceil(max(by_replica, by_server, 1.0))
        return found if found > min(self.pull_every, self.push_every) else None

    def lines(self) -> list[str]:
        """For people."""
        times = (
            f"a step {1e3 * self.step_s:.3g} ms, a pull {1e3 * self.pull_s:.3g} ms, a push {1e3 * self.push_s:.3g} ms, "
            f"an update {1e3 * self.update_s:.3g} ms"
        )
        said = [
            self._gangs()
            if self.held
            else f"{self.replicas} replica{_s(self.replicas)} and {self.shards} shard{_s(self.shards)} of {self.parameters:,} "
            f"parameters: {self.server_bytes / 1e6:,.0f} MB of shards, {self.replica_bytes / 1e6:,.0f} MB a replica beside the "
            f"model, {self.bytes_a_step / 1e6:.3g} MB a step",
            f"{times}: exchanging takes {100 * self.exchange_share:.0f}% of a replica's time, updates "
            f"{100 * self.server_share:.0f}% of a shard's",
        ]
        if not self.rounds:
            said.append(self._advice())
        if better := self.better_interval:
            said.append(
                f"that is much: cluster.exchange.pull_every={better} cluster.exchange.push_every={better} would leave "
                f"{100 * _AIMED_AT:.0f}% to exchanging, or cluster.exchange.mode=diloco"
            )
        return said

    def _advice(self) -> str:
        if self.taken is not None:
            return f"an exchange {_every(self.taken)}: advised, and kept to"
        if self.pull_every == self.push_every == self.advised_interval:
            return f"an exchange {_every(self.advised_interval)}, as is advised"
        return (
            f"an exchange {_every(self.advised_interval)} is advised: cluster.exchange.pull_every=auto "
            "cluster.exchange.push_every=auto takes that"
        )

    def _gangs(self) -> str:
        return (
            f"{self.replicas} replica{_s(self.replicas)} of {len(self.held)} processes and {self.shards} shards of "
            f"{self.parameters:,} parameters: {self.server_bytes / 1e6:,.0f} MB of shards; a process holds up to "
            f"{self.largest:,} and {self.replica_bytes / 1e6:,.0f} MB beside them; a step moves "
            f"{self.bytes_a_step / 1e6:.3g} MB between it and its shards, and {max(self.border_bytes) / 1e6:.3g} MB to it from "
            "its neighbours"
        )


def _s(count: int) -> str:
    return "s" if count > 1 else ""


def _every(interval: int) -> str:
    return f"every {interval} steps" if interval > 1 else "at every step"
