"""Mean and covariance in one pass, larger than memory, mergeable across processes.

Pixel levels are integers, so their sums are exact: with levels shifted to -128..127, products of up to 1,024 rows stay below
2^24 and float32 holds them without rounding, at float32's product rate; blocks are then added up in float64, exact to 2^53.
Whatever the order or the number of processes, the sums agree to the last bit. Only blocks on and above the diagonal are
computed. Float data are shifted by the first batch's mean and multiplied in float64. Benchmark: `whitening`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from striate.compute import as_tensor
from striate.errors import BadInput

# 1,024 products of at most 128 * 128 stay within 2^24, where float32 counts exactly.
_EXACT_ROWS = 1024
_SHIFT = 128.0
# Column blocks of this width skip the lower triangle: 3072 wide data then needs 58% of the full product.
_COLUMNS = 512


class Moments:
    """Running count, sum and scatter of rows of a fixed width.

    Args:
        dim: width of a row.
        shift: taken off float rows, (dim,) float64, near their mean; None: the first batch's mean.
    """

    def __init__(self, dim: int, shift: Tensor | None = None) -> None:
        self.dim = dim
        self.count = 0
        self._shift = shift
        self._sum = torch.zeros(dim, dtype=torch.float64)
        # Blocks on and above the diagonal only; `covariance` mirrors them.
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)

    def update(self, rows: np.ndarray | Tensor) -> None:
        """Take in rows (n, dim), uint8 levels or floats.

        Raises:
            BadInput: rows of another width, or float and uint8 rows mixed.
        """
        rows = torch.as_tensor(rows)
        rows = rows.reshape(len(rows), -1)
        if rows.shape[1] != self.dim:
            raise BadInput(f"rows of width {rows.shape[1]} do not fit moments of width {self.dim}")
        if len(rows) == 0:
            return
        exact = rows.dtype == torch.uint8
        self._settle_shift(rows, exact)
        for block in rows.split(_EXACT_ROWS):
            self._add(block, exact)
        self.count += len(rows)

    def _settle_shift(self, rows: Tensor, exact: bool) -> None:
        if self._shift is None:
            self._shift = torch.full((self.dim,), _SHIFT, dtype=torch.float64) if exact else rows.double().mean(dim=0)
        elif exact and not bool((self._shift == _SHIFT).all()):
            raise BadInput("moments of float rows cannot take in uint8 rows: keep two and merge them")

    def _add(self, block: Tensor, exact: bool) -> None:
        assert self._shift is not None
        if exact:
            centred = block.to(torch.float32).sub_(_SHIFT)
        else:
            centred = block.to(torch.float64) - self._shift
        # As a product, a sum is exact for the same reason, and faster than torch's sum in another format.
        ones = torch.ones(1, len(block), dtype=centred.dtype)
        self._sum += (ones @ centred)[0].double()
        for left in range(0, self.dim, _COLUMNS):
            columns = slice(left, left + _COLUMNS)
            product = centred[:, columns].t() @ centred[:, left:]
            # Adding float32 to float64 in one call takes torch's slow path: convert first.
            self._scatter[columns, left:] += product.double()

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of rows; neither is changed.

        Raises:
            BadInput: they are of different widths.
        """
        merged = self._copy()
        merged.absorb(other)
        return merged

    def absorb(self, other: Moments) -> None:
        """Take in another's rows; in place, at the price of an addition.

        Raises:
            BadInput: they are of another width.
        """
        if self.dim != other.dim:
            raise BadInput(f"moments of widths {self.dim} and {other.dim} cannot be merged")
        if other._shift is None:
            return
        if self._shift is None:
            self._shift = other._shift.clone()
        delta = other._shift - self._shift
        self._sum += other._sum
        self._scatter += other._scatter
        if bool(delta.any()):
            # Re-express the other's sums about this one's shift.
            cross = torch.outer(other._sum, delta)
            self._scatter += cross + cross.t() + other.count * torch.outer(delta, delta)
            self._sum += other.count * delta
        self.count += other.count

    def _copy(self) -> Moments:
        copy = Moments(self.dim)
        copy.count = self.count
        copy._shift = None if self._shift is None else self._shift.clone()
        copy._sum, copy._scatter = self._sum.clone(), self._scatter.clone()
        return copy

    def __getstate__(self) -> dict[str, np.ndarray]:
        """As arrays, which other processes of the machine need not copy."""
        return {name: tensor.numpy() for name, tensor in self.state().items()}

    def __setstate__(self, state: Mapping[str, np.ndarray]) -> None:
        """Those arrays; what cannot be written to is not."""
        self.dim, self.count = len(state["sum"]), int(state["count"])
        self._shift = None if np.isnan(state["shift"]).any() else as_tensor(state["shift"])
        self._sum, self._scatter = as_tensor(state["sum"]), as_tensor(state["scatter"])

    @property
    def mean(self) -> Tensor:
        """(dim,), float64."""
        self._require(1)
        assert self._shift is not None
        return self._shift + self._sum / self.count

    @property
    def covariance(self) -> Tensor:
        """(dim, dim), float64, with n - 1."""
        self._require(2)
        # In place where it can be: at 3,072 dimensions every copy is 75 MB.
        covariance = self._scatter.clone().addr_(self._sum, self._sum, alpha=-1 / self.count).div_(self.count - 1)
        covariance.triu_()
        return covariance.add_(torch.triu(covariance, diagonal=1).t())

    @property
    def variance(self) -> Tensor:
        """The covariance's diagonal, (dim,), float64."""
        self._require(2)
        return (self._scatter.diagonal() - self._sum.square() / self.count) / (self.count - 1)

    def _require(self, rows: int) -> None:
        if self.count < rows:
            raise BadInput(f"this needs at least {rows} pictures, found {self.count}")

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors, for a file or another process."""
        shift = self._shift if self._shift is not None else torch.full((self.dim,), float("nan"), dtype=torch.float64)
        return {"count": torch.tensor(self.count), "shift": shift, "sum": self._sum, "scatter": self._scatter}

    @staticmethod
    def restore(state: Mapping[str, Tensor]) -> Moments:
        """The moments that `state` was taken from."""
        moments = Moments(len(state["sum"]))
        moments.count = int(state["count"])
        moments._shift = None if bool(state["shift"].isnan().any()) else state["shift"].clone()
        moments._sum, moments._scatter = state["sum"].clone(), state["scatter"].clone()
        return moments
