"""What a checkpoint keeps of a sharded learner: vectors joined from everybody's units, and taken apart again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from striate.cluster.slices import length, slices
from striate.cluster.wire import Wire
from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.cluster.sharded import ShardedLearner

_NEEDED = ("weights", "visible_bias", "hidden_bias", "activity", "step")


def joined(own: Tensor, owners: Sequence[slice], wire: Wire) -> Tensor:
    """A vector over all units of a layer, from everybody's own."""
    if len(owners) == 1:
        return own
    return torch.cat(wire.gather(own.contiguous(), [length(units) for units in owners]).wait())


def vectors(learner: ShardedLearner) -> dict[str, Tensor]:
    """Everything but weights, whole on every process; names as the plain learner's."""
    hidden, visible, wire = learner.halves.hidden.owners, learner.halves.visible.owners, learner.wire
    found = {
        "visible_bias": joined(learner.visible_bias.bias, visible, wire),
        "hidden_bias": joined(learner.hidden_bias.bias, hidden, wire),
        "velocity.visible_bias": joined(learner.visible_bias.velocity, visible, wire),
        "velocity.hidden_bias": joined(learner.hidden_bias.velocity, hidden, wire),
        "activity": joined(learner.activity, hidden, wire),
    }
    if learner.sigma is not None:
        found["sigma"] = learner.sigma
    if learner.deviations is not None:
        found |= learner.deviations.state()
    if learner.chains is not None:
        found["chains"] = _whole_chains(learner, learner.chains)
    return {name: tensor.clone() for name, tensor in found.items()}


def _chain_rows(learner: ShardedLearner) -> list[slice]:
    """Whose chains are whose, where examples are shared; else one range that all have."""
    readers = learner.wire.count if learner.layout.mode == "data" else 1
    return slices(learner.settings.chains or 1, readers, "chains")


def _whole_chains(learner: ShardedLearner, own: Tensor) -> Tensor:
    if learner.wire.count == 1:
        return own
    rows, owners = _chain_rows(learner), learner.halves.hidden.owners
    if len(rows) > 1:
        pieces = learner.wire.gather(own.reshape(-1), [length(some) * own.shape[1] for some in rows]).wait()
        return torch.cat(pieces).view(-1, own.shape[1])
    pieces = learner.wire.gather(own.reshape(-1), [len(own) * length(units) for units in owners]).wait()
    return torch.cat([piece.view(len(own), -1) for piece in pieces], dim=1)


def load_shares(learner: ShardedLearner, state: Mapping[str, Tensor]) -> None:
    """Give a learner its part of a whole state.

    Raises:
        BadInput: it is of another model.
    """
    if missing := sorted(set(_NEEDED) - set(state)):
        raise BadInput(f"the state lacks {', '.join(missing)}: it is of another kind of learner")
    hidden, visible = learner.halves.hidden, learner.halves.visible
    if state["weights"].shape != (hidden.size, visible.size):
        found = tuple(state["weights"].shape)
        raise BadInput(f"weights has shape {found}, this model's is {(hidden.size, visible.size)}")
    learner.copies.load(state)
    for update, name, units in (
        (learner.visible_bias, "visible_bias", visible.own),
        (learner.hidden_bias, "hidden_bias", hidden.own),
    ):
        update.bias.copy_(state[name][units])
        update.velocity.copy_(state[f"velocity.{name}"][units])
    learner.activity.copy_(state["activity"][hidden.own])
    if learner.sigma is not None:
        learner.sigma.copy_(state["sigma"])
    if learner.deviations is not None:
        for name, tensor in learner.deviations.state().items():
            if name in state:
                tensor.copy_(state[name])
    if "chains" in state and learner.settings.chains is not None:
        rows = _chain_rows(learner)
        own = state["chains"][rows[learner.wire.rank if len(rows) > 1 else 0], hidden.own]
        learner.chains = own.to(device=learner.hidden_bias.bias.device, dtype=learner.dtype, copy=True)
