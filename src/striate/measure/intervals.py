"""Intervals for shares, and for means of a few measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_Z95 = 1.959964


def wilson(successes: int, trials: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson's interval for a share (1927): right even near 0 and 1; 95% by default."""
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, z * z
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials))
    # At shares of 0 and 1 the ends are the share itself, but for rounding.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def clopper_pearson_upper(successes: int | np.ndarray, trials: int | np.ndarray, sure: float = 0.95) -> np.ndarray:
    """Upper bounds of shares, each too low at most 1 - sure of the time, exactly (Clopper and Pearson 1934); 1 of no trials."""
    from scipy.stats import beta

    successes, failures = np.asarray(successes), np.asarray(trials) - successes
    return np.where(failures > 0, beta.ppf(sure, successes + 1, np.maximum(failures, 1)), 1.0)


def mean_interval(values: Sequence[float], sure: float = 0.95) -> tuple[float, float]:
    """Student's interval for the mean of a few measurements; of one, that one: it says nothing of others."""
    from scipy.stats import t

    if len(values) < 2:
        return values[0], values[0]
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = float(t.ppf((1 + sure) / 2, len(values) - 1)) * math.sqrt(variance / len(values))
    return mean - half, mean + half
