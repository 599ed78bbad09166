"""How a run of replicas stands at this moment, for who looks on while it goes."""

from __future__ import annotations

from typing import Any

from striate.cluster.asynchronous.fleet import Fleet
from striate.cluster.asynchronous.member import Member


def standing(fleet: Fleet) -> dict[str, Any]:
    """Who is there and how fast, what shards have to do, how stale pushes were, what was lost; as JSON has it."""
    told, members = fleet.counted(), fleet.members
    kept = ("staleness", "refused", "lost", "replicas_lost", "machines_left", "minibatches_redone")
    return {
        "step": fleet.step_number,
        "wanted": str(members.wanted),
        "replicas": [_one(member, fleet) for member in members],
        "shards": fleet.shards.loads.each(),
        **{name: told[name] for name in kept},
        "crew": members.visits.told(),
    }


def _one(member: Member, fleet: Fleet) -> dict[str, Any]:
    seconds = member.seconds or None
    return {
        "place": member.place,
        "replica": member.name,
        "stage": member.stage.value,
        "machine": fleet.members.machine(member),
        "images_per_s": seconds and member.steps * fleet.batch_size / seconds,
        "waiting_share": seconds and member.waited_s / seconds,
    }
