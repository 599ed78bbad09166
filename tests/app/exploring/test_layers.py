"""Layers as units: whose features are where, and whose filters are whose, of every kind of model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import small_models
from striate.app.exploring.layers import Layer, layers_of, levels
from striate.app.load import TrainedModel


def _layers(made: small_models.Small, folder: Path) -> tuple[TrainedModel, dict[str, Layer]]:
    model = made.save(folder, "m")
    return model, layers_of(model, model.encoder())


@pytest.mark.parametrize("kind", [*small_models.KINDS, *small_models.VARIANTS])
def test_units_times_places_are_the_features_of_every_layer(kind: str, tmp_path: Path) -> None:
    model, layers = _layers({**small_models.KINDS, **small_models.VARIANTS}[kind](), tmp_path)
    encoder = model.encoder()
    assert list(layers) == [name for name in encoder.layers if name != "pixels"]
    for name, layer in layers.items():
        assert layer.units * layer.places == encoder.dims[name]
        assert layer.filters is None or len(layer.filters) == layer.units


def test_a_filter_of_the_first_stage_is_the_one_its_unit_answers_by(tmp_path: Path) -> None:
    """Untied filters: the unit's answer is the product of its filter with the pixels at its place."""
    made = small_models.sparse("untied", (1, 9, 11))
    model, layers = _layers(made, tmp_path)
    layer = layers["filter1"]
    assert layer.places == 1 and layer.filters is not None
    pictures = small_models.pictures((1, 9, 11), 6)
    answers = model.encoder().encode(pictures, ["filter1"])["filter1"]
    stage = model.parts.sparse.spec.stages[0]  # type: ignore[union-attr]
    rows = model.preprocessor.apply(pictures).view(6, 1, 9, 11)
    # Half of the padding on each side, the odd row at the end.
    before = stage.pad // 2
    windows = F.unfold(F.pad(rows, (before, stage.pad - before) * 2), stage.size, stride=stage.stride)
    assert layer.units == stage.maps * windows.shape[2]
    places = torch.arange(layer.units) % windows.shape[2]
    mine = torch.stack([windows[:, :, place] @ one.flatten() for place, one in zip(places, layer.filters, strict=True)], dim=1)
    torch.testing.assert_close(answers, mine, rtol=1e-4, atol=1e-4)


def test_filters_of_deeper_layers_are_sums_of_those_below(tmp_path: Path) -> None:
    made = small_models.stack()
    _, layers = _layers(made, tmp_path)
    first, second, third = (rbm.weights.double() for rbm in made.parts.rbms)
    assert layers["hidden3"].filters is not None and not layers["hidden3"].first and layers["hidden1"].first
    expected = (third @ second @ first).view(-1, 3, 5, 5)
    torch.testing.assert_close(layers["hidden3"].filters.double(), expected, rtol=1e-4, atol=1e-5)


def test_grey_is_nought_and_each_filter_reaches_black_or_white() -> None:
    filters = torch.tensor([[[[0.0, 2.0], [-1.0, 0.5]]], [[[0.0, -4.0], [2.0, 0.0]]]])
    assert levels(filters).tolist() == [[[[128, 255], [64, 159]]], [[[128, 0], [191, 128]]]]
    assert levels(torch.zeros(1, 3, 2, 2)).tolist() == np.full((1, 3, 2, 2), 128).tolist()
