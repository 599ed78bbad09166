"""Replicas by arithmetic: what exchanging must come to where that can be known. In one process, without an engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from striate.cluster.ahead import Ahead
from striate.cluster.compress import Packer
from striate.cluster.flat import Flat
from striate.cluster.replica import Pace, Poisoned, Replica
from striate.cluster.server import Doors, Near, Server
from striate.cluster.shards import Shard
from striate.draws import Draws
from striate.models.convnet import ConvNet
from striate.models.convnet.named import named_net
from striate.models.rbm import new_rbm
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.train.contrastive import CDSettings, ContrastiveLearner, constant
from striate.train.convnet import ConvnetLearner, ConvnetSettings
from striate.train.exchanged import Exchanged, Slope
from striate.train.pictures import Crops
from striate.train.sparse import SparseLearner, SparseSettings
from striate.train.updates import Rates


class Constant:
    """Gradient (or own change) of 1, 2, 3, ... whatever the batch."""

    own_rule, finished = "sgd", False

    def __init__(self, size: int = 6) -> None:
        self.weight, self.step_number = torch.zeros(size), 0

    def slope(self, batch: float) -> Slope:
        self.step_number += 1
        return Slope({}, [torch.arange(1.0, len(self.weight) + 1) * batch], Rates(1.0, 0.0))

    def step(self, batch: float) -> dict[str, Tensor]:
        self.step_number += 1
        self.weight.add_(torch.arange(1.0, len(self.weight) + 1), alpha=batch)
        return {}

    def exchanged(self) -> list[Exchanged]:
        return [Exchanged("weight", self.weight)]

    def refresh(self) -> None: ...

    def diagnose(self) -> dict[str, float]:
        return {}

    def state(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "step": torch.tensor(self.step_number)}

    def load_state(self, state: Any) -> None:
        self.weight.copy_(state["weight"])


def servers(learner: Any, rule: str, shards: int = 2, rounds: bool = False) -> tuple[list[Near], list[slice]]:
    flat = Flat(learner.exchanged())
    values, cuts = flat.gather(flat.new()), flat.cuts(shards)
    made = [Shard(values[cut].numpy(), rule, flat.rows(cut)) for cut in cuts]
    return [Near(Server(shard, rounds)) for shard in made], cuts


def values(near: Sequence[Near]) -> Tensor:
    return torch.cat([one.server.shard.values for one in near])


def replica(learner: Any, near: Sequence[Near], cuts: Sequence[slice], name: str, pace: Pace, **how: Any) -> Replica[Any]:
    packer = how.pop("packer", None)
    return Replica(learner, Doors(near, cuts, name, packer), pace, **how)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize(("pull_every", "push_every"), [(1, 1), (3, 2), (1, 5)])
def test_constant_gradients_give_one_result_in_whatever_order(gradients: bool, pull_every: int, push_every: int) -> None:
    """Three replicas, 20 steps each in a random order, batches of whole numbers: sums are exact, and known."""
    near, cuts = servers(Constant(), "sgd" if gradients else "delta")
    pace = Pace(pull_every, push_every)
    crew = [replica(Constant(), near, cuts, name, pace, gradients=gradients) for name in "abc"]
    left = [20, 20, 20]
    random = np.random.default_rng(0)
    while any(left):
        who = int(random.choice([number for number, count in enumerate(left) if count]))
        crew[who].step(float(left[who]))
        left[who] -= 1
    for one in crew:
        one.flush()
    total = 3 * 20 * 21 / 2
    assert torch.equal(values(near), torch.arange(1.0, 7) * (-total if gradients else total))
    assert all(one.traffic.pushes == -(-20 // push_every) for one in crew)


@pytest.mark.parametrize("packer", [Packer("bf16"), Packer("topk", 0.3)])
def test_what_packing_leaves_out_is_sent_later(packer: Packer) -> None:
    """Sent and left over are all there was, to rounding."""
    near, cuts = servers(Constant(), "delta", shards=1)
    one = replica(Constant(), near, cuts, "a", Pace(), gradients=False, packer=packer)
    for step in range(50):
        one.step(0.1 + 0.001 * step)
    one.flush()
    left = one._content.update
    expected = torch.arange(1.0, 7) * sum(0.1 + 0.001 * step for step in range(50))
    torch.testing.assert_close(values(near) + left, expected, rtol=1e-5, atol=1e-5)
    # And it is not much: a step's worth of rounding, or of what waits for its turn.
    assert float((left / expected).abs().max()) < (0.01 if packer.kind == "bf16" else 0.5)


def test_bytes_are_counted_as_they_travel() -> None:
    near, cuts = servers(Constant(1000), "sgd")
    one = replica(Constant(1000), near, cuts, "a", Pace(pull_every=2, push_every=4), gradients=True)
    for _ in range(16):
        one.step(1.0)
    one.flush()
    assert one.shards.pushed_bytes == one.traffic.pushes * 4000 == 4 * 4000
    # Only what is newer travels: at the start, and once after each push but the last.
    assert one.shards.pulled_bytes == one.traffic.pulls * 4000 == 4 * 4000


@pytest.mark.parametrize("gradients", [True, False])
def test_what_no_shard_has_said_to_have_is_unsaid(gradients: bool) -> None:
    """Sent every third step, answered when the next begins; in rounds of one it is there at once."""
    for rounds, expected in ((False, [1, 2, 3, 1, 2, 3, 1]), (True, [1, 2, 0, 1, 2, 0, 1])):
        near, cuts = servers(Constant(), "sgd" if gradients else "delta", rounds=rounds)
        one = replica(Constant(), near, cuts, "a", Pace(3, 3, rounds), gradients=gradients)
        for own in near:
            own.expect(["a"])
        found = []
        for _ in expected:
            one.step(1.0)
            found.append(one.unsaid)
        assert found == expected
        one.flush()
        assert one.unsaid == 0 and all(own.server.shard.steps == len(expected) for own in near)


def rows(step: int, count: int = 8) -> Tensor:
    draws = Draws(7, step)
    return draws.normal("amounts", (count, 4)) @ Draws(1).normal("shapes", (4, 144)) + 0.1 * draws.normal("noise", (count, 144))


def sparse() -> SparseLearner:
    first = StageSpec(4, 2, 3, pool=2, norm=3, norm_edges="keep")
    net = SparseNet(NetSpec((1, 12, 12), (first, StageSpec(3, maps=4, pool=1, norm=0)))).start(Draws(0))
    return SparseLearner(net, SparseSettings(), lambda step: Rates(0.05, 0.9))


def convnet() -> ConvnetLearner:
    net = ConvNet(named_net("80sec", 4, {}, 16, 3), Draws(0))
    settings = ConvnetSettings(steps_per_epoch=10, weight_decay=1e-2, rates={"conv2": 0.5})
    return ConvnetLearner(net, torch.full((3, 16, 16), 120.0), settings, lambda step: Rates(1e-3, 0.9))


def crops(step: int, count: int = 8) -> Crops:
    draws = Draws(3, step)
    pixels = (255 * draws.uniform("pixels", (count, 3, 16, 16))).to(torch.uint8)
    return Crops(pixels, torch.zeros(count, 3), (4 * draws.uniform("labels", (count,))).long())


def rbm() -> ContrastiveLearner:
    model = new_rbm(5, torch.zeros(144), weight_std=0.1, draws=Draws(2))
    return ContrastiveLearner(model, CDSettings(), constant(0.01, 0.9), seed=1)


LEARNERS: dict[str, tuple[Callable[[], Any], Callable[[int], Any]]] = {
    "sparse": (sparse, rows),
    "convnet": (convnet, crops),
    "rbm": (rbm, rows),
}


def flat_of(learner: Any) -> Tensor:
    flat = Flat(learner.exchanged())
    return flat.gather(flat.new())


def same(ours: Tensor, theirs: Tensor, began: Tensor) -> None:
    """Equal but for roundings: their difference is nothing beside what was learned."""
    assert float((theirs - began).norm()) > 0
    assert float((ours - theirs).norm() / (theirs - began).norm()) < 1e-4


@pytest.mark.parametrize("kind", ["sparse", "convnet"])
def test_one_replica_with_the_learner_s_own_rule_is_the_learner(kind: str) -> None:
    """Pushed each step and pulled before the next, on three shards: the update rule has only moved."""
    make, batch = LEARNERS[kind]
    alone, learner = make(), make()
    near, cuts = servers(learner, learner.own_rule, shards=3)
    one, began = replica(learner, near, cuts, "a", Pace(), gradients=True), flat_of(alone)
    for step in range(6):
        expected, found = alone.step(batch(step)), one.step(batch(step))
        torch.testing.assert_close(expected["loss"], found["loss"], rtol=1e-4, atol=1e-5)
        assert one.step_number == step + 1
    same(values(near), flat_of(alone), began)


@pytest.mark.parametrize("kind", LEARNERS)
@pytest.mark.parametrize("every", [1, 3])
def test_diloco_with_one_replica_outer_rate_one_and_no_momentum_is_plain_training(kind: str, every: int) -> None:
    make, batch = LEARNERS[kind]
    alone, learner = make(), make()
    near, cuts = servers(learner, "nesterov", shards=2, rounds=True)
    for door in near:
        door.expect(["a"])
    pace = Pace(push_every=every, rounds=True, rates=Rates(1.0, 0.0))
    one, began = replica(learner, near, cuts, "a", pace, gradients=False), flat_of(alone)
    for step in range(6):
        alone.step(batch(step))
        one.step(batch(step))
    same(values(near), flat_of(alone), began)


def together(crew: Sequence[Replica[Any]], batches: Callable[[int, int], Any], steps: int) -> None:
    """Replicas in threads, since rounds wait for one another."""

    def work(number: int) -> None:
        for step in range(steps):
            crew[number].step(batches(number, step))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(crew))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize("kind", ["sparse", "convnet"])
def test_synchronous_replicas_are_one_learner_with_their_batches_joined(kind: str) -> None:
    """Three replicas with 4 pictures each against one with the 12, to rounding."""
    make, batch = LEARNERS[kind]
    alone, first = make(), make()
    near, cuts = servers(first, first.own_rule, shards=2, rounds=True)
    for door in near:
        door.expect("abc")
    crew = [replica(make(), near, cuts, name, Pace(rounds=True), gradients=True) for name in "abc"]
    began = flat_of(alone)

    def part(number: int, step: int) -> Any:
        whole = batch(step, 12)  # type: ignore[call-arg]
        cut = slice(4 * number, 4 * number + 4)
        return Crops(*(tensor[cut] for tensor in whole)) if isinstance(whole, Crops) else whole[cut]

    together(crew, part, 5)
    for step in range(5):
        alone.step(batch(step, 12))  # type: ignore[call-arg]
    same(values(near), flat_of(alone), began)


def test_local_sgd_is_the_mean_of_what_each_learns_alone() -> None:
    """Two RBMs, four steps each on pictures of their own, from the same start; one round."""
    near, cuts = servers(rbm(), "delta", rounds=True)
    for door in near:
        door.expect("ab")
    pace = Pace(push_every=4, rounds=True, rates=Rates(1.0, 0.0))
    crew = [replica(rbm(), near, cuts, name, pace, gradients=False) for name in "ab"]
    together(crew, lambda number, step: rows(10 * number + step), 4)
    alone = [rbm(), rbm()]
    for number, one in enumerate(alone):
        for step in range(4):
            one.step(rows(10 * number + step))
    same(values(near), (flat_of(alone[0]) + flat_of(alone[1])) / 2, flat_of(rbm()))


def test_whoever_leaves_a_round_is_waited_for_no_longer() -> None:
    near, cuts = servers(Constant(), "delta", rounds=True)
    for door in near:
        door.expect("ab")
    pace = Pace(rounds=True, rates=Rates(1.0, 0.0))
    one = replica(Constant(), near, cuts, "a", pace, gradients=False)
    thread = threading.Thread(target=one.step, args=(2.0,))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    for door in near:
        door.expect("a")
    thread.join(10)
    assert not thread.is_alive()
    assert torch.equal(values(near), 2 * torch.arange(1.0, 7))


def test_a_replica_whose_parameters_are_not_finite_says_so_and_harms_nobody() -> None:
    near, cuts = servers(Constant(), "delta")
    one = replica(Constant(), near, cuts, "a", Pace(), gradients=False)
    one.step(float("nan"))
    with pytest.raises(Poisoned):
        one.flush()
    assert torch.equal(values(near), torch.zeros(6)) and one.traffic.refused == 2


@pytest.mark.parametrize("gradients", [True, False])
def test_catching_up_is_to_begin_from_what_others_have_made_of_it(gradients: bool) -> None:
    """What was not sent yet is sent first; then parameters are the shards'."""
    near, cuts = servers(Constant(), "sgd" if gradients else "delta")
    idle, busy = (replica(Constant(), near, cuts, name, Pace(1, 4), gradients=gradients) for name in "ab")
    idle.step(1.0)
    for _ in range(8):
        busy.step(1.0)
    idle.catch_up()
    assert torch.equal(idle.learner.weight, values(near)) and abs(float(values(near)[0])) == 9
    assert [version.updates for version in idle._base] == [3, 3]


