"""Locally connected sparse autoencoders: products against loops, gradients against differences, sizes against the paper's."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.models.sparse.filtering import autoencode, encode
from striate.models.sparse.net import stage_terms
from striate.models.sparse.places import Places, best_block, with_block
from striate.models.sparse.responses import gaussian, normalise_contrast, padded, pool
from striate.models.sparse.shapes import costs, sides
from striate.models.sparse.spec import stage_of
from striate.models.sparse.trained import TrainedSparseNet

PERIODS = (0, 1, 2)
BLOCKS = ((1, 1), (2, 2), (3, 2), (1, 4))


def normal(name: str, *shape: int) -> Tensor:
    return Draws(0).normal(name, shape).double()


def layer(period: int, block: tuple[int, int]) -> tuple[Places, Tensor, Tensor, Tensor]:
    """A small layer whose grid its blocks do not divide: places, encoder's and decoder's filters, inputs."""
    places = Places((3, 13, 15), 5, 2, 4, period, block)
    shape = (*places.banks, 4, 5, 5, 3)
    return places, normal("encoder", *shape), normal("decoder", *shape), normal("x", 13, 15, 3, 6)


def laid_out(places: Places, filters: Tensor) -> Tensor:
    operand = places.empty_operand(filters.dtype, "cpu")
    places.lay_out(filters, operand)
    return operand


def filters_of(places: Places, filters: Tensor, row: int, column: int) -> Tensor:
    return filters[row % places.banks[0], column % places.banks[1]]


@pytest.mark.parametrize(("period", "block"), list(itertools.product(PERIODS, BLOCKS)))
def test_filtering_is_a_loop_over_places(period: int, block: tuple[int, int]) -> None:
    places, encoder, decoder, x = layer(period, block)
    h = torch.empty(*places.grid, 4, 6, dtype=torch.float64)
    rebuilt = torch.zeros_like(x)
    for row, column in itertools.product(*map(range, places.grid)):
        field = (slice(2 * row, 2 * row + 5), slice(2 * column, 2 * column + 5))
        h[row, column] = torch.einsum("mhwc,hwcb->mb", filters_of(places, encoder, row, column), x[field])
        rebuilt[field] += torch.einsum("mhwc,mb->hwcb", filters_of(places, decoder, row, column), h[row, column])
    torch.testing.assert_close(encode(x, laid_out(places, encoder), places), h)
    found, made = autoencode(x, laid_out(places, encoder), laid_out(places, decoder), places)
    torch.testing.assert_close(found, h)
    torch.testing.assert_close(made, rebuilt)


@pytest.mark.parametrize(("period", "block"), list(itertools.product(PERIODS, BLOCKS)))
def test_filters_survive_being_laid_out_and_the_rest_stays_zero(period: int, block: tuple[int, int]) -> None:
    places, encoder, _, _ = layer(period, block)
    operand = laid_out(places, encoder)
    counts = laid_out(places, torch.ones_like(encoder))
    assert torch.equal((operand != 0).double(), counts), "filters stand where ones would"
    assert counts.sum() == places.grid[0] * places.grid[1] * 4 * places.fan_in
    back = torch.empty_like(encoder)
    places.gather(operand, back)
    times = torch.empty_like(encoder)
    places.gather(counts, times)
    torch.testing.assert_close(back, encoder * times, msg="shared filters are added up once a place")
    assert bool((times == 1).all()) == (period == 0)


@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_are_those_of_differences(block: tuple[int, int]) -> None:
    places, encoder, decoder, x = layer(0, block)
    mask = laid_out(places, torch.ones_like(encoder))
    # Only what may be other than zero is asked about: elsewhere the gradient is masked on purpose.
    operands = [laid_out(places, one).requires_grad_() for one in (encoder, decoder)]
    inputs = x[..., :2].contiguous().requires_grad_()

    def both(x: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return autoencode(x, w * mask, v * mask, places)

    assert torch.autograd.gradcheck(both, (inputs, *operands), fast_mode=True)
    assert torch.autograd.gradcheck(lambda x, w: encode(x, w * mask, places), (inputs, operands[0]), fast_mode=True)


@pytest.mark.parametrize("spec", [StageSpec(3, 1, 4, pool=2, norm=3), StageSpec(4, 2, 9, pad=2, pool=1, pool_maps=3, norm=0)])
def test_the_whole_objective_has_the_gradient_of_differences(spec: StageSpec) -> None:
    """Reconstruction, pooled sparsity and what the next stage sees, by inputs and both kinds of filters."""
    net = SparseNet(NetSpec((2, 8, 8), (spec,)))
    [stage] = net.stages
    shape = (*stage.places.banks, *stage.filter_shape)
    mask = laid_out(stage.places, torch.ones(shape, dtype=torch.float64))
    operands = [laid_out(stage.places, normal(name, *shape)).requires_grad_() for name in ("encoder", "decoder")]
    x = normal("x", 8, 8, 2, 2).requires_grad_()

    def objective(x: Tensor, encoder: Tensor, decoder: Tensor) -> tuple[Tensor, ...]:
        terms, out = stage_terms(stage, x, encoder * mask, decoder * mask, 1e-2)
        return terms.reconstruction, terms.sparsity, out

    assert torch.autograd.gradcheck(objective, (x, *operands), fast_mode=True)


def test_what_is_rebuilt_is_compared_with_the_picture_and_not_with_the_zeros_around_it() -> None:
    net = SparseNet(NetSpec((2, 8, 8), (StageSpec(4, 2, 9, pad=2, pool=1, pool_maps=3, norm=0),)))
    [stage] = net.stages
    shape = (*stage.places.banks, *stage.filter_shape)
    encoder, decoder = (laid_out(stage.places, normal(name, *shape)) for name in ("encoder", "decoder"))
    x = normal("x", 8, 8, 2, 3)
    around = torch.nn.functional.pad(x, (0, 0, 0, 0, 1, 1, 1, 1))
    _, rebuilt = autoencode(around, encoder, decoder, stage.places)
    wanted = sum(float((rebuilt[i + 1, j + 1] - x[i, j]).square().sum()) for i, j in itertools.product(range(8), range(8))) / 3
    terms, _ = stage_terms(stage, x, encoder, decoder, 1e-2)
    assert float(terms.reconstruction) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("size", [3, 9])
def test_windows_are_gaussians_of_a_quarter_of_their_edge(size: int) -> None:
    line, half = gaussian(size, torch.float64), size // 2
    for off in range(1, half + 1):
        assert float(line[half + off] / line[half]) == pytest.approx(np.exp(-(off**2) / (2 * (size / 4) ** 2)), rel=1e-12)


def test_the_block_changes_nothing_but_the_speed() -> None:
    places = Places((8, 40, 40), 18, 1, 8)
    chosen = best_block(places, 32)
    assert chosen.block != (1, 1)
    assert 1 < chosen.waste < 1.6
    filters = Draws(0).normal("filters", (23, 23, 8, 18, 18, 8)) / 50
    x = Draws(0).normal("x", (40, 40, 8, 4))
    plain, blocked = (encode(x, laid_out(one, filters), one) for one in (with_block(places, (1, 1)), chosen))
    torch.testing.assert_close(blocked, plain, rtol=1e-4, atol=1e-4)


def test_pooling_is_the_root_of_summed_squares() -> None:
    h = normal("h", 7, 9, 9, 5)
    found = pool(h, 3, 2, floor=0.5)
    assert found.shape == (3, 4, 9, 5)
    torch.testing.assert_close(found[1, 2], (h[2:5, 4:7].square().sum(dim=(0, 1)) + 0.5).sqrt())
    # Maps 0 to 8 are a torus of 3 x 3: every neighbourhood of 3 x 3 is all of them.
    across = pool(h, 1, maps=3)
    torch.testing.assert_close(across[..., 4, :], h.square().sum(dim=2).sqrt())
    torch.testing.assert_close(pool(h, 3, 2, pad=2)[-1, 0, 0], h[5:7, 0:2, 0].square().sum(dim=(0, 1)).sqrt())


@pytest.mark.parametrize("size", [3, 5])
def test_contrast_normalisation_is_its_formula(size: int) -> None:
    """Every window written out: cut off at the border, weights summing to one, all maps alike, spread of the centred maps."""
    x, half, floor = normal("x", 6, 7, 4, 3), size // 2, 0.9
    line = gaussian(size, torch.float64)
    assert line.sum() == pytest.approx(1) and line.argmax() == half

    def windowed(values: Tensor, row: int, column: int) -> Tensor:
        total, weight = torch.zeros(3, dtype=torch.float64), 0.0
        for i, j in itertools.product(range(-half, half + 1), repeat=2):
            if 0 <= row + i < 6 and 0 <= column + j < 7:
                share = float(line[half + i] * line[half + j])
                total, weight = total + share * values[row + i, column + j].mean(dim=0), weight + share
        return total / weight

    centred = torch.stack([torch.stack([x[i, j] - windowed(x, i, j) for j in range(7)]) for i in range(6)])
    spread = torch.stack([torch.stack([windowed(centred.square(), i, j) for j in range(7)]) for i in range(6)])
    wanted = centred / spread.sqrt().clamp_min(floor)[:, :, None]
    assert bool((spread.sqrt() < floor).any()) and bool((spread.sqrt() > floor).any()), "both regimes are tested"
    kept = normalise_contrast(x, size, floor, crop=False)
    torch.testing.assert_close(kept, wanted)
    torch.testing.assert_close(normalise_contrast(x, size, floor), kept[half:-half, half:-half])
    flat = torch.ones(6, 7, 4, 3, dtype=torch.float64, requires_grad=True)
    [slope] = torch.autograd.grad(normalise_contrast(flat, size, floor).sum(), flat)
    assert bool(slope.isfinite().all()), "a flat window has a finite slope"


def paper(**changes: object) -> NetSpec:
    return NetSpec((3, 200, 200), (stage_of(changes),) * 3)


def test_the_paper_s_network_has_its_billion_weights() -> None:
    found = sides(paper())
    assert [(one.filtered[1], one.pooled[1], one.output[1]) for one in found] == [
        (183, 179, 175),
        (158, 154, 150),
        (133, 129, 125),
    ]
    assert [one.weights for one in found] == [260_410_464, 517_653_504, 366_799_104]
    taken = costs(paper(), 100, operand_bytes=2)
    assert taken.encoder == 1_144_863_072
    assert taken.parameters == 2_289_726_144
    assert taken.flops == pytest.approx(13.2e9, rel=0.01)
    strided = paper(pad=17, pool_stride=2, pool_pad=3, norm_edges="keep")
    assert [one.output[1] for one in sides(strided)] == [100, 50, 25]
    assert costs(strided, 1).encoder == 570_240_000


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (lambda: sides(NetSpec((1, 16, 16), (StageSpec(18),))), "receptive fields of 18x18 do not fit"),
        (lambda: sides(NetSpec((1, 16, 16), (StageSpec(5, 2),))), "1 of 16 would never be seen"),
        (lambda: sides(NetSpec((1, 16, 16), (StageSpec(14, pool=5),))), "pools of 5x5 do not fit into 3x3"),
        (lambda: sides(NetSpec((1, 16, 16), (StageSpec(12, pool=3, norm=5),))), "leaves nothing of 3x3"),
        (lambda: StageSpec(norm=4), "expected an odd number"),
        (lambda: StageSpec(maps=8, pool_maps=3), "do not fill"),
        (lambda: StageSpec(stride=0), "stride must be at least 1"),
        (lambda: NetSpec((1, 16, 16), ()), "at least one stage"),
        (lambda: stage_of({"size": 5, "colour": 1}), "a stage has no 'colour'"),
    ],
)
def test_shapes_that_do_not_fit_are_named(spec: object, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        spec()  # type: ignore[operator]


def test_one_stage_as_large_as_the_picture_is_ordinary_ica() -> None:
    """All units see all pixels: products are W x, and rebuilding with the encoder's own weights is W'W x."""
    spec = NetSpec((1, 6, 6), (StageSpec(6, maps=16, pool=1, norm=0),))
    net = SparseNet(spec, tied_decoder=True).start(Draws(1))
    rows = Draws(0).normal("rows", (5, 36))
    weights = net.state()["stage1.encoder"].reshape(16, 36)
    torch.testing.assert_close(weights.norm(dim=1), torch.ones(16))
    answers = net.activities(rows, ["filter1"])["filter1"]
    torch.testing.assert_close(answers.reshape(16, 5).t(), rows @ weights.t())
    [stage] = net.stages
    operand = stage.operand(stage.encoder, torch.float32)
    terms, _ = stage_terms(stage, net.maps(rows), operand, operand, 1e-2)
    torch.testing.assert_close(terms.reconstruction, (rows @ weights.t() @ weights - rows).square().sum() / 5)
    torch.testing.assert_close(terms.sparsity, ((rows @ weights.t()).square() + 1e-2).sqrt().sum() / 5)


@pytest.mark.parametrize("sharing", ["untied", "tiled", "tied"])
def test_a_network_is_kept_and_loaded_whole(sharing: str, tmp_path: Path) -> None:
    spec = NetSpec((2, 12, 12), (StageSpec(4, 2, 3, pool=2, norm=3, sharing=sharing), StageSpec(2, maps=4, pool=1, norm=0)), 3)
    net = SparseNet(spec).start(Draws(3))
    kept = TrainedSparseNet(spec, net.state())
    again = TrainedSparseNet.restore(kept.describe(), kept.state)
    rows = Draws(0).normal("rows", (4, 288))
    layers = ["pool1", "norm1", "filter2", "norm2"]
    for name, made in again.build().activities(rows, layers).items():
        assert torch.equal(made, net.activities(rows, layers)[name])
    with pytest.raises(BadInput, match="this network needs"):
        SparseNet(NetSpec((2, 12, 12), (StageSpec(4, 2, 5, pool=2, norm=3),))).load(kept.state)


def test_filters_can_start_as_what_places_see_of_pictures() -> None:
    spec = NetSpec((1, 10, 10), (StageSpec(4, 2, 2, pool=1, norm=0),))
    rows = Draws(0).normal("rows", (3, 100))
    filters = SparseNet(spec).start_from(rows, Draws(5)).state()["stage1.encoder"]
    seen = rows.view(3, 10, 10)[:, 4:8, 2:6].flatten(1)
    seen = seen - seen.mean(dim=1, keepdim=True)
    likeness = torch.nn.functional.cosine_similarity(filters[2, 1].flatten(1)[:, None], seen[None], dim=2)
    assert bool((likeness.amax(dim=1) > 0.99).all()), "a place's filters are its own view of some picture"


def test_padding_is_more_after_than_before() -> None:
    assert padded(torch.ones(2, 2, 1, 1), 3)[..., 0, 0].tolist() == [
        [0] * 5,
        [0, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0] * 5,
        [0] * 5,
    ]


def test_maps_in_a_row_are_pooled_into_one() -> None:
    h = normal("grouped", 3, 4, 6, 2)
    expected = (0.01 + h.square().view(3, 4, 3, 2, 2).sum(dim=3)).sqrt()
    torch.testing.assert_close(pool(h, 1, floor=0.01, group=2), expected)
    spec = NetSpec(
        (1, 12, 12), (StageSpec(4, 2, 6, pool=2, pool_group=3, norm=3, norm_edges="keep"), StageSpec(4, maps=2, pool=1))
    )
    first, second = sides(replace(spec, stages=(spec.stages[0], replace(spec.stages[1], norm=0))))
    assert (first.filtered, first.pooled, first.output) == ((6, 5, 5), (2, 4, 4), (2, 4, 4))
    assert second.seen == (2, 4, 4) and second.fan_in == 32
    with pytest.raises(BadInput, match="6 maps, groups of 4"):
        StageSpec(4, maps=6, pool_group=4)
    with pytest.raises(BadInput, match="in place of pool_maps"):
        StageSpec(4, maps=9, pool_group=3, pool_maps=3)


@pytest.mark.parametrize(("sharing", "tile"), [("untied", 1), ("tiled", 2), ("tiled", 3), ("tied", 1)])
def test_turns_choose_evenly_among_the_places_that_share_a_bank(sharing: str, tile: int) -> None:
    """5 x 7 places; turns in even steps reach each as often as any, to one."""
    spec = NetSpec((1, 7, 9), (StageSpec(3, maps=2, pool=1, norm=0, sharing=sharing, tile=tile),))  # type: ignore[arg-type]
    stage = SparseNet(spec).stages[0]
    turns = torch.arange(210) / 210
    for axis, edge in enumerate((5, 7)):
        period = stage.places.period
        for bank in range(stage.places.banks[axis]):
            sharing_it = list(range(bank, edge, period)) if period else [bank]
            found, counts = stage.place_of(bank, axis, turns).unique(return_counts=True)
            assert found.tolist() == sharing_it
            assert int(counts.max()) - int(counts.min()) <= 1
