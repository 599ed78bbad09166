"""Merging patch RBMs: every hidden unit keeps its total input."""

import pytest
import torch

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import RBM, Bernoulli, Gaussian, ManyRBMs, merge_patch_rbms
from striate.preprocess import PatchLayout

_LAYOUT = PatchLayout((2, 16, 16), 4)


def _rbms(gaussian: bool, one_sigma: bool = False) -> list[RBM]:
    rbms = []
    for number in range(_LAYOUT.count):
        draws = Draws(number, purpose="merge")
        sigma = torch.full((_LAYOUT.dim,), 0.7) if one_sigma else 0.3 + draws.uniform("s", (_LAYOUT.dim,))
        units = Gaussian(sigma) if gaussian else Bernoulli()
        rbms.append(RBM(draws.normal("w", (5, _LAYOUT.dim)), draws.normal("b", (_LAYOUT.dim,)), draws.normal("c", (5,)), units))
    return rbms


@pytest.mark.parametrize("gaussian", [True, False])
def test_hidden_units_of_the_merged_model_receive_what_they_did(gaussian: bool) -> None:
    """On each of the patches, learned sigmas of all sizes included; float32 sums of 32 products leave 1e-4."""
    many = ManyRBMs.of(_rbms(gaussian))
    merged = merge_patch_rbms(many, _LAYOUT)
    rows = Draws(99).normal("rows", (6, 2 * 256)) if gaussian else Draws(99).uniform("rows", (6, 2 * 256))
    together = merged.hidden_input(rows).view(6, _LAYOUT.count, 5)
    for number, patch in enumerate(_LAYOUT.cut(rows)):
        torch.testing.assert_close(together[:, number], many[number].hidden_input(patch), rtol=1e-4, atol=1e-4)


def test_weights_outside_a_patch_are_zero_and_biases_are_averages_over_those_who_see_a_pixel() -> None:
    many = ManyRBMs.of(_rbms(True, one_sigma=True))
    merged = merge_patch_rbms(many, _LAYOUT)
    top, left = _LAYOUT.places[0]
    block = merged.weights[:5].view(5, 2, 16, 16)
    assert torch.count_nonzero(block) == 5 * 2 * 16 and block[:, :, top : top + 4, left : left + 4].ne(0).all()
    assert isinstance(merged.units, Gaussian)
    torch.testing.assert_close(merged.units.sigma, torch.full((512,), 0.7))
    # The corner is seen by the first tile and by the small picture's first pixel.
    expected = (many.visible_bias[0, 0] + many.visible_bias[-1, 0]) / 2
    torch.testing.assert_close(merged.visible_bias[0], expected)
    # A pixel three see: tile (0, 0), the first patch between, the small picture.
    y, x = 3, 3
    between = _LAYOUT.places.index((2, 2))
    expected = (many.visible_bias[0, 3 * 4 + 3] + many.visible_bias[between, 1 * 4 + 1] + many.visible_bias[-1, 0]) / 3
    torch.testing.assert_close(merged.visible_bias.view(2, 16, 16)[0, y, x], expected)


def test_rbms_that_do_not_fit_the_layout_are_refused() -> None:
    rbms = _rbms(True)
    with pytest.raises(BadInput, match="26 patches of 32 pixels, found 25 RBMs"):
        merge_patch_rbms(ManyRBMs.of(rbms[:-1]), _LAYOUT)
    with pytest.raises(BadInput, match="of one size and kind"):
        ManyRBMs.of([*rbms[:-1], _rbms(False)[0]])
    with pytest.raises(BadInput, match="found none"):
        ManyRBMs.of([])
