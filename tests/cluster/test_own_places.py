"""A replica of several processes, without an engine: each exchanges its own places, and together they are one learner."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ganging
import jobs
import tiling
from striate.cluster.by_process import by_process, shards_by_process
from striate.cluster.flat import Flat
from striate.cluster.tiles import Grid, plan
from striate.errors import BadInput

# Sums in another order, in float64.
EXACT = 1e-9

CASES: list[dict[str, Any]] = [
    {"net": "valid"},
    {"net": "padded"},
    {"net": "tied"},
    {"net": "tiled", "tied_decoder": True},
    {"net": "padded", "settings": {"together": "greedy"}, "steps": 1},
    {"net": "padded", "settings": {"together": "apart"}},
]
GRIDS = [(2, 1), (2, 2), (1, 3), (3, 2)]


@pytest.mark.parametrize("grid", GRIDS)
def test_gradients_of_all_processes_are_those_of_one_in_the_order_of_their_shards(grid: tuple[int, int]) -> None:
    """In float64, against the plain learner's, read place by place; so are the filters; metrics are of the whole."""
    wanted = [({**case, "dtype": "fp64"}, grid) for case in CASES]
    ranks = jobs.run(grid[0] * grid[1], ganging.slopes, wanted)
    for number, (case, _) in enumerate(wanted):
        learner = ganging.plain(case)
        sections = by_process(learner, Grid(*grid))
        slope = learner.slope(tiling.pictures(tiling.NETS[case["net"]], 0))
        gradients = {one.name: gradient for one, gradient in zip(learner.exchanged(), slope.gradients)}
        for rank, section in enumerate(sections):
            found = ranks[rank][number]
            assert torch.equal(found["parameters"], ganging.joined(section, [one.tensor for one in section])), case
            expected = ganging.joined(section, [gradients[one.name].expand(one.tensor.shape) for one in section])
            assert expected.shape == found["gradients"].shape
            assert (
                not len(expected)
                or float((found["gradients"] - expected).abs().max() / expected.abs().max().clamp_min(1)) < EXACT
            )
            assert found["metrics"] == pytest.approx({name: float(value) for name, value in slope.metrics.items()}, rel=1e-5)


PLAIN_DESCENT: list[dict[str, Any]] = [
    {"net": net, "settings": {"rule": "sgd"}, "rate": 1e-3, "gradients": gradients}
    for net in ("padded", "tied", "tiled")
    for gradients in (True, False)
]


@pytest.mark.parametrize("grid", [(2, 1), (2, 2)])
def test_a_replica_alone_in_its_rounds_is_one_process(grid: tuple[int, int]) -> None:
    """Whether it sends gradients or its own changes; to the rounding of four steps in float32, beside what they changed."""
    wanted = [(case, grid) for case in PLAIN_DESCENT]
    ranks = jobs.run(grid[0] * grid[1], ganging.replicas, wanted)
    for number, (case, _) in enumerate(wanted):
        learner = ganging.plain(case)
        began = {name: tensor.clone() for name, tensor in learner.state().items()}
        for step in range(4):
            learner.step(tiling.pictures(tiling.NETS[case["net"]], step))
        for name, tensor in learner.state().items():
            if name == "step" or name.endswith("memory"):
                continue
            moved = float((tensor - began[name]).abs().max())
            wrong = float((ranks[0][number]["whole"][name] - tensor).abs().max())
            assert wrong < 1e-3 * moved, (case, name)


def test_shared_filters_travel_once_and_everything_else_by_its_owner() -> None:
    """Bytes to and from shards, and from process to process, to the last one."""
    grid = (2, 2)
    for case in ({"net": "tied", "rate": 1e-3}, {"net": "padded", "rate": 1e-3}):
        ranks = [one[0] for one in jobs.run(4, ganging.replicas, [(case, grid)])]
        whole = sum(tensor.numel() for tensor in ganging.plain(case).net.state().values())
        assert sum(one["size"] for one in ranks) == whole
        for one in ranks:
            assert one["pushed"] == 4 * 4 * one["size"] and one["pulled"] == 5 * 4 * one["size"]
            assert one["received"] == 4 * one["planned"]


@pytest.mark.parametrize("near", [False, True])
def test_a_process_that_leaves_is_waited_for_no_longer(tmp_path: Path, near: bool) -> None:
    """By the engine's way and by shared memory; the job would be ended long before anybody's patience is."""
    said, _ = jobs.run(2, ganging.left_alone, str(tmp_path), near, limit_s=100)
    assert "another process cannot be reached any more" in said


@pytest.mark.parametrize("net", sorted(tiling.NETS))
@pytest.mark.parametrize("grid", [Grid(1, 1), Grid(2, 2), Grid(1, 3), Grid(5, 2)])
def test_every_number_is_one_process_s(net: str, grid: Grid) -> None:
    """The whole is numbered; the processes' parts hold every number once, their rectangles', and put them back."""
    learner = ganging.plain({"net": net})
    whole, parts = Flat(learner.exchanged()), by_process(learner, grid)
    numbers = torch.arange(float(whole.size))
    whole.scatter(numbers)
    filters = dict(learner.state())
    flats = [Flat(section) for section in parts]
    found = [flat.gather(flat.new()) for flat in flats]
    assert torch.equal(torch.cat(found).sort().values, numbers)
    for rank, section in enumerate(parts):
        for one, piece in zip(section, found[rank].split([one.size for one in section])):
            stage = plan(learner.net.spec, grid)[int(one.name[5]) - 1]
            tile = stage.filtered[rank]
            named = (
                filters[one.name]
                if stage.sides.stage.period
                else filters[one.name][tile.top : tile.bottom, tile.left : tile.right]
            )
            assert torch.equal(piece, named.reshape(-1))
    # What a rule remembers is kept in the learner's own order.
    joined = Flat([one for section in parts for one in section])
    assert torch.equal(joined.reordered(torch.cat(found), whole), numbers)
    assert torch.equal(whole.reordered(numbers, joined), torch.cat(found))
    whole.scatter(whole.new())
    for flat, values in zip(flats, found):
        flat.scatter(values)
    assert torch.equal(whole.gather(whole.new()), numbers)


def test_no_shard_holds_two_processes_filters() -> None:
    """As many shards as are asked for, by size; together they are everything, and cut no filter that is kept at norm one."""
    learner = ganging.plain({"net": "padded"})
    parts = by_process(learner, Grid(3, 2))
    sizes = [sum(one.size for one in section) for section in parts]
    flat = Flat([one for section in parts for one in section])
    ends = np.cumsum([0, *sizes])
    for count in (6, 7, 15):
        cuts = shards_by_process(flat, sizes, count)
        assert sum(len(own) for own in cuts) == count
        for own, start, stop in zip(cuts, ends, ends[1:]):
            assert own[0].start == start and own[-1].stop == stop
            assert all(one.stop == other.start for one, other in itertools.pairwise(own))
        for cut in (cut for own in cuts for cut in own):
            assert all((rows.stop - rows.start) % rows.width == 0 for rows in flat.rows(cut))
    with pytest.raises(BadInput, match="shards must be at least 6, found 5"):
        shards_by_process(flat, sizes, 5)
    assert shards_by_process(Flat(parts[0]), [sizes[0], 0], 1) == [[slice(0, sizes[0])], []]
