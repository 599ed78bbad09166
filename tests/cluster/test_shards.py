"""Parameter shards: rules by their formulae, once for each message, exact sums, what is refused, what a new life loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.cluster.flat import Flat
from striate.cluster.rules import RULES
from striate.cluster.shards import Push, Rows, Shard, Version
from striate.draws import generator
from striate.errors import BadInput
from striate.train.checkpoint import CheckpointFolder
from striate.train.exchanged import Exchanged
from striate.train.updates import Rates

RATES, FRESH = Rates(0.1, 0.5), Version(0, 0)


def numbers(count: int, name: str) -> np.ndarray:
    return generator(3, name).standard_normal(count).astype(np.float32)


def push(update: np.ndarray, sequence: int, replica: str = "a", base: Version = FRESH, rates: Rates = RATES) -> Push:
    return Push(replica, sequence, base, rates, update)


def by_hand(rule: str, w: np.ndarray, updates: Sequence[np.ndarray], rates: Rates) -> np.ndarray:
    """Each rule a number at a time, in float64."""
    out, (rate, m) = w.astype(np.float64), (rates.learning_rate, rates.momentum)
    memory = np.zeros_like(out)
    for update in updates:
        for i, g in enumerate(update.astype(np.float64)):
            if rule == "sgd":
                out[i] -= rate * g
            elif rule == "delta":
                out[i] += rate * g
            elif rule == "momentum":
                memory[i] = m * memory[i] - rate * g
                out[i] += memory[i]
            elif rule == "adagrad":
                memory[i] += g * g
                out[i] -= rate * g / np.sqrt(memory[i])
            else:
                memory[i] = m * memory[i] + g
                out[i] += rate * (g + m * memory[i])
    return out


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [7, 100_000])
def test_a_rule_is_its_formula(rule: str, size: int) -> None:
    """Against float64 loops; the larger size ends in the middle of a block."""
    start, updates = numbers(size, "start"), [numbers(size, f"update{number}") for number in range(3)]
    shard = Shard(start, rule)
    for number, update in enumerate(updates, start=1):
        assert shard.push(push(update, number)).fate == "applied"
    looked_at = slice(size - 7, size)
    expected = by_hand(rule, start[looked_at], [update[looked_at] for update in updates], RATES)
    # Some tens of roundings to float32, of numbers of size one.
    np.testing.assert_allclose(shard.values.numpy()[looked_at], expected, rtol=0, atol=1e-5)


def test_nesterov_is_torch_s_optimiser_on_minus_the_change() -> None:
    """DiLoCo's outer optimiser as its authors run it: torch.optim.SGD with Nesterov momentum."""
    shard, weight = Shard(numbers(50, "start"), "nesterov"), torch.from_numpy(numbers(50, "start")).requires_grad_()
    outer = torch.optim.SGD([weight], lr=0.7, momentum=0.9, nesterov=True)
    for number in range(1, 5):
        change = numbers(50, f"change{number}")
        weight.grad = -torch.from_numpy(change)
        outer.step()
        shard.push(push(change, number, rates=Rates(0.7, 0.9)))
    torch.testing.assert_close(shard.values, weight.detach(), rtol=0, atol=1e-5)


