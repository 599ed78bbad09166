"""The model of costs: table 4.1 by its formulae, what each algorithm sends, and how the choice follows from rates."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from striate.cluster.costs import Machine, Problem, cost, received_bytes
from striate.cluster.layout import MODES, Layout
from striate.cluster.measuring import choose
from striate.errors import BadInput

MACHINE = Machine(flops=1e11, memory=1e10, draws=3e8, packing=5e9, bandwidth=1e9, latency_s=1e-4)
PAPER = Problem(8000, 20_000, 8000)


@pytest.mark.parametrize(
    ("binary", "itemsize", "megabytes"),
    [(True, 4, (48, 144, 336)), (False, 4, (296, 888, 2072)), (False, 8, (552, 1656, 3864))],
)
def test_table_4_1(binary: bool, itemsize: int, megabytes: tuple[int, ...]) -> None:
    problem = replace(PAPER, binary=binary, itemsize=itemsize, exact=itemsize)
    assert [received_bytes(problem, "both", count) / 1e6 for count in (2, 4, 8)] == pytest.approx(megabytes, rel=1e-12)


def test_one_process_sends_nothing_and_two_do_half_the_work_or_seven_tenths() -> None:
    """7/K products against 5 where weights are learned twice (section 4.2), and 5/K where they are not."""
    one = cost(PAPER, "hidden", 1, MACHINE)
    assert one.received == one.network == one.waiting == 0
    assert one.products == pytest.approx(10 * 8000 * 8000 * 20_000 / MACHINE.flops)
    for mode in MODES:
        shared = cost(PAPER, mode, 4, MACHINE)
        assert shared.products / one.products == pytest.approx((7 if mode == "both" else 5) / 5 / 4), mode
        assert shared.updates / one.updates == pytest.approx({"both": 0.5, "data": 1.0}.get(mode, 0.25)), mode
        assert shared.received == received_bytes(PAPER, mode, 4)


def test_synchronising_after_each_update_sends_less_when_batches_are_large() -> None:
    """Against section 4.2 it spares the last hidden activities, m h / 8 bytes a machine, and sends the weights, 4 v h / K."""
    for batch, count in ((1000, 2), (64_000, 2), (255_999, 1), (128_001, 2), (127_999, 2), (32_001, 8), (31_999, 8)):
        if count == 1:
            continue
        problem = replace(PAPER, batch=batch)
        less = received_bytes(problem, "each-update", count) < received_bytes(problem, "both", count)
        assert less == (batch * count / 8 > 4 * PAPER.visible)


def test_parts_hide_the_network_behind_work() -> None:
    slow = replace(MACHINE, bandwidth=2e7)
    problem = replace(PAPER, batch=1000)
    whole, halves, quarters = (cost(problem, "hidden", 2, slow, parts).waiting for parts in (1, 2, 4))
    assert whole > halves > quarters > 0


def test_the_choice_follows_from_rates() -> None:
    problem = replace(PAPER, batch=1000)
    layout, costs = choose(problem, 2, MACHINE)
    assert layout.mode == "hidden" == min(costs, key=lambda mode: costs[mode].step_s)
    # A network that hardly moves: the fewest bytes win, however much is worked out twice.
    assert choose(problem, 2, replace(MACHINE, bandwidth=1e3))[0].mode == "both"
    # Means instead of bits on such a network: hidden inputs and activities cost more than visible ones.
    assert choose(replace(problem, states=False), 2, replace(MACHINE, bandwidth=1e3))[0].mode == "hidden"
    # Fewer hidden than visible units: their inputs are the smaller ones to send.
    upside_down = Problem(20_000, 2000, 1000, binary=False)
    assert choose(upside_down, 4, replace(MACHINE, bandwidth=1e7))[0].mode == "visible"
    # A small model and a large batch: nothing is smaller than its weights.
    small = Problem(50, 20, 100_000, binary=False)
    assert choose(small, 2, replace(MACHINE, bandwidth=1e6))[0].mode == "data"


def test_what_cannot_be_shared_is_not_chosen() -> None:
    tiny = Problem(6, 3, 8)
    assert choose(tiny, 4, MACHINE)[0].mode == "data"
    assert choose(replace(tiny, batch=7), 3, MACHINE)[0].mode != "data"
    with pytest.raises(BadInput, match="4 processes cannot share 3 hidden and 6 visible units, nor a batch of 7"):
        choose(replace(tiny, batch=7), 4, MACHINE)
    with pytest.raises(BadInput, match="batch of 7 cannot be shared"):
        choose(replace(tiny, batch=7), 4, MACHINE, "data")
    assert choose(tiny, 4, MACHINE, "both")[0] == Layout("both", 1)
    assert math.isfinite(cost(tiny, "both", 3, MACHINE).step_s)
