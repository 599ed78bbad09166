"""Top-k errors, ties, NaN, views and mixtures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from striate.draws import Draws
from striate.errors import BadInput
from striate.measure.answers import hits, in_order_of, judge_answers, mixture, tuned_weights
from striate.measure.views import average_views, cut, views_of
from striate.models.convnet import ConvNet, named_net


def test_top_k_counts_as_a_sort_does_without_ties() -> None:
    scores = Draws(0).uniform("s", (200, 10))
    labels = torch.arange(200) % 10
    order = scores.argsort(dim=1, descending=True)
    for k in (1, 5):
        expected = (order[:, :k] == labels[:, None]).any(dim=1).double()
        assert torch.equal(hits(scores, labels, k), expected)


def test_ties_share_the_places_that_are_left() -> None:
    """Of five equal classes top-1 has a fifth of a hit and top-5 a whole one; a dumb classifier of ten gets chance."""
    row = torch.tensor([[0.2] * 5 + [0.0] * 5])
    assert float(hits(row, torch.tensor([2]), 1)) == pytest.approx(0.2)
    assert float(hits(row, torch.tensor([2]), 5)) == 1
    assert float(hits(row, torch.tensor([7]), 5)) == 0
    dumb = judge_answers(torch.full((40, 10), 0.1), torch.arange(40) % 10)
    assert dumb.top == {1: pytest.approx(0.9), 5: pytest.approx(0.5)}


def test_a_row_with_a_nan_is_wrong_and_counted() -> None:
    rows = torch.tensor([[0.9, 0.1], [float("nan"), 0.1], [0.8, float("nan")]])
    found = judge_answers(rows, torch.tensor([0, 0, 0]), ks=(1,))
    assert found.top[1] == pytest.approx(2 / 3)
    assert found.undefined == 2


def test_labels_outside_the_classes_are_named() -> None:
    with pytest.raises(BadInput, match="labels go from 0 to 12"):
        judge_answers(torch.ones(2, 10), torch.tensor([0, 12]))
    with pytest.raises(BadInput, match="expected as many"):
        judge_answers(torch.ones(2, 10), torch.tensor([0]))


def test_ten_views_are_corners_and_centre_and_their_mirrors() -> None:
    views = views_of("ten", (256, 256), 224)
    assert [(v.top, v.left) for v in views[:5]] == [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    assert [v.mirrored for v in views] == [False] * 5 + [True] * 5
    assert len(set(views)) == 10
    assert len(views_of("nine", (32, 32), 24)) == 9
    assert views_of("centre", (32, 32), 24) == [(4, 4, False)]
    with pytest.raises(BadInput, match="do not fit"):
        views_of("ten", (20, 20), 24)


def test_ten_views_equal_a_naive_loop_to_the_last_bit() -> None:
    """View by view, crop by crop, in float32: the mean of ten softmaxes of the same batch."""
    net = ConvNet(named_net("13pct", 10), Draws(0))
    pictures = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)

    def logits(crops: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            return net(torch.from_numpy(np.ascontiguousarray(crops)).float() - 120)

    views = views_of("ten", (32, 32), 24)
    found = average_views(logits, pictures, views, 24)
    total = torch.zeros(4, 10)
    for mirrored in (False, True):
        for top, left in ((0, 0), (0, 8), (8, 0), (8, 8), (4, 4)):
            crops = np.stack([picture[:, top : top + 24, left : left + 24] for picture in pictures])
            total += torch.softmax(logits(np.flip(crops, 3) if mirrored else crops), dim=1)
    assert torch.equal(found, total / 10)
    # One by one, products add up in another order: the same to float32's rounding.
    alone = [average_views(logits, picture[None], views, 24) for picture in pictures]
    assert torch.allclose(found, torch.cat(alone), atol=1e-6)


def test_a_mirrored_view_is_the_crop_turned_round() -> None:
    pictures = np.arange(2 * 3 * 5 * 5, dtype=np.uint8).reshape(2, 3, 5, 5)
    plain, mirrored = views_of("ten", (5, 5), 3)[4], views_of("ten", (5, 5), 3)[9]
    assert np.array_equal(cut(pictures, mirrored, 3), cut(pictures, plain, 3)[..., ::-1])


def test_tuned_mixtures_find_the_classifier_that_knows_more() -> None:
    """One of three is right four times in five, the others guess: it gets most of the weight, and the mixture is no worse."""
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 10, 500))
    guesses = [torch.softmax(Draws(seed).normal("g", (500, 10)) * 3, dim=1) for seed in (0, 1)]
    knows = torch.nn.functional.one_hot(labels, 10).float() * (Draws(2).uniform("k", (500, 1)) < 0.8) * 4
    good = torch.softmax(knows + Draws(3).normal("n", (500, 10)), dim=1)
    several = [guesses[0], good, guesses[1]]
    weights = tuned_weights(several, labels, k=1)
    assert sum(weights) == pytest.approx(1)
    assert weights[1] > 0.5
    even = judge_answers(mixture(several), labels).top[1]
    assert judge_answers(mixture(several, weights), labels).top[1] < even


def test_classes_follow_their_names_into_another_order() -> None:
    """Sorted synsets against a devkit's numbers."""
    found = in_order_of(torch.tensor([[0.1, 0.2, 0.7]]), ["n01", "n02", "n03"], ["n03", "n01"])
    assert found.tolist() == [[pytest.approx(0.7), pytest.approx(0.1), pytest.approx(0.2)]]
    with pytest.raises(BadInput, match="no class 'n09'"):
        in_order_of(torch.ones(1, 2), ["n01", "n02"], ["n09"])
