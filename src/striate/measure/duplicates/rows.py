"""What near-duplicates are compared by: tiny pictures as rows, and short rows whose distances never exceed theirs.

`contrast` rows have their mean removed and norm 1, so that distance is about what a picture shows: plain distance of levels
(`l2`, as Krizhevsky 2009, section 3.1) calls any two pale skies twins. A short row holds the first principal components and,
as one more number, the length of what they leave out; the distance between short rows is a lower bound of the distance itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.compute import as_tensor
from striate.draws import generator
from striate.images.work import Each, one_by_one

Metric = Literal["contrast", "l2"]

SIDE = 32
"""Pictures are compared at this many pixels a side, or at their own size where that is smaller."""

# Pictures whose levels deviate less than this from their mean show nothing that could be compared.
FLAT_LEVELS = 2.0
_COMPONENTS = 64
_FITTED_ON = 8192
_ITERATIONS = 4
_AT_ONCE = 2048


class Rows(Protocol):
    """Things to compare."""

    @property
    def metric(self) -> Metric:
        """What their distance means."""
        ...

    def __len__(self) -> int: ...

    def __call__(self, positions: np.ndarray) -> Tensor:
        """Rows (n, dim) of these positions; NaN throughout where there is nothing to compare."""
        ...


@dataclass(frozen=True)
class PictureRows:
    """Pictures as rows.

    Attributes:
        read: positions to uint8 pictures (n, c, h, w).
        count: how many there are.
        metric: `contrast`, or `l2` of levels from 0 to 1.
        mirrored: left and right exchanged.
    """

    read: Callable[[np.ndarray], np.ndarray]
    count: int
    metric: Metric = "contrast"
    mirrored: bool = False

    def __len__(self) -> int:
        return self.count

    def __call__(self, positions: np.ndarray) -> Tensor:
        """Rows (n, c * h * w)."""
        return as_rows(self.pictures(positions), self.metric)

    def pictures(self, positions: np.ndarray) -> Tensor:
        """Tiny pictures, float levels (n, c, height, width)."""
        pictures = tiny(self.read(positions))
        return pictures.flip(-1) if self.mirrored else pictures


@dataclass(frozen=True)
class FeatureRows:
    """Features (n, dim) as rows of norm 1: their distance is that of directions."""

    features: np.ndarray | Tensor
    metric: Metric = "contrast"

    def __len__(self) -> int:
        return len(self.features)

    def __call__(self, positions: np.ndarray) -> Tensor:
        """Rows (n, dim)."""
        rows = torch.as_tensor(self.features[positions]).float()
        norms = rows.norm(dim=1, keepdim=True)
        return torch.where(norms > 0, rows / norms, float("nan"))


def tiny(pictures: np.ndarray) -> Tensor:
    """uint8 (n, c, h, w) as float levels 0..255, no side above `SIDE`: means of the areas that fall into a pixel."""
    levels = torch.from_numpy(np.ascontiguousarray(pictures)).float()
    size = [min(side, SIDE) for side in levels.shape[2:]]
    if list(levels.shape[2:]) == size or not len(levels):
        return levels
    return F.interpolate(levels, size=size, mode="area")


def as_rows(pictures: Tensor, metric: Metric) -> Tensor:
    """Tiny pictures (n, c, h, w) as rows (n, c * h * w)."""
    rows = pictures.flatten(1)
    if metric == "l2":
        return rows / 255
    rows = rows - rows.mean(dim=1, keepdim=True)
    norms = rows.norm(dim=1, keepdim=True)
    return torch.where(norms > FLAT_LEVELS * rows.shape[1] ** 0.5, rows / norms, float("nan"))


@dataclass(frozen=True)
class Projection:
    """From rows to short rows.

    Attributes:
        mean: (dim,) taken off first.
        basis: (dim, components), orthonormal.
    """

    mean: Tensor
    basis: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """Rows (n, dim) to (n, components + 1); distances between them are at most those between the rows."""
        centred = rows - self.mean
        short = centred @ self.basis
        left_out = (centred.square().sum(dim=1) - short.square().sum(dim=1)).clamp_min(0).sqrt()
        return torch.cat([short, left_out[:, None]], dim=1)


def fit_projection(rows: Rows, seed: int = 0, components: int = _COMPONENTS) -> Projection:
    """Principal components of a sample, by subspace iteration: any orthonormal basis bounds distances, a good one closely."""
    positions = np.arange(len(rows))
    if len(positions) > _FITTED_ON:
        positions = np.sort(generator(seed, "projection").choice(len(rows), _FITTED_ON, replace=False))
    blocks = [rows(positions[start : start + _AT_ONCE]) for start in range(0, len(positions), _AT_ONCE)]
    sample = torch.cat([block[~block[:, 0].isnan()] for block in blocks])
    dim = blocks[0].shape[1]
    # Rows of norm 1 stay so if nothing is taken off: then products alone tell their distances.
    mean = torch.zeros(dim) if rows.metric == "contrast" else sample.mean(dim=0)
    sample = sample - mean
    start = generator(seed, "subspace").standard_normal((dim, min(dim, components + 16)))
    basis = torch.linalg.qr(torch.from_numpy(start).float()).Q
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(sample.t() @ (sample @ basis)).Q
    # Within the subspace, the directions of largest variance.
    inner = torch.linalg.eigh((sample @ basis).t().double() @ (sample @ basis).double()).eigenvectors
    chosen = basis.double() @ inner.flip(1)[:, : min(dim, components)]
    return Projection(mean, torch.linalg.qr(chosen).Q.float().contiguous())


def shorten(rows: Rows, projection: Projection, each: Each = one_by_one) -> Tensor:
    """Short rows of everything, (n, components + 1)."""
    out = torch.empty(len(rows), projection.basis.shape[1] + 1)
    for start, short in each(_Shorten(rows, projection), range(0, len(rows), _AT_ONCE)):
        out[start : start + len(short)] = as_tensor(short)
    return out


@dataclass(frozen=True)
class _Shorten:
    """From a block's start to its short rows."""

    rows: Rows
    projection: Projection

    def __call__(self, start: int) -> np.ndarray:
        positions = np.arange(start, min(start + _AT_ONCE, len(self.rows)))
        return self.projection(self.rows(positions)).numpy()