def test_untied_filters_travel_without_the_zeros_between_them() -> None:
    """As many numbers as the network has weights, though it keeps more; and they come back the same."""
    learner = sparse()
    weights = sum(tensor.numel() for tensor in learner.net.state().values())
    kept = sum(one.tensor.numel() for one in learner.exchanged())
    flat = Flat(learner.exchanged())
    assert flat.size == weights < kept
    before, found = [one.tensor.clone() for one in learner.exchanged()], flat.gather(flat.new())
    for one in learner.exchanged():
        one.tensor.zero_()
    flat.scatter(found)
    assert all(torch.equal(one.tensor, held) for one, held in zip(learner.exchanged(), before))


class Slow:
    """A shard that takes what it is sent, and answers only when told to."""

    def __init__(self, door: Near) -> None:
        self.door, self.open = door, True

    def __getattr__(self, name: str) -> Any:
        return lambda argument: _Later(self, getattr(self.door, name)(argument))


class _Later:
    def __init__(self, slow: Slow, answer: Any) -> None:
        self._slow, self.get = slow, answer.get

    def ready(self, within_s: float = 0.0) -> bool:
        return self._slow.open


def test_a_replica_learns_on_while_a_shard_does_not_answer() -> None:
    """Nothing is lost: what it has to say adds up and is said in one push."""
    near, cuts = servers(Constant(), "sgd", shards=1)
    slow = Slow(near[0])
    one = Replica(Constant(), Doors([slow], cuts, "a"), Pace(), gradients=True)  # type: ignore[list-item]
    slow.open = False
    for _ in range(10):
        one.step(1.0)
    # The first push is on its way; nine steps wait for the next.
    assert one.traffic.pushes == 0 and torch.equal(one._content.update, 9 * torch.arange(1.0, 7))
    slow.open = True
    one.step(1.0)
    one.flush()
    assert one.traffic.pushes == 2
    assert torch.equal(values(near), -11 * torch.arange(1.0, 7))


