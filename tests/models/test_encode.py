"""Encoders: hidden means of whole pictures, and of patches averaged over regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.encoder import Encoder
from striate.models.rbm import new_rbm
from striate.models.rbm.encode import PatchEncoder, rbm_encoder
from striate.preprocess import Preprocessor, PreprocessSettings


def _pictures(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def test_whole_pictures_are_encoded_layer_by_layer() -> None:
    pre = Preprocessor.fit([_pictures(300, 8)], PreprocessSettings(epsilon=10))
    rbm = new_rbm(7, torch.zeros(pre.dim), draws=Draws(0))
    encoder = rbm_encoder(pre, [rbm])
    assert isinstance(encoder, Encoder)
    out = encoder.encode(_pictures(5, 8), ["pixels", "hidden1"])
    torch.testing.assert_close(out["pixels"], pre.apply(_pictures(5, 8)))
    torch.testing.assert_close(out["hidden1"], rbm.hidden_mean(out["pixels"]))
    assert {name: part.shape[1] for name, part in out.items()} == dict(encoder.dims)


@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize(("size", "stride", "regions"), [(12, 1, 2), (15, 2, 3), (6, 1, 1)])
def test_patch_features_are_averages_over_regions(size: int, stride: int, regions: int, contrast: bool) -> None:
    """Reference: a loop over every patch, each put into its region; places divide evenly here.

    Without contrast normalisation all of it is one convolution, with it it is not: both ways must give the loop's numbers.
    """
    pre = Preprocessor.fit([_pictures(500, 5)], PreprocessSettings(epsilon=10, contrast=contrast, patch=5))
    rbm = new_rbm(4, torch.zeros(pre.dim), weight_std=0.5, sigma=0.7, draws=Draws(0))
    encoder = PatchEncoder(pre, rbm, (3, size, size), stride=stride, regions=regions)
    pictures = _pictures(2, size)
    places = range(0, size - 5 + 1, stride)
    side = len(places)
    sums = torch.zeros(2, 4, regions, regions)
    counts = torch.zeros(regions, regions)
    for row, top in enumerate(places):
        for column, left in enumerate(places):
            activity = rbm.hidden_mean(pre.apply(pictures[:, :, top : top + 5, left : left + 5]))
            y, x = row * regions // side, column * regions // side
            sums[:, :, y, x] += activity
            counts[y, x] += 1
    torch.testing.assert_close(encoder.encode(pictures)["hidden1"], (sums / counts).flatten(1), rtol=1e-4, atol=1e-5)


def test_wrong_pictures_and_layers_are_named() -> None:
    pre = Preprocessor.fit([_pictures(300, 8)], PreprocessSettings(epsilon=10))
    encoder = rbm_encoder(pre, [new_rbm(7, torch.zeros(pre.dim), draws=Draws(0))])
    with pytest.raises(BadInput, match="do not fit this model"):
        encoder.encode(_pictures(5, 9))
    with pytest.raises(BadInput, match="no layer 'hidden2'"):
        encoder.encode(_pictures(5, 8), ["hidden2"])
    with pytest.raises(BadInput, match="cannot be read by patches"):
        PatchEncoder(pre, new_rbm(7, torch.zeros(pre.dim), draws=Draws(0)), (3, 6, 6))
