"""A network of stages as torch modules of plain operations: every place's field cut out, multiplied by the place's filters."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.module import Steps
from striate.models.sparse.responses import normalise_contrast
from striate.models.sparse.shapes import Sides, sides
from striate.models.sparse.spec import StageSpec
from striate.models.sparse.trained import TrainedSparseNet


class Filter(nn.Module):
    """The first third of a stage.

    Args:
        sides: the stage's shapes.
        filters: (rows, columns of banks, maps, size, size, channels).

    The unfolded inputs of the whole batch are held at once, fields overlapping: (size / stride)^2 times the maps seen.
    """

    weights: Tensor
    bank: Tensor | None

    def __init__(self, sides: Sides, filters: Tensor) -> None:
        super().__init__()
        self.spec, self.grid = sides.stage, sides.filtered[1:]
        self.shared = self.spec.period == 1
        # Where all places share one bank it is a convolution; elsewhere a product a place.
        weights = filters[0, 0].permute(0, 3, 1, 2) if self.shared else filters.flatten(3).flatten(0, 1)
        self.register_buffer("weights", weights.contiguous())
        self.register_buffer("bank", _bank_of_places(self.grid, filters.shape[:2], self.spec.period))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) to (n, maps, rows, columns)."""
        before, after = self.spec.pad // 2, self.spec.pad - self.spec.pad // 2
        x = F.pad(x, (before, after, before, after))
        if self.shared:
            return F.conv2d(x, self.weights, stride=self.spec.stride)
        weights = self.weights if self.bank is None else self.weights[self.bank]
        # (places, maps, inputs) @ (places, inputs, n)
        answers = torch.bmm(weights, self._fields(_inward(x)).flatten(0, 1))
        return _outward(answers.unflatten(0, self.grid))

    def _fields(self, x: Tensor) -> Tensor:
        """What each place sees of maps (height, width, channels, n): (rows, columns, size * size * channels, n).

        By slices, columns first: runtimes copy them as long runs, while what `F.unfold` becomes took six times as long.
        """
        stride, size = self.spec.stride, range(self.spec.size)
        down, along = ((edge - 1) * stride + 1 for edge in self.grid)
        columns = torch.stack([x[:, left : left + along : stride] for left in size], dim=2)
        return torch.stack([columns[top : top + down : stride] for top in size], dim=2).flatten(2, 4)


def _bank_of_places(grid: tuple[int, int], banks: torch.Size, period: int) -> Tensor | None:
    """Which bank each place has, (places,); None where each has its own, or all the same."""
    if period < 2:
        return None
    rows, columns = (torch.arange(edge) % period for edge in grid)
    return (rows[:, None] * banks[1] + columns).flatten()


class Pool(nn.Module):
    """The second third: sqrt(floor + sum of squares) over neighbouring places, and maps on a square torus or in groups."""

    def __init__(self, spec: StageSpec, floor: float) -> None:
        super().__init__()
        self.spec, self.floor = spec, floor

    def forward(self, x: Tensor) -> Tensor:
        """(n, maps, rows, columns) to (n, maps / group, height, width)."""
        spec, before = self.spec, self.spec.pool_pad // 2
        after = spec.pool_pad - before
        squares = F.pad(x.square(), (before, after, before, after))
        if spec.pool_maps > 1:
            squares = _over_maps(squares, spec.pool_maps)
        if spec.pool_group > 1:
            squares = squares.unflatten(1, (-1, spec.pool_group)).sum(dim=2)
        # Not by a divisor of one: exporters to ONNX leave `divisor_override` out without a word.
        total = F.avg_pool2d(squares, spec.pool, spec.pool_stride) * spec.pool**2
        return (total + self.floor).sqrt()


def _over_maps(squares: Tensor, size: int) -> Tensor:
    edge = math.isqrt(squares.shape[1])
    torus = squares.unflatten(1, (edge, edge))
    shifts = range(-(size // 2), size // 2 + 1)
    rows = torch.stack([torus.roll(shift, 1) for shift in shifts]).sum(dim=0)
    return torch.stack([rows.roll(shift, 2) for shift in shifts]).sum(dim=0).flatten(1, 2)


class Contrast(nn.Module):
    """The last third, and what may be done to the picture first: local contrast normalisation."""

    def __init__(self, size: int, floor: float = 0.01, crop: bool = False) -> None:
        super().__init__()
        self.size, self.floor, self.crop = size, floor, crop

    def forward(self, x: Tensor) -> Tensor:
        """(n, maps, height, width) to the same, smaller where cropped."""
        return _outward(normalise_contrast(_inward(x), self.size, self.floor, self.crop))


def _inward(x: Tensor) -> Tensor:
    """(n, maps, height, width) as this room has it: (height, width, maps, n)."""
    return x.permute(2, 3, 1, 0)


def _outward(x: Tensor) -> Tensor:
    return x.permute(3, 2, 0, 1)


def sparse_steps(trained: TrainedSparseNet) -> Steps:
    """`filter1`, `pool1`, `norm1`, `filter2`, ... on rows."""
    shape = trained.spec.input
    before: list[nn.Module] = [nn.Unflatten(1, shape), Contrast(trained.spec.input_norm)]
    steps: list[tuple[str, nn.Module]] = []
    for number, one in enumerate(sides(trained.spec), start=1):
        spec = one.stage
        steps += [
            (f"filter{number}", nn.Sequential(*before, Filter(one, trained.state[f"stage{number}.encoder"]))),
            (f"pool{number}", Pool(spec, trained.pool_floor)),
            (f"norm{number}", Contrast(spec.norm, spec.norm_floor, spec.norm_edges == "crop")),
        ]
        before = []
    return steps
