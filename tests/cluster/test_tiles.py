"""Places shared by processes: the same network as one process trains, whatever the grid; what travels is what was predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import jobs
import tiling
from striate.cluster.tiles import Grid, Rect, grid_of, plan
from striate.errors import BadInput
from striate.models.sparse import NetSpec, StageSpec

# Sums in another order, float64: rounding of 2^-53, passed through a few steps of Adagrad whose slopes are divided by their own
# size; a wrong border changes the third digit.
EXACT = 1e-8

JOINT: list[dict[str, Any]] = [
    {"net": "valid"},
    {"net": "valid", "far": True},
    {"net": "padded"},
    {"net": "tied"},
    {"net": "tiled", "tied_decoder": True},
    {"net": "padded", "settings": {"together": "greedy"}, "steps": 6},
    {"net": "padded", "settings": {"together": "apart", "rule": "sgd"}, "rate": 1e-4},
    {"net": "valid", "tied_decoder": True, "settings": {"forget": 0.01, "unit": False}, "rate": 1e-2},
]


@pytest.fixture(scope="module")
def plain() -> list[dict[str, Any]]:
    return [tiling.alone(case) for case in JOINT]


def differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference beside the largest number of each tensor."""
    assert set(one) == set(other)
    return max(float((one[k].double() - other[k].double()).abs().max() / one[k].double().abs().max().clamp_min(1)) for k in one)


@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (3, 1), (2, 2), (3, 2)])
def test_any_grid_trains_the_network_of_one_process(grid: tuple[int, int], plain: list[dict[str, Any]]) -> None:
    """Filters, the rule's memory and metrics, in float64, against the plain learner; fields are wider than tiles in some."""
    count = grid[0] * grid[1]
    wanted = [(case, grid) for case in JOINT]
    ranks = [tiling.cases(0, 1, wanted)] if count == 1 else jobs.run(count, tiling.cases, wanted)
    for number, one in enumerate(plain):
        first = ranks[0][number]
        assert differ(one["state"], first["state"]) < EXACT, JOINT[number]
        for rank in ranks:
            for mine, theirs in zip(one["metrics"], rank[number]["metrics"], strict=True):
                # The energy that errors are held against is summed in float32.
                assert mine == pytest.approx(theirs, rel=1e-5), JOINT[number]
            assert one["diagnose"] == pytest.approx(rank[number]["diagnose"], rel=1e-6)
            assert rank[number]["received"] == rank[number]["predicted"], JOINT[number]


def test_filters_begin_as_one_process_would_begin_them() -> None:
    """From what places see of pictures: the same choices, and inputs that agree to float32's last digits."""
    case = {"net": "valid", "start": "pictures", "dtype": "fp32", "steps": 0}
    one = tiling.alone(case)["start"]
    for grid in ((2, 1), (1, 3)):
        found = jobs.run(grid[0] * grid[1], tiling.cases, [(case, grid)])[0][0]["start"]
        assert differ(one, found) < 1e-5
    noise = {"net": "padded", "dtype": "fp32", "steps": 0}
    found = jobs.run(4, tiling.cases, [(noise, (2, 2))])[0][0]["start"]
    assert all(torch.equal(tensor, found[name]) for name, tensor in tiling.alone(noise)["start"].items())


def test_what_four_leave_two_go_on_with() -> None:
    """A state is of the network, not of the grid: two steps by four, two by two, against four steps of one."""
    case: dict[str, Any] = {"net": "padded", "steps": 2}
    one = tiling.alone({"net": "padded", "steps": 4})["state"]
    left = jobs.run(4, tiling.cases, [(case, (4, 1))])
    assert [set(rank[0]["state"]) for rank in left[1:]] == [{"step"}] * 3
    went_on = jobs.run(2, tiling.cases, [({**case, "state": left[0][0]["state"]}, (1, 2))])
    assert differ(one, went_on[0][0]["state"]) < EXACT


def test_who_pools_nothing_learns_from_those_who_pool_what_it_owns() -> None:
    case: dict[str, Any] = {"net": "small", "steps": 3}
    one = tiling.alone(case)["state"]
    assert differ(one, jobs.run(4, tiling.cases, [(case, (4, 1))])[0][0]["state"]) < EXACT


def test_bfloat16_is_near_float32_and_halves_what_maps_weigh() -> None:
    small = [({"net": "valid", "dtype": dtype}, (2, 1)) for dtype in ("bf16", "fp32")]
    [(short, long), _] = jobs.run(2, tiling.cases, small)
    assert short["received"] == short["predicted"] < long["received"]
    losses = [[step["loss"] for step in one["metrics"]] for one in (short, long)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_interior_places_need_no_border() -> None:
    """A tile taller than a field is cut: the first piece sees own maps alone, and all pieces together are the tile."""
    ranks = jobs.run(2, tiling.cases, [({"net": "padded", "steps": 1}, (2, 1))])
    assert [rank[0]["pieces"] for rank in ranks] == [[1, 5, 1], [1, 5, 1]]


@pytest.mark.parametrize("name", sorted(tiling.NETS))
@pytest.mark.parametrize("grid", [Grid(1, 1), Grid(2, 3), Grid(5, 1), Grid(3, 4)])
def test_tiles_of_every_layer_are_the_layer(name: str, grid: Grid) -> None:
    """Every place is owned once; what is wanted covers exactly the windows of what is owned."""
    for stage in plan(tiling.NETS[name], grid):
        sides = stage.sides
        layers = (
            (stage.seen, sides.seen),
            (stage.filtered, sides.filtered),
            (stage.pooled, sides.pooled),
            (stage.output, sides.output),
        )
        for tiles, (_, height, width) in layers:
            owned = np.zeros((height, width), int)
            for tile in tiles:
                owned[tile.top : tile.bottom, tile.left : tile.right] += 1
            assert (owned == 1).all()
        for tile, fields in zip(stage.filtered, stage.fields):
            if tile.area:
                assert fields.height == (tile.height - 1) * sides.stage.stride + sides.stage.size


def test_grids_are_cut_where_borders_are_short() -> None:
    assert grid_of(2, 64, 64) == Grid(2, 1)
    assert grid_of(4, 64, 64) == Grid(2, 2)
    assert grid_of(6, 64, 64) == Grid(3, 2)
    assert grid_of(4, 200, 20) == Grid(4, 1)
    assert grid_of(169, 200, 200) == Grid(13, 13)
    with pytest.raises(BadInput, match="cannot share"):
        grid_of(7, 3, 3)


def test_the_papers_own_grid_needs_neighbours_two_away() -> None:
    """169 processes, fields of 18 on tiles of 15.4 (Le et al. 2012, section 4.1): halos of 17 reach past a neighbour."""
    paper = NetSpec((3, 200, 200), tuple(StageSpec() for _ in range(3)))
    grid = Grid(13, 13)
    for stage in plan(paper, grid):
        away = [
            max(abs(one // grid.columns - other // grid.columns), abs(one % grid.columns - other % grid.columns))
            for one, wanted in enumerate(stage.fields)
            for other, own in enumerate(stage.seen)
            if (own & wanted).area
        ]
        assert max(away) == 2


def test_rectangles_meet_where_both_are() -> None:
    one, other = Rect(0, 4, 2, 6), Rect(3, 9, 0, 3)
    assert one & other == Rect(3, 4, 2, 3)
    assert (one & Rect(7, 9, 7, 9)).area == 0
    assert Rect(2, 5, 1, 2).windows(4, 2, 3) == Rect(1, 9, -1, 3)