def test_a_message_that_comes_twice_is_applied_once() -> None:
    """Whole numbers sum exactly in float32: every loss or repeat would show."""
    shard, random = Shard(np.zeros(5, np.float32), "delta"), generator(1, "repeats")
    sent = {"a": 0, "b": 0}
    for _ in range(200):
        replica = "ab"[random.integers(2)]
        sent[replica] += 1
        one = push(np.full(5, sent[replica], np.float32), sent[replica], replica, rates=Rates(1, 0))
        fates = [shard.push(one).fate for _ in range(1 + random.integers(3))]
        assert fates == ["applied", *["repeated"] * (len(fates) - 1)]
    assert shard.values.tolist() == [sum(n * (n + 1) // 2 for n in sent.values())] * 5
    assert (shard.updates, shard.lost) == (200, 0)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_counted_and_changes_nothing(poison: float) -> None:
    shard = Shard(numbers(1000, "start"), "adagrad")
    shard.push(push(numbers(1000, "good"), 1))
    before, memory = shard.values.clone(), shard.memories[0].clone()
    bad = numbers(1000, "bad")
    bad[617] = poison
    assert shard.push(replace(push(bad, 2), steps=3)).fate == "refused"
    assert torch.equal(shard.values, before) and torch.equal(shard.memories[0], memory)
    assert (shard.refused, shard.updates) == (1, 1)
    assert shard.push(push(numbers(1000, "good"), 3)).fate == "applied"
    assert shard.lost == 0
    # Who counts what the shard has had counts these, too, in whatever life.
    again = Shard(numbers(1000, "start"), "adagrad")
    again.load(*shard.state())
    assert (again.steps, again.refused_steps) == (shard.steps, shard.refused_steps) == (2, 3)


def test_numbers_too_large_to_be_summed_are_finite_all_the_same() -> None:
    shard = Shard(np.zeros(4, np.float32), "delta")
    assert shard.push(push(np.full(4, 3e38, np.float32), 1, rates=Rates(1, 0))).fate == "applied"


def test_staleness_is_the_updates_since_the_sender_s_pull() -> None:
    shard = Shard(np.zeros(2, np.float32), "sgd")
    base, _ = shard.pull()
    one = np.ones(2, np.float32)
    told = [shard.push(push(one, 1, name, base)).staleness for name in "abc"]
    fresh, values = shard.pull(base)
    assert values is not None and shard.push(push(one, 2, "a", fresh)).staleness == 0
    assert told == [0, 1, 2] and shard.staleness == {0: 2, 1: 1, 2: 1}


def test_values_that_are_known_are_not_sent_again_unless_of_another_life() -> None:
    shard = Shard(np.zeros(2, np.float32), "sgd", life=4)
    version, values = shard.pull()
    assert values is not None and shard.pull(version) == (version, None)
    assert shard.pull(Version(3, version.updates))[1] is not None


@pytest.mark.parametrize("rule", ["adagrad", "momentum"])
def test_filters_of_norm_one_keep_it(rule: str) -> None:
    """Only the named ones; and the update before is the rule's."""
    start = numbers(30, "start")
    shard, free = Shard(start, rule, [Rows(6, 18, 4)]), Shard(start, rule)
    for one in (shard, free):
        one.push(push(numbers(30, "update"), 1))
    norms = free.values[6:18].view(3, 4).norm(dim=1, keepdim=True)
    torch.testing.assert_close(shard.values[6:18].view(3, 4), free.values[6:18].view(3, 4) / norms)
    assert torch.equal(shard.values[:6], free.values[:6]) and torch.equal(shard.values[18:], free.values[18:])


def test_a_new_life_has_the_snapshot_s_numbers_and_counts_what_is_lost(tmp_path: Path) -> None:
    """Six updates, a snapshot after four; the sender goes on with its seventh."""
    one, folder = np.arange(4, dtype=np.float32), CheckpointFolder(tmp_path)
    shard = Shard(np.zeros(4, np.float32), "momentum", life=1)
    for number in range(1, 7):
        shard.push(push(one, number, rates=Rates(1, 0)))
        if number == 4:
            folder.save(shard.updates, *shard.state())
    saved, _ = folder.newest()
    assert saved is not None
    again = Shard(np.zeros(4, np.float32), "momentum", life=2)
    again.load(saved.tensors, saved.state)
    assert again.values.tolist() == [0, -4, -8, -12] and again.version == Version(2, 4)
    assert again.push(push(one, 4)).fate == "repeated"
    assert again.push(push(one, 7, rates=Rates(1, 0))).fate == "applied"
    assert again.lost == 2 and again.values.tolist() == [0, -5, -10, -15]
    # What was in the snapshot is a copy: the old life's later updates are not in it.
    assert saved.tensors["values"].tolist() == [0, -4, -8, -12]


def _parameters() -> list[Exchanged]:
    return [
        Exchanged("bias", torch.arange(5.0)),
        Exchanged("filters", torch.arange(24.0).view(2, 3, 4), row=4),
        Exchanged("turned", torch.arange(6.0).view(2, 3).t()),
    ]


def test_a_flat_vector_and_back_is_the_same_for_any_layout_in_memory() -> None:
    parameters = _parameters()
    flat = Flat(parameters)
    held = [one.tensor.clone() for one in parameters]
    values = flat.gather(flat.new())
    for one in parameters:
        one.tensor.zero_()
    flat.scatter(values)
    assert all(torch.equal(one.tensor, before) for one, before in zip(parameters, held))
    flat.add(values, held)
    assert torch.equal(values, 2 * flat.gather(flat.new()))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 35])
def test_cuts_cover_all_once_and_go_through_no_filter(count: int) -> None:
    flat = Flat(_parameters())
    cuts = flat.cuts(count)
    assert [index for cut in cuts for index in range(cut.start, cut.stop)] == list(range(35))
    assert all((cut.start - 5) % 4 == 0 for cut in cuts if 5 < cut.start < 29)
    assert sum((rows.stop - rows.start) // rows.width for cut in cuts for rows in flat.rows(cut)) == 6


def test_what_cannot_be_exchanged_is_named() -> None:
    with pytest.raises(BadInput, match=r"weights is torch.float64: replicas exchange float32"):
        Flat([Exchanged("weights", torch.zeros(3, dtype=torch.float64))])
    with pytest.raises(BadInput, match="from 1 to the model's 35 parameters, found 36"):
        Flat(_parameters()).cuts(36)
