"""What becomes of updates when whoever holds them dies at the worst moment: each fault at a chosen place, in one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from striate.cluster.compress import Packer
from striate.cluster.rules import RULES
from striate.cluster.server import Message, Server
from striate.cluster.shards import Push, Rows, Shard, Version
from striate.draws import generator
from striate.train.checkpoint import CheckpointFolder
from striate.train.updates import Rates

_FRESH = Version(0, 0)


def message(replica: str, sequence: int, value: float) -> Message:
    packed = Packer().pack(torch.full((3,), value))
    return Message(replica, sequence, _FRESH, Rates(1.0, 0.0), packed)


def begun(members: str, snapshot: Shard | None = None) -> Server:
    """A shard of zeros, or begun again from another's snapshot of now."""
    shard = Shard(np.zeros(3, np.float32), "delta", life=2)
    if snapshot is not None:
        shard.load(*snapshot.state())
    server = Server(shard, rounds=True)
    server.expect(members)
    return server


@pytest.mark.parametrize("rule", RULES)
def test_a_shard_begun_again_goes_on_as_if_it_had_never_died(rule: str, tmp_path: Path) -> None:
    """Through the snapshot's files, before every push in turn: values, what the rule remembers and counts, to the bit."""
    random, folder = generator(0, "shard begun again"), CheckpointFolder(tmp_path)
    updates = random.standard_normal((8, 40)).astype(np.float32)
    pushes = [Push("ab"[n % 2], n // 2 + 1, _FRESH, Rates(0.1, 0.7), update, 2) for n, update in enumerate(updates)]
    alone, dying = (Shard(np.zeros(40, np.float32), rule, [Rows(8, 24, 8)], forget=_forget(rule)) for _ in range(2))
    for number, one in enumerate(pushes):
        folder.save(number, *dying.state())
        saved, _ = folder.newest()
        assert saved is not None
        dying = Shard(np.ones(40, np.float32), rule, [Rows(8, 24, 8)], forget=_forget(rule), life=number)
        dying.load(saved.tensors, saved.state)
        assert dying.push(one).fate == alone.push(one).fate == "applied"
        assert torch.equal(dying.values, alone.values) and dying.counted() == alone.counted()
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(dying.memories, alone.memories))
    assert alone.steps == 16


@pytest.mark.parametrize("rule", RULES)
def test_a_snapshot_is_of_one_moment_though_it_is_written_while_pushes_are_applied(rule: str) -> None:
    shard = Shard(np.zeros(40, np.float32), rule)
    for sequence in (1, 2):
        tensors, counted = shard.state()
        before = {name: tensor.clone() for name, tensor in tensors.items()}, dict(counted)
        shard.push(Push("a", sequence, _FRESH, Rates(0.1, 0.7), np.ones(40, np.float32)))
        assert all(torch.equal(tensors[name], tensor) for name, tensor in before[0].items()) and counted == before[1]
        assert not torch.equal(tensors["values"], shard.values) and counted["last"] != shard.counted()["last"]


def _forget(rule: str) -> float:
    return 0.01 if rule == "adagrad" else 0.0


def test_a_push_of_a_round_that_a_shard_died_in_is_taken_when_it_is_sent_again() -> None:
    """The snapshot was made when one of two had come: his push is in nobody's values, so it is no repeat."""
    first = begun("ab")
    for replica in "ab":
        first.push(message(replica, 1, 2.0))
    first.push(message("a", 2, 4.0))
    assert first.waits_for("a")
    again = begun("ab", first.shard)
    assert again.shard.values.tolist() == [2.0] * 3
    assert again.push(message("a", 2, 4.0)).fate == "applied" and again.waits_for("a")
    assert again.push(message("b", 2, 8.0)).fate == "applied" and not again.waits_for("a")
    assert again.shard.values.tolist() == [2.0 + 6.0] * 3
    assert (again.shard.lost, again.shard.repeated) == (0, 0)


@pytest.mark.parametrize("twice", ["a", "b"])
def test_a_push_that_comes_twice_within_a_round_counts_once(twice: str) -> None:
    """Sent again by the engine, before or after the round is done."""
    server = begun("ab")
    server.push(message("a", 1, 2.0))
    if twice == "a":
        assert server.push(message("a", 1, 2.0)).fate == "repeated"
    server.push(message("b", 1, 4.0))
    if twice == "b":
        assert server.push(message("b", 1, 4.0)).fate == "repeated"
        assert not server.waits_for("b")
    assert server.shard.values.tolist() == [3.0] * 3 and server.shard.repeated == 1
