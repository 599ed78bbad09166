"""ZCA whitening with deletion of the least significant directions, its inverse, and deletion alone.

Source: Krizhevsky 2009, sections 1.3, 2.4 and appendix A: W = sqrt(n - 1) (X X')^(-1/2), symmetric. (The appendix drops the
factor on the way; unit variance needs it. "Set entries of D to zero" means D^(-1/2).) Deleting k of d directions leaves a
mean pixel variance of (d - k) / d, 0.67 for the paper's 1,000 of 3,072, not the 1 that its sigma assumes.

The eigen-decomposition is in float64: float32 loses the small directions that whitening is about to divide by.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from striate.errors import BadInput

# Eigenvalues below this share of the largest are rounding, not data.
_RANK_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues (d,), largest first, and eigenvectors as columns (d, d), float64."""

    values: Tensor
    vectors: Tensor


def spectrum(covariance: Tensor) -> Spectrum:
    """The eigen-spectrum of a covariance matrix (d, d)."""
    values, vectors = torch.linalg.eigh(covariance.double())
    return Spectrum(values.flip(0).clamp_min(0), vectors.flip(1))


@dataclass(frozen=True)
class LinearMap:
    """A symmetric map and its inverse on the directions that were kept, both (d, d), float64."""

    forward: Tensor
    backward: Tensor


def zca(spectrum: Spectrum, delete: int = 0, epsilon: float = 0.0) -> LinearMap:
    """U diag(1 / sqrt(lambda + epsilon)) U' over the kept directions, and its inverse there.

    Args:
        spectrum: of the data's covariance.
        delete: how many least significant directions to drop.
        epsilon: added to every eigenvalue (in the data's units squared): weak directions, mostly noise, stay weak.

    Raises:
        BadInput: nothing would be left, or a kept direction has no variance to divide by.
    """
    kept = _kept(spectrum, delete)
    scale = (spectrum.values[:kept] + epsilon).sqrt()
    rank = int((spectrum.values > _RANK_TOLERANCE * spectrum.values[0]).sum())
    if rank < kept and epsilon == 0:
        dim = len(spectrum.values)
        raise BadInput(
            f"the pictures vary in {rank} directions only, so {kept} cannot be whitened: set preprocess.delete to "
            f"{dim - rank} or more, set preprocess.epsilon, or use more pictures"
        )
    vectors = spectrum.vectors[:, :kept]
    return LinearMap((vectors / scale) @ vectors.t(), (vectors * scale) @ vectors.t())


def deletion(spectrum: Spectrum, delete: int) -> LinearMap:
    """The projection onto the kept directions: the paper's "unwhitened" data; its own inverse there."""
    vectors = spectrum.vectors[:, : _kept(spectrum, delete)]
    projection = vectors @ vectors.t()
    return LinearMap(projection, projection)


def _kept(spectrum: Spectrum, delete: int) -> int:
    dim = len(spectrum.values)
    if not 0 <= delete < dim:
        raise BadInput(f"preprocess.delete must be from 0 to {dim - 1} for data of {dim} dimensions, found {delete}")
    return dim - delete


@dataclass(frozen=True)
class Principal:
    """Rows as principal components of variance one, and back.

    Attributes:
        mean: (d,).
        forward: (d, k): (rows - mean) @ forward are the components.
        backward: (k, d): components @ backward + mean are the rows, on the directions kept.
    """

    mean: Tensor
    forward: Tensor
    backward: Tensor


def principal(
    mean: Tensor, covariance: Tensor, keep: int | None = None, floor: float = 0.0, without_mean: bool = False
) -> Principal:
    """The strongest directions, each divided by its deviation.

    Args:
        mean: (d,).
        covariance: (d, d).
        keep: how many directions; None for all that vary.
        floor: added to each variance, as a share of their mean.
        without_mean: leave out the direction of the mean itself: mean @ forward is then zero, and what is linear in components
            is linear in the rows as they are.

    Raises:
        BadInput: more directions than there are, or nothing varies.
    """
    if without_mean:
        direction = mean / mean.norm().clamp_min(torch.finfo(mean.dtype).tiny)
        across = torch.eye(len(mean), dtype=mean.dtype) - torch.outer(direction, direction)
        covariance = across @ covariance @ across
    found = spectrum(covariance)
    rank = int((found.values > _RANK_TOLERANCE * found.values[0]).sum()) if found.values[0] > 0 else 0
    kept = rank if keep is None else keep
    if not 0 < kept <= len(mean):
        raise BadInput(f"{len(mean)} numbers a row that vary in {rank} directions: {kept} of them cannot be kept")
    if kept > rank and floor == 0:
        raise BadInput(f"rows vary in {rank} directions, {kept} were to be kept: keep fewer, or set a floor")
    deviations = (found.values[:kept] + floor * found.values.mean()).sqrt()
    vectors = found.vectors[:, :kept]
    return Principal(mean, vectors / deviations, (vectors * deviations).t())