def test_what_was_learned_while_an_answer_was_on_its_way_stays_on_top_of_it() -> None:
    """Changes: one step is sent, three more are made, another replica adds ten meanwhile; then all fourteen are here."""
    near, cuts = servers(Constant(), "delta", shards=1)
    slow = Slow(near[0])
    one = Replica(Constant(), Doors([slow], cuts, "a"), Pace(), gradients=False)  # type: ignore[list-item]
    other = replica(Constant(), near, cuts, "b", Pace(), gradients=False)
    other.step(10.0)
    slow.open = False
    for _ in range(4):
        one.step(1.0)
    assert torch.equal(one.learner.weight, 4 * torch.arange(1.0, 7))
    slow.open = True
    one.step(1.0)
    assert torch.equal(one.learner.weight, 15 * torch.arange(1.0, 7))
    one.flush()
    assert torch.equal(values(near), 15 * torch.arange(1.0, 7))


def test_what_packing_has_left_out_stays_in_the_replica_s_own_parameters() -> None:
    near, cuts = servers(Constant(), "delta", shards=1)
    one = replica(Constant(), near, cuts, "a", Pace(), gradients=False, packer=Packer("topk", 0.3))
    for step in range(1, 9):
        one.step(1.0)
        one.flush()
        assert torch.equal(one.learner.weight, step * torch.arange(1.0, 7))
        assert torch.equal(one.learner.weight, values(near) + one._content.update)


