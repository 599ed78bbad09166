"""Where the 26 patches look."""

import pytest
import torch

from striate.draws import Draws
from striate.errors import BadInput
from striate.preprocess import PatchLayout

_PAPER = PatchLayout((3, 32, 32))


def test_the_papers_layout_has_26_patches_that_see_each_pixel_two_or_three_times() -> None:
    assert _PAPER.count == 26 and _PAPER.dim == 192 and _PAPER.factor == 4
    seen = _PAPER.coverage()
    # 3x3 patches of 8x8 between the tiles are seen by a tile, by themselves and by the small picture.
    assert (seen == 3).sum() == 9 * 64 and (seen == 2).sum() == 1024 - 9 * 64


def test_cut_takes_each_place_and_the_means_of_the_whole() -> None:
    rows = Draws(0).normal("rows", (5, 3 * 1024))
    patches = _PAPER.cut(rows)
    pictures = rows.view(5, 3, 32, 32)
    for number, (top, left) in enumerate(_PAPER.places):
        assert torch.equal(patches[number].view(5, 3, 8, 8), pictures[:, :, top : top + 8, left : left + 8])
    means = pictures.view(5, 3, 8, 4, 8, 4).mean(dim=(3, 5))
    torch.testing.assert_close(patches[25].view(5, 3, 8, 8), means, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("shape", "patch"), [((3, 32, 32), 8), ((1, 12, 12), 4), ((2, 18, 18), 6)])
def test_spread_is_the_transpose_of_cut(shape: tuple[int, int, int], patch: int) -> None:
    """<w, cut(v)> = <spread(w), v> for each patch: filters keep their total inputs on whole pictures."""
    layout = PatchLayout(shape, patch)
    pixels = shape[0] * shape[1] * shape[2]
    rows = Draws(1).normal("rows", (7, pixels)).double()
    weights = Draws(2).normal("weights", (layout.count, 4, layout.dim)).double()
    on_patches = weights @ layout.cut(rows.float()).double().transpose(1, 2)
    on_pictures = layout.spread(weights) @ rows.t()
    torch.testing.assert_close(on_pictures, on_patches, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("shape", "patch"), [((3, 32, 24), 8), ((3, 30, 30), 8), ((3, 8, 8), 8), ((3, 9, 9), 3)])
def test_pictures_that_cannot_be_tiled_are_refused(shape: tuple[int, int, int], patch: int) -> None:
    with pytest.raises(BadInput, match="do not tile"):
        PatchLayout(shape, patch)
