"""Learning from single fields: what is found of known sources, what is put into the network, exact resume."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.models.sparse.responses import padded
from striate.train.field_rules import FieldRule, grouped, improve
from striate.train.fields import FieldLearner, FieldSettings
from striate.train.updates import Rates

FIRST = StageSpec(4, 2, 6, pool=2, norm=3, norm_edges="keep", sharing="tied")
SECOND = StageSpec(4, maps=8, pool=1, pool_group=2, norm=0)
RULES = (FieldRule(penalty=0.3, fields=3, floor=0.05), FieldRule("winners", keep=10, floor=0.01, without_mean=True))


def rows(step: int, count: int = 32) -> Tensor:
    """Pictures of a few blobs on noise."""
    draws = Draws(7, step)
    shapes = Draws(1).normal("shapes", (4, 144))
    return draws.normal("amounts", (count, 4)) @ shapes + 0.3 * draws.normal("noise", (count, 144))


def learner(steps: int = 40, first: StageSpec = FIRST, rules: tuple[FieldRule, ...] = RULES) -> FieldLearner:
    net = SparseNet(NetSpec((1, 12, 12), (first, SECOND))).start(Draws(0))
    return FieldLearner(net, FieldSettings(rules, steps, seed=3), lambda step: Rates(0.05, 0.0))


def trained(one: FieldLearner, start: int, end: int) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in one.step(rows(step)).items()} for step in range(start, end)]


def sparse_sources(count: int, dims: int) -> Tensor:
    """Independent, mostly near zero: squares of exponential draws, with signs; variance one."""
    even = Draws(2).uniform("sources", (count, dims)) - 0.5
    sources = even.sign() * (1 - 2 * even.abs()).clamp_min(1e-9).log().square()
    return sources / sources.std(dim=0)


def test_components_are_the_independent_sources() -> None:
    """Five of them, rotated: each filter ends along one, and all are found."""
    rotation = torch.linalg.qr(Draws(5).normal("rotation", (5, 5))).Q
    fields = (sparse_sources(20_000, 5) @ rotation.t())[None]
    filters = torch.nn.functional.normalize(Draws(6).normal("first", (1, 5, 5)), dim=2)
    memory, spec = torch.zeros_like(filters), StageSpec(1, maps=5)
    assert float((filters[0] @ rotation).abs().amax(dim=0).min()) < 0.8, "from elsewhere"
    for step in range(400):
        at = slice(1000 * (step % 20), 1000 * (step % 20) + 1000)
        improve(FieldRule(penalty=1.0), filters, memory, fields[:, at], 0.3 * (1 - step / 400), spec, 1e-2)
    likeness = (filters[0] @ rotation).abs()
    assert min(float(likeness.amax(dim=0).min()), float(likeness.amax(dim=1).min())) > 0.98, likeness


def test_winners_are_the_directions_of_what_they_won() -> None:
    """Without forgetting, from filters that start as nothing, one step is a step of spherical k-means, by its formula."""
    fields = Draws(1).normal("fields", (2, 50, 6))
    filters = torch.nn.functional.normalize(Draws(1).normal("filters", (2, 4, 6)), dim=2)
    expected = filters.clone()
    for bank in range(2):
        unit = fields[bank] / fields[bank].norm(dim=1, keepdim=True)
        winner = (unit @ filters[bank].t()).argmax(dim=1)
        for number in range(4):
            total = unit[winner == number].sum(dim=0)
            expected[bank, number] = total / total.norm()
    memory, spec = torch.zeros_like(filters), StageSpec(1, maps=4)
    found = improve(FieldRule("winners", forget=0.0), filters, memory, fields, 0.0, spec, 0.01)
    torch.testing.assert_close(filters, expected)
    assert 0 < float(found["active"]) < 1 and 0 < float(found["error"]) < 1
    before = memory.clone()
    improve(FieldRule("winners", forget=0.3), filters, memory, fields[:, :1], 0.0, spec, 0.01)
    won = (memory - 0.7 * before).norm(dim=2)
    torch.testing.assert_close(won.sort(dim=1).values, torch.tensor([[0.0, 0.0, 0.0, 1.0]] * 2), atol=1e-5, rtol=0)


def test_a_filter_that_wins_nothing_stays_what_it_was() -> None:
    fields = torch.tensor([[[1.0, 0.1], [1.0, -0.1]]])
    filters = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]])
    memory = torch.tensor([[[0.0, 0.0], [-2.0, 0.0], [0.0, 0.0]]])
    for _ in range(3):
        improve(FieldRule("winners", forget=0.1), filters, memory, fields, 0.0, StageSpec(1, maps=3), 0.01)
    torch.testing.assert_close(filters, torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]]))


def test_each_group_is_a_filter_and_those_most_like_it() -> None:
    angles = torch.tensor([0.0, 0.1, 1.0, 1.3])
    filters = torch.stack([angles.cos(), angles.sin()], dim=1)[None]
    found = grouped(filters, 2).unflatten(1, (4, 2))[0]
    for number, mate in enumerate((1, 0, 3, 2)):
        torch.testing.assert_close(found[number], filters[0, [number, mate]])


def test_the_network_answers_fields_as_whitened_ones_were_answered() -> None:
    """Whitening is multiplied into the filters: fields' components by the learned filters are what the first stage filters."""
    one = learner(steps=20)
    trained(one, 0, 9)
    one.lay_down()
    learned = one._learned
    assert learned.whitening is not None
    x = padded(one.net.maps(rows(50)), 0)
    answers = one.net.activities(rows(50), ["filter1"])["filter1"]
    field = x[2:6, 4:8].permute(3, 0, 1, 2).flatten(1)
    offset = learned.whitening.mean @ learned.whitening.forward
    components = (field - learned.whitening.mean) @ learned.whitening.forward + offset
    torch.testing.assert_close(answers[1, 2].t(), components @ learned.filters[0].t(), rtol=1e-4, atol=1e-4)