def test_a_step_ahead_is_the_one_that_shards_would_make() -> None:
    """Adagrad, a constant gradient: after 36 of them a shard's next step is rate / sqrt(37), then rate / sqrt(38)."""
    learner = Constant()
    flat = Flat(learner.exchanged())
    ahead, gradient = Ahead("adagrad", flat, push_every=4), torch.arange(1.0, 7)
    shard = Shard(np.zeros(6, np.float32), "adagrad")
    for _ in range(36):
        shard.apply(gradient.numpy(), Rates(0.1, 0.0), 1)
    ahead.take_in(shard.values, updates=9)
    for _ in range(3):
        ahead.step(gradient, Rates(0.1, 0.0))
        shard.apply(gradient.numpy(), Rates(0.1, 0.0), 1)
        torch.testing.assert_close(learner.weight, shard.values, rtol=1e-6, atol=0)


def test_steps_ahead_keep_filters_at_norm_one() -> None:
    learner = sparse()
    near, cuts = servers(learner, "adagrad")
    one = replica(learner, near, cuts, "a", Pace(8, 8, ahead="adagrad"), gradients=True)
    before = [stage.filters().clone() for stage in learner.net.stages]
    for step in range(4):
        one.step(rows(step))
    for stage, began in zip(learner.net.stages, before):
        filters = stage.filters()
        assert float((filters - began).abs().max()) > 1e-3
        torch.testing.assert_close(filters.flatten(3).norm(dim=3), torch.ones(filters.shape[:3]), rtol=1e-5, atol=0)


def test_rates_of_the_exchange_are_those_of_steps_ahead_as_well() -> None:
    near, cuts = servers(Constant(), "sgd")
    learner = Constant()
    one = replica(learner, near, cuts, "a", Pace(8, 8, rates=Rates(0.5, 0.0), ahead="sgd"), gradients=True)
    for _ in range(3):
        one.step(1.0)
    # The third step's own gradient is not followed before the next begins.
    assert torch.equal(learner.weight, -0.5 * 2 * torch.arange(1.0, 7))
