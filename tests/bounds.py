"""Bounds for random claims, from stated error rates. (z for a false-failure rate of 1e-6 over so many comparisons.)"""

from __future__ import annotations

import math

from scipy.stats import norm

FALSE_FAILURE_RATE = 1e-6


def z_for(comparisons: int = 1) -> float:
    """Two-sided normal quantile: 4.89 for one comparison, 5.73 for 100, 6.47 for 10,000."""
    return float(norm.isf(FALSE_FAILURE_RATE / comparisons / 2))


def share_bound(share: float, trials: int, comparisons: int = 1) -> float:
    """How far a share of independent trials may lie from its expectation."""
    return z_for(comparisons) * math.sqrt(max(share * (1 - share), 1e-4) / trials)
