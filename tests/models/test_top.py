"""A classifier on a model's last layer: its scale, its start, and its place in an encoder."""

from __future__ import annotations

import math

import pytest
import torch

from small_models import pictures, recogniser, sparse
from striate.app.load import Parts, TrainedModel
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.top import Kind, Top, new_top


def features() -> torch.Tensor:
    """Of sizes far apart; the last never varies."""
    found = Draws(5).normal("features", (200, 8)) * torch.logspace(-1, 2, 8) + 300
    found[:, -1] = 7
    return found


def test_features_enter_without_a_mean_and_with_a_length_of_about_one() -> None:
    """What varies more than a tenth as much as features do on average has a deviation of 1 / sqrt(8); less stays less."""
    seen = features()
    scaled = new_top(seen, 4, "softmax").scaled(seen)
    torch.testing.assert_close(scaled.mean(dim=0), torch.zeros(8), atol=1e-5, rtol=0)
    deviation = seen.std(dim=0, correction=0)
    much = deviation > 0.1 * deviation.square().mean().sqrt()
    assert much.tolist() == [False] * 3 + [True] * 4 + [False]
    torch.testing.assert_close(scaled.std(dim=0, correction=0)[much], torch.full((4,), 8**-0.5))
    assert (scaled.std(dim=0)[~much] < 0.8 * 8**-0.5).all() and not scaled[:, -1].any()


@pytest.mark.parametrize("kind", ["softmax", "one-against-all"])
def test_a_new_classifier_gives_every_class_its_share(kind: Kind) -> None:
    logits = new_top(features(), 50, kind).logits(features())
    shares = logits.softmax(dim=1) if kind == "softmax" else logits.sigmoid()
    torch.testing.assert_close(shares, torch.full_like(shares, 1 / 50))


def test_features_that_never_vary_are_left_at_nothing() -> None:
    top = new_top(torch.full((10, 3), 4.0), 2, "softmax")
    assert torch.equal(top.scaled(torch.full((1, 3), 4.0)), torch.zeros(1, 3)) and math.isfinite(float(top.scale.sum()))


def test_logits_are_the_classifier_s_of_the_last_layer() -> None:
    small = recogniser()
    assert small.parts.top is not None
    plain = TrainedModel(Parts(sparse=small.parts.sparse), small.preprocessor, small.image_shape, {}).encoder()
    levels, encoder = (
        pictures(small.image_shape, 5),
        TrainedModel(small.parts, small.preprocessor, small.image_shape, {}).encoder(),
    )
    assert encoder.layers == (*plain.layers, "logits") and encoder.dims["logits"] == 3
    last = plain.layers[-1]
    found = encoder.encode(levels, ["logits", "pool1"])
    assert set(found) == {"logits", "pool1"}
    torch.testing.assert_close(found["logits"], small.parts.top.logits(plain.encode(levels)[last]))
    for layer in plain.layers:
        assert torch.equal(encoder.encode(levels, [layer])[layer], plain.encode(levels, [layer])[layer])


def test_tensors_that_do_not_fit_one_another_are_refused() -> None:
    with pytest.raises(BadInput, match=r"a classifier of 5 features has a centre of \(4,\), expected \(5,\)"):
        Top(torch.zeros(3, 5), torch.zeros(3), torch.zeros(4), torch.ones(5))
    good = Top(torch.zeros(3, 5), torch.zeros(3), torch.zeros(5), torch.ones(5))
    with pytest.raises(BadInput, match="softmax or one-against-all, found 'hinge'"):
        Top.restore({"kind": "hinge"}, good.state())


def test_what_was_taught_classes_rebuilds_nothing() -> None:
    assert sparse().parts.rebuilds and not recogniser().parts.rebuilds