def test_upper_stages_see_all_maps_and_lay_groups_down() -> None:
    one = learner(steps=20)
    trained(one, 0, 20)
    learned = one._learned
    assert learned.whitening is not None
    x = one.net.activities(rows(50), ["norm1"])["norm1"]
    answers = one.net.activities(rows(50), ["filter2"])["filter2"][0, 0].t()
    components = x[:4, :4].permute(3, 0, 1, 2).flatten(1) @ learned.whitening.forward
    prototypes = learned.filters[0]
    near = (prototypes @ prototypes.t()).fill_diagonal_(-2).argmax(dim=1)
    expected = torch.stack([components @ prototypes.t(), components @ prototypes[near].t()], dim=2).flatten(1)
    torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-4)


def test_so_many_fields_of_each_picture_are_looked_at() -> None:
    one = learner(steps=20)
    one.step(rows(0))
    assert one._learned.moments.count == 3 * 32
    trained(one, 1, 11)
    assert one._learned.moments.count == 32, "a stage that has one place sees one"
    x = one.net.activities(rows(10), ["norm1"])["norm1"]
    mean = x.mean(dim=3)[:4, :4].flatten()
    torch.testing.assert_close(one._learned.moments.mean.float(), mean, rtol=1e-4, atol=1e-5, msg="rows, columns, maps")


def test_without_their_mean_fields_answer_as_if_it_had_been_taken_off() -> None:
    one = learner(steps=20)
    trained(one, 0, 20)
    assert one._learned.whitening is not None
    offset = one._learned.whitening.mean @ one._learned.whitening.forward
    assert float(offset.abs().max()) < 1e-5 and float(one._learned.whitening.mean.norm()) > 0.1


@pytest.mark.parametrize("sharing", ["tied", "untied", "tiled"])
def test_places_part_late_and_only_where_they_do_not_share(sharing: str) -> None:
    first = replace(FIRST, sharing=sharing)  # type: ignore[arg-type]
    one = learner(40, first, (replace(RULES[0], apart=0.5), RULES[1]))
    # Of 20 steps 4 go to moments; of the 16 others the last 8 are apart.
    trained(one, 0, 12)
    one.lay_down()
    banks = one.net.stages[0].filters().flatten(0, 1)
    assert bool((banks == banks[0]).all()), "one bank serves all places at first"
    trained(one, 12, 13)
    assert len(one._learned.filters) == len(banks)
    trained(one, 13, 20)
    banks = one.net.stages[0].filters().flatten(0, 1)
    apart = (banks - banks[0]).abs().flatten(1).amax(dim=1)
    assert bool((apart[1:] > 1e-4).all()) if sharing != "tied" else len(banks) == 1
    lines = trained(one, 20, 40)
    assert {name for line in lines for name in line} == {"loss", "error2", "active2"}, "the second stage learns alone"


def test_a_resumed_run_is_the_same_to_the_bit_wherever_it_was_cut() -> None:
    whole = learner()
    trained(whole, 0, 40)
    for cut in (2, 11, 20, 22, 33):
        first, second = learner(), learner()
        trained(first, 0, cut)
        second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
        trained(second, cut, 40)
        for name, tensor in whole.net.state().items():
            assert torch.equal(tensor, second.net.state()[name]), (cut, name)


def test_a_checkpoint_of_another_way_of_training_is_refused() -> None:
    one = learner()
    with pytest.raises(BadInput, match=r"train\.together has changed"):
        one.load_state({"step": torch.tensor(3), **one.net.state()})


def test_rules_that_do_not_fit_the_stages_are_named() -> None:
    with pytest.raises(BadInput, match="1 given for 2 stages"):
        learner(rules=RULES[:1])
    with pytest.raises(BadInput, match="steps: 3 for 2 stages"):
        learner(3)
    few = learner(4, rules=(RULES[0], replace(RULES[1], keep=None)))
    with pytest.raises(BadInput, match="stage 2 begins with 4 fields as its filters, but would see 2 before"):
        few.step(rows(0, count=2))
    assert few.step_number == 0, "before anything is learned"
