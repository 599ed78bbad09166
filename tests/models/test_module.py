"""Modules of plain operations say what their encoders say, layer by layer, for every kind of model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from small_models import KINDS, VARIANTS, Small, binary, convnet, net, pictures, sparse
from striate.app.exporting.modules import module_of
from striate.errors import BadInput
from striate.models.convnet.layers import Dropout, Window
from striate.models.convnet.module import NetLayer, Normalise
from striate.models.convnet.response import normalise

ALL = {**KINDS, **VARIANTS}


@pytest.mark.parametrize("kind", ALL)
def test_a_module_is_its_encoder_but_for_rounding(kind: str, tmp_path: Path) -> None:
    # Two ways of writing one function. What float32 rounds off either is seen against the module in float64.
    small = ALL[kind]()
    model = small.save(tmp_path, kind)
    encoder, levels = model.encoder(), pictures(small.image_shape, 9)
    wanted = encoder.encode(levels, encoder.layers)
    module = module_of(model, encoder, encoder.layers)
    found = module(torch.from_numpy(levels))
    exact = module_of(model, encoder, encoder.layers).double()(torch.from_numpy(levels))
    for layer, one, truth in zip(encoder.layers, found, exact):
        assert one.dtype == torch.float32 and one.shape == wanted[layer].shape
        size = float(truth.abs().max())
        assert float((wanted[layer] - truth).abs().max()) < 2e-5 * size, layer
        assert float((one - truth).abs().max()) < 2e-5 * size, layer


def test_pictures_of_another_size_are_read_by_patches(tmp_path: Path) -> None:
    small = KINDS["patches"]()
    model = small.save(tmp_path, "patches")
    encoder = model.encoder((3, 4, 13))
    levels = pictures((3, 4, 13), 5)
    [found] = module_of(model, encoder, ["hidden1"])(torch.from_numpy(levels))
    # One row of places: one region in all.
    assert found.shape == (5, 12)
    assert float((found - encoder.encode(levels)["hidden1"]).abs().max()) < 2e-6


@pytest.mark.parametrize(
    ("make", "layer", "left"),
    [(net, "hidden1", 2), (lambda: convnet("80sec", (3, 32, 32), None), "relu1", 2), (sparse, "norm1", 1)],
)
def test_what_lies_above_the_layers_asked_for_is_left_out(make: type[Small], layer: str, left: int, tmp_path: Path) -> None:
    model = make().save(tmp_path, "cut")
    module = module_of(model, model.encoder(), ["pixels", layer])
    state = {name: tensor for name, tensor in module.state_dict().items() if name.startswith("steps.")}
    assert sum(tensor.ndim > 1 or "bias" in name for name, tensor in state.items()) == left


def test_layers_come_in_the_order_asked_for(tmp_path: Path) -> None:
    model = net().save(tmp_path, "net")
    levels = torch.from_numpy(pictures((3, 4, 4), 3))
    first = module_of(model, model.encoder(), ["logits", "hidden1"])(levels)
    assert [one.shape[1] for one in first] == [3, 9]
    assert torch.equal(first[1], module_of(model, model.encoder(), ["hidden1"])(levels)[0])


def test_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    model = binary().save(tmp_path, "binary")
    with pytest.raises(BadInput, match="no layer 'hidden2': this model has pixels, hidden1"):
        module_of(model, model.encoder(), ["hidden2"])


@pytest.mark.parametrize(
    "window",
    [
        Window("maps", 5, 1e-2, groups=2),
        Window("maps", 4, 1e-2, 0.5, 1.0),
        Window("maps", 3, 0.3, 1.0, 1.0, groups=3),
        Window("places", 3, 1e-2, 0.75, 1.0),
    ],
)
def test_normalisation_as_the_paper_writes_it_is_the_trained_one(window: Window) -> None:
    # Columns, even windows, other powers: sums of at most 25 squares in float64.
    x = torch.linspace(-3, 3, 2 * 12 * 5 * 4, dtype=torch.float64).sin().mul(4).view(2, 12, 5, 4)
    module = Normalise(window, 12).double()
    torch.testing.assert_close(module(x), normalise(x, window), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("inverted", "factor"), [(True, 1.0), (False, 0.75)])
def test_at_test_time_nothing_is_dropped(inverted: bool, factor: float) -> None:
    x = torch.ones(2, 3)
    assert torch.equal(NetLayer(Dropout("drop", 0.25, inverted), None)(x), factor * x)


def test_modules_state_the_shapes_of_layers(tmp_path: Path) -> None:
    # 11x9 pictures less a border: 4x4 fields, stride 1, padded by 1: 7x9 places; pools of 3 leave 5x7, norms of 3 crop to 3x5.
    model = sparse().save(tmp_path, "sparse")
    shapes = module_of(model, model.encoder(), ["filter1", "pool1", "norm1"]).shapes()
    assert shapes == {"filter1": (4, 7, 9), "pool1": (4, 5, 7), "norm1": (4, 3, 5)}
