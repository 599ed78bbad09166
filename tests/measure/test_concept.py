"""Concept neurons: the paper's protocol by hand, curves against scikit-learn's, luck against chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from striate.draws import Draws, generator
from striate.errors import BadInput
from striate.measure.concept import area_under_curve, average_precision, curve, halve, judge_concept, score_units
from striate.measure.nuisance import nuisance_accuracies, nuisances

POSITIVE = torch.arange(300) < 100


def with_ties() -> torch.Tensor:
    return (Draws(0).normal("scores", (300,)) * 3).round() + POSITIVE


def test_a_unit_s_accuracy_is_the_best_of_twenty_thresholds() -> None:
    activities = Draws(1).normal("activities", (300, 5)) + POSITIVE[:, None] * torch.tensor([0.0, 1.0, 3.0, -3.0, 0.0])
    activities[:, 4] = 0.25
    found = score_units(activities, POSITIVE)
    for unit in range(4):
        values = activities[:, unit].numpy()
        low, high = values.min(), values.max()
        best = max(((values > low + (high - low) * i / 21) == POSITIVE.numpy()).mean() for i in range(1, 21))
        assert float(found.accuracy[unit]) == pytest.approx(best)
        called = values > float(found.threshold[unit])
        assert (called == POSITIVE.numpy()).mean() == pytest.approx(best)
    assert found.fires.tolist() == [True] * 4 + [False]
    assert float(found.accuracy[3]) < 0.7, "a unit that answers to everything else knows the concept by silence: not counted"


def test_curves_are_scikit_learn_s_with_ties() -> None:
    scores, truth = with_ties(), POSITIVE.numpy()
    assert area_under_curve(scores, POSITIVE) == pytest.approx(roc_auc_score(truth, scores.numpy()))
    assert average_precision(scores, POSITIVE) == pytest.approx(_tied_precision(scores.numpy(), truth))
    false, true = curve(scores, POSITIVE)
    sk_false, sk_true, _ = roc_curve(truth, scores.numpy(), drop_intermediate=False)
    np.testing.assert_allclose(false, sk_false)
    np.testing.assert_allclose(true, sk_true)
    distinct = scores + Draws(2).uniform("apart", (300,)) / 10
    assert average_precision(distinct, POSITIVE) == pytest.approx(average_precision_score(truth, distinct.numpy()))


def _tied_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([truth[scores >= score].mean() for score in scores[truth]]))


def test_halves_are_disjoint_and_alike() -> None:
    first, second = halve(POSITIVE, 3)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(300))
    assert int(POSITIVE[first].sum()) == int(POSITIVE[second].sum()) == 50


def test_the_held_out_number_does_not_flatter() -> None:
    """2,000 units of noise on 40 pictures: the paper's protocol finds a fine one, the other half has never heard of it."""
    positive = torch.arange(40) < 20
    concept = judge_concept(Draws(5).normal("noise", (40, 2000)), positive)
    assert concept is not None
    assert concept.accuracy > 0.8 and concept.luck > 0.8
    # Of 40 fair coins, 0.5 +- 0.08: beyond 0.74 once in a thousand.
    assert concept.held_out < 0.74
    assert concept.chance == 0.5


def test_a_real_unit_is_found_and_holds() -> None:
    activities = Draws(6).normal("noise", (300, 50))
    activities[:, 17] += 4 * POSITIVE
    concept = judge_concept(activities, POSITIVE)
    assert concept is not None and concept.unit == 17
    # Two normal densities four deviations apart: 97.7% right at best; the thresholds are coarse, the halves are small.
    assert concept.held_out > 0.92 and concept.auc > 0.98
    assert concept.chance == pytest.approx(2 / 3) and concept.pictures == (100, 200)


def test_what_cannot_be_measured_is_said() -> None:
    assert judge_concept(torch.ones(300, 4), POSITIVE) is None
    with pytest.raises(BadInput, match="3 pictures of the concept"):
        judge_concept(torch.ones(300, 4), torch.arange(300) < 3)
    with pytest.raises(BadInput, match="0 pictures of distractors"):
        judge_concept(torch.ones(300, 4), torch.ones(300, dtype=torch.bool))


def test_nuisances_are_what_they_say() -> None:
    grey = np.repeat(generator(0, "grey").integers(0, 256, (20, 1, 16, 16), dtype=np.uint8), 3, axis=1)
    colour = generator(0, "colour").integers(0, 256, (20, 3, 16, 16), dtype=np.uint8)
    smooth = np.repeat(np.repeat(grey[..., ::4, ::4], 4, axis=2), 4, axis=3)
    found = nuisances(np.concatenate([grey, colour, smooth]))
    assert not bool(found["colour"][:20].any()) and bool((found["colour"][20:40] > 10).all())
    assert float(found["sharpness"][40:].max()) < float(found["sharpness"][:20].min())
    accuracies = nuisance_accuracies(np.concatenate([grey, colour]), torch.arange(40) < 20)
    assert accuracies["colour"] == 1.0, "greyness finds the grey ones, from below the threshold"


def test_luck_is_the_best_of_all_units_on_shuffled_sides() -> None:
    """A unit that tells both sides apart without an error has no part in it; more units have more luck."""
    positive = torch.arange(200) % 2 == 0
    noise = Draws(4).normal("noise", (200, 60))
    told = positive.float()[:, None]
    one, many = judge_concept(told, positive), judge_concept(torch.cat([told, noise], dim=1), positive)
    assert one is not None and many is not None and one.accuracy == many.accuracy == 1.0
    assert 0.5 < one.luck < many.luck < 0.75
