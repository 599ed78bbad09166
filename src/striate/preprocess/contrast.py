"""Contrast normalisation of each picture by itself."""

from __future__ import annotations

from torch import Tensor

# Coates, Lee, Ng 2011, section 3.1: variance + 10 on levels 0..255, so that flat patches are not blown up.
_FLOOR = 10.0
# The result is put back on the scale of pixel levels, so that one epsilon suits data with and without this step.
CONTRAST_LEVELS = 50.0


def normalise_contrast(rows: Tensor) -> Tensor:
    """Each row (a picture, all channels) less its mean, divided by sqrt(variance + 10), times 50 levels; (n, d) float."""
    centred = rows - rows.mean(dim=1, keepdim=True)
    variance = centred.square().sum(dim=1, keepdim=True) / (rows.shape[1] - 1)
    return centred * (CONTRAST_LEVELS / (variance + _FLOOR).sqrt())
