"""A learner's parameters as one flat vector, and its cuts into shards.

Servers hold flat vectors and know no names. The order is the learner's own; a cut never goes through a filter whose norm a
server keeps at one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from striate.cluster.shards import Rows
from striate.errors import BadInput
from striate.train.exchanged import Exchanged


class Flat:
    """Parameters side by side.

    Args:
        parameters: a learner's; written to in place.

    Raises:
        BadInput: one of them is not float32.
    """

    def __init__(self, parameters: Sequence[Exchanged]) -> None:
        for one in parameters:
            if one.tensor.dtype != torch.float32:
                raise BadInput(f"{one.name} is {one.tensor.dtype}: replicas exchange float32; set train.dtype=fp32 or bf16")
        self.parameters = tuple(parameters)
        ends = np.cumsum([0, *(one.size for one in parameters)]).tolist()
        self._spans = list(pairwise(ends))
        self.size: int = ends[-1]
        self._held = torch.empty(0)

    def gather(self, out: Tensor, tensors: Sequence[Tensor] | None = None) -> Tensor:
        """The parameters, or tensors kept like them, copied into a flat vector on the processor."""
        for one, (start, stop), tensor in zip(self.parameters, self._spans, tensors or self._tensors(), strict=True):
            one.read(tensor, out[start:stop])
        return out

    def add(self, out: Tensor, tensors: Sequence[Tensor]) -> None:
        """Add tensors kept like the parameters to a flat vector."""
        for one, (start, stop), tensor in zip(self.parameters, self._spans, tensors, strict=True):
            if one.layout is None:
                out[start:stop].view(tensor.shape).add_(tensor.to(out.device))
            else:
                one.read(tensor, self._room(one.size))
                out[start:stop].add_(self._room(one.size))

    def _room(self, size: int) -> Tensor:
        if len(self._held) < size:
            self._held = torch.empty(size)
        return self._held[:size]

    def scatter(self, values: Tensor, tensors: Sequence[Tensor] | None = None) -> None:
        """The way back of `gather`."""
        for one, (start, stop), tensor in zip(self.parameters, self._spans, tensors or self._tensors(), strict=True):
            one.write(values[start:stop], tensor)

    def reordered(self, values: Tensor, other: Flat) -> Tensor:
        """A vector that lies as this one does, as another of the same parameters would have it."""
        kept = {id(one.tensor): torch.zeros_like(one.tensor) for one in self.parameters}
        self.scatter(values, [kept[id(one.tensor)] for one in self.parameters])
        return other.gather(other.new(), [kept[id(one.tensor)] for one in other.parameters])

    def new(self) -> Tensor:
        """A flat vector of zeros."""
        return torch.zeros(self.size)

    def _tensors(self) -> list[Tensor]:
        return [one.tensor for one in self.parameters]

    def cuts(self, count: int, start: int = 0, stop: int | None = None) -> list[slice]:
        """As many nearly equal parts; of all, or of a stretch that cuts no filter.

        Raises:
            BadInput: more than there are parameters.
        """
        size = (self.size if stop is None else stop) - start
        if not 1 <= count <= size:
            raise BadInput(f"cluster.exchange.shards must be from 1 to the model's {self.size:,} parameters, found {count}")
        ends = [self._whole(start + round(size * number / count)) for number in range(count + 1)]
        return [slice(start, stop) for start, stop in pairwise(ends) if stop > start]

    def _whole(self, at: int) -> int:
        """A place near this one that cuts no filter."""
        for one, (start, stop) in zip(self.parameters, self._spans):
            if one.row and start < at < stop:
                return start + (at - start) // one.row * one.row
        return at

    def rows(self, cut: slice) -> list[Rows]:
        """The filters of norm one in a part, by their places in it."""
        found = []
        for one, (start, stop) in zip(self.parameters, self._spans):
            first, last = max(start, cut.start), min(stop, cut.stop)
            if one.row and first < last:
                found.append(Rows(first - cut.start, last - cut.start, one.row))
        return found
