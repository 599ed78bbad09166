"""Optimal stimuli of every kind of model: by closed form where there is one, better than any picture elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from small_models import KINDS, Small, pictures, preprocessor, rbm
from striate.app.exploring.layers import layers_of
from striate.app.exploring.wanted import is_climbed, wanted
from striate.app.load import Parts
from striate.app.screen import Screen
from striate.images import ArraySource, ImageStore, import_images

QUIET = Screen(quiet=True)


def _store(model: Small, folder: Path) -> ImageStore:
    import_images(ArraySource(pictures(model.image_shape)), folder / "store", workers=1)
    return ImageStore(folder / "store")


def test_a_unit_of_one_layer_wants_its_own_filter(tmp_path: Path) -> None:
    """On a sphere of rows w x / sigma is largest along w / sigma, however flat the sigmoid is there."""
    small = Small(Parts((rbm(48, 12, 1.0),)), preprocessor((3, 4, 4), kind="mean"), (3, 4, 4))
    model, store = small.save(tmp_path / "model", "model"), _store(small, tmp_path)
    encoder = model.encoder()
    layer = layers_of(model, encoder)["hidden1"]
    norm = model.preprocessor.apply(store[:]).norm(dim=1).mean()
    for unit in (0, 7):
        direction = model.rbm.weights[unit] / model.rbm.units.scaled(torch.ones(48)).reciprocal()
        best = model.preprocessor.invert((norm * direction / direction.norm())[None])[0].clamp(0, 255)
        found = wanted(model, encoder, layer, unit, store, QUIET).astype(np.float32)
        # 60 steps, and whole levels: within a hundredth of the picture's contrast.
        assert np.linalg.norm(found - best.numpy()) < 0.02 * norm


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "patches" not in kind])
def test_it_is_answered_more_than_any_picture(kind: str, tmp_path: Path) -> None:
    """Of the last layer, as the encoder itself answers the finished picture."""
    small = KINDS[kind]()
    model, store = small.save(tmp_path / "model", "model"), _store(small, tmp_path)
    encoder = model.encoder()
    layer = layers_of(model, encoder)[encoder.layers[-1]]
    assert is_climbed(model)
    found = wanted(model, encoder, layer, 0, store, QUIET)
    assert found.shape == model.image_shape and found.dtype == np.uint8
    answers = [
        encoder.encode(some)[layer.name].view(-1, layer.units, layer.places).amax(dim=2)[:, 0]
        for some in (store[:], found[None])
    ]
    assert float(answers[1][0]) >= float(answers[0].max()) - 1e-6


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "patches" in kind])
def test_models_of_patches_show_it_as_their_filter(kind: str, tmp_path: Path) -> None:
    assert not is_climbed(KINDS[kind]().save(tmp_path / "model", "model"))
