"""Temperatures are found again, calibration errors are those of known distributions, promises about errors are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from striate.measure.abstaining import risk_coverage, selective, threshold_for_error
from striate.measure.calibration import calibration, calibration_error, temperature
from striate.measure.intervals import clopper_pearson_upper


def planted(count: int, heat: float, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose labels are drawn from softmax(logits / heat)."""
    random = np.random.default_rng(0)
    logits = 3 * random.standard_normal((count, classes))
    labels = (logits / heat + random.gumbel(size=logits.shape)).argmax(axis=1)
    return torch.from_numpy(logits).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("heat", [0.4, 1.0, 3.0])
def test_a_planted_temperature_is_found_again(heat: float) -> None:
    """Consistency of maximum likelihood: within 5% from 20,000 labels."""
    assert temperature(*planted(20_000, heat)) == pytest.approx(heat, rel=0.05)


def test_few_labels_that_are_all_right_do_not_sharpen_without_end() -> None:
    """Separable: the likelihood alone has no maximum. The same logits many times over overrule the belief in about 1."""
    logits, labels = torch.eye(4)[[0, 1, 2, 3]], torch.arange(4)
    assert 0.3 < temperature(logits, labels) < 1
    assert temperature(logits.repeat(500, 1), labels.repeat(500)) < 0.15


def test_the_calibration_error_of_a_known_distribution() -> None:
    """Closed form: confidence 0.6 or 0.9 with shares right of 0.5 and 0.9 gives (0.1 + 0) / 2, exactly, in any order."""
    confidence = np.repeat([0.6, 0.9], 100)
    right = np.concatenate([np.arange(100) < 50, np.arange(100) < 90]).astype(float)
    order = np.random.default_rng(0).permutation(200)
    assert calibration_error(confidence[order], right[order], bins=2) == pytest.approx(0.05)
    # One bin lets errors of opposite signs cancel.
    assert calibration_error(confidence, right, bins=1) == pytest.approx(0.05)
    assert calibration_error(np.array([0.9, 0.5]), np.array([0.0, 1.0]), bins=2) == pytest.approx((0.9 + 0.5) / 2)


def test_the_interval_holds_the_true_error_and_chance_explains_true_probabilities() -> None:
    """Overconfident by 0.1 throughout: the population's error is 0.1. Of true probabilities the error is that of chance."""
    random = np.random.default_rng(0)
    sure = random.uniform(0.6, 1.0, 6000)
    probabilities = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
    over = calibration(probabilities, (random.random(6000) > sure - 0.1).astype(np.int64))
    assert over.low < 0.1 < over.high and over.high - over.low < 0.05 and over.by_chance < 0.03
    true = calibration(probabilities, (random.random(6000) > sure).astype(np.int64))
    assert true.error < 2 * true.by_chance and over.error > 4 * over.by_chance
    # Resampling adds to an error that is chance alone: not taken off, all of the interval would lie above it.
    assert true.low < true.error - 0.003
    assert over.count.sum() == 6000 and len(over.count) == 15 and over.count.max() - over.count.min() <= 1
    assert (np.diff(over.confidence) > 0).all()


def test_temperature_mends_what_is_too_sure() -> None:
    logits, labels = planted(6000, 3.0)
    before, after = (
        calibration((logits / t).softmax(dim=1).numpy(), labels.numpy()) for t in (1.0, temperature(logits, labels))
    )
    assert before.error > 0.1 and after.error < 0.03 and after.log_loss < before.log_loss


def test_clopper_pearsons_bound_is_exact() -> None:
    """Closed form for none wrong, 1 - 0.05^(1/n), and the binomial's own tail at the bound for some."""
    from scipy.stats import binom

    assert clopper_pearson_upper(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert float(binom.cdf(7, 90, clopper_pearson_upper(7, 90))) == pytest.approx(0.05)
    assert clopper_pearson_upper(3, 3) == 1.0


def test_risk_and_coverage_by_hand() -> None:
    given, wrong = risk_coverage(np.array([0.5, 0.9, 0.7, 0.6]), np.array([0, 1, 0, 1]))
    np.testing.assert_allclose(given, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(wrong, [0.0, 0.5, 1 / 3, 0.5])
    found = selective(np.array([0.5, 0.9, 0.7, 0.6]), np.array([0, 1, 0, 1]), 0.65)
    assert (found.coverage, found.risk) == (0.5, 0.5)


def test_errors_stay_within_the_target_as_often_as_promised() -> None:
    """Simulation: right with probability equal to the confidence, whose true risk above a threshold is (1 - threshold) / 2.

    Promised is 95% of 400 repeats; more than 5% + 3.7 standard errors of failures (36) happens once in 10,000 runs of a rule
    that keeps its promise. Without a bound (the empirical error alone) about half fail, which must be seen.
    """
    random = np.random.default_rng(0)
    target, failures, careless, coverage = 0.1, 0, 0, []
    for _ in range(400):
        confidence = random.uniform(0, 1, 4000)
        right = random.random(4000) < confidence
        found = threshold_for_error(confidence, right, target)
        coverage.append(found.coverage)
        failures += (1 - found.threshold) / 2 > target
        _, wrong = risk_coverage(confidence, right)
        last = np.flatnonzero(wrong <= target)
        careless += len(last) > 0 and (1 - np.sort(confidence)[::-1][last[-1]]) / 2 > target
    assert failures <= 36
    assert careless > 120
    # The most that any rule may give is 20%.
    assert 0.1 < np.mean(coverage) < 0.2


def test_where_nothing_can_be_promised_nothing_is_given() -> None:
    found = threshold_for_error(np.linspace(0.5, 1, 500), np.arange(500) % 2, 0.05)
    assert found.coverage == 0 and found.threshold > 1
    assert threshold_for_error(np.ones(10), np.ones(10), 0.05).coverage == 0
    # Equals are given together or not at all: all of these are equal, and right.
    assert threshold_for_error(np.full(500, 0.7), np.ones(500), 0.05).coverage == 1
