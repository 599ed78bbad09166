"""How filters of a locally connected layer are laid out for products: neighbouring places together, as one dense block.

A place's filters are (maps, size, size, channels). Products with so few rows are skinny, and the inputs of neighbours overlap:
so a block of places shares one window of inputs, large enough for all of them, and each place's filters stand in it where its
own field is, zeros around them. The zeros are multiplied in vain; a fuller product and fewer copies of inputs pay for them.
Maps lie in memory as (height, width, channels, batch): a window is then a few long runs, and the batch is the products' inner
dimension of unit stride.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_MOST = 4


@dataclass(frozen=True)
class Places:
    """The geometry of one locally connected layer, with or without shared filters.

    Attributes:
        shape: (channels, height, width) of the inputs, padding included.
        size: edge of a receptive field.
        stride: from one field to the next.
        maps: filters at a place.
        period: places after which filters repeat, in both directions; 0: never.
        block: rows and columns of places in a block.
    """

    shape: tuple[int, int, int]
    size: int
    stride: int
    maps: int
    period: int = 0
    block: tuple[int, int] = (1, 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of places."""
        rows, columns = ((edge - self.size) // self.stride + 1 for edge in self.shape[1:])
        return rows, columns

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks; the last may reach beyond the grid."""
        return -(-self.grid[0] // self.block[0]), -(-self.grid[1] // self.block[1])

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of what a block sees."""
        high, wide = (self.size + (count - 1) * self.stride for count in self.block)
        return high, wide

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the inputs with what the last blocks see beyond them."""
        high, wide = (
            max(edge, (count * block - 1) * self.stride + self.size)
            for edge, count, block in zip(self.shape[1:], self.blocks, self.block)
        )
        return high, wide

    @property
    def banks(self) -> tuple[int, int]:
        """Rows and columns of places with filters of their own."""
        rows, columns = (min(self.period, edge) if self.period else edge for edge in self.grid)
        return rows, columns

    @property
    def fan_in(self) -> int:
        """Inputs of one filter."""
        return self.shape[0] * self.size**2

    @property
    def operand_shape(self) -> tuple[int, int, int, int]:
        """Of filters laid out: (rows of blocks, columns of blocks, filters of a block, inputs of a block)."""
        places = self.block[0] * self.block[1]
        return *self.blocks, places * self.maps, self.window[0] * self.window[1] * self.shape[0]

    @property
    def waste(self) -> float:
        """Multiplications of the laid-out filters for each one that is needed."""
        rows, columns, filters, inputs = self.operand_shape
        return rows * columns * filters * inputs / (self.grid[0] * self.grid[1] * self.maps * self.fan_in)

    def empty_operand(self, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        """Laid-out filters, all zero."""
        return torch.zeros(self.operand_shape, dtype=dtype, device=device)

    def lay_out(self, filters: Tensor, operand: Tensor, corner: tuple[int, int] = (0, 0)) -> None:
        """Put filters (rows, columns of `banks`, maps, size, size, channels) where products want them; zeros stay.

        Args:
            filters: of all places; where they are untied, of a rectangle of them.
            operand: of all places; the others' filters stay.
            corner: row and column of the rectangle's first place.
        """
        for row in range(self.block[0]):
            for column in range(self.block[1]):
                view, rows, columns = self._of(operand, row, column)
                if self.period:
                    view.copy_(self._expanded(filters, rows, columns))
                    continue
                (down, own_rows), (along, own_columns) = _inside(rows, columns, corner, filters)
                view[down, along] = filters[own_rows, own_columns]

    def gather(self, operand: Tensor, filters: Tensor, corner: tuple[int, int] = (0, 0)) -> None:
        """The way back of `lay_out`, added up where places share filters: gradients of `operand` to those of `filters`."""
        if self.period:
            filters.zero_()
        for row in range(self.block[0]):
            for column in range(self.block[1]):
                view, rows, columns = self._of(operand, row, column)
                if not self.period:
                    (down, own_rows), (along, own_columns) = _inside(rows, columns, corner, filters)
                    filters[own_rows, own_columns] = view[down, along]
                    continue
                banks = _numbers(rows, self.banks[0])[:, None] * self.banks[1] + _numbers(columns, self.banks[1])
                flat = filters.view(-1, *filters.shape[2:])
                flat.index_add_(0, banks.flatten().to(filters.device), view.flatten(0, 1).to(filters.dtype))

    def _expanded(self, filters: Tensor, rows: range, columns: range) -> Tensor:
        device = filters.device
        return filters[_numbers(rows, self.banks[0]).to(device)][:, _numbers(columns, self.banks[1]).to(device)]

    def _of(self, operand: Tensor, row: int, column: int) -> tuple[Tensor, range, range]:
        """The filters of one place of every block, and the rows and columns of those places."""
        high, wide = self.window
        places = operand.unflatten(2, (self.block[0] * self.block[1], self.maps))[:, :, row * self.block[1] + column]
        pixels = places.unflatten(-1, (high, wide, self.shape[0]))
        top, left = row * self.stride, column * self.stride
        rows, columns = (range(at, edge, count) for at, edge, count in zip((row, column), self.grid, self.block))
        return (
            pixels[: len(rows), : len(columns), :, top : top + self.size, left : left + self.size],
            rows,
            columns,
        )

    @cached_property
    def mask(self) -> Tensor:
        """Ones (filters of a block, inputs of a block) where laid-out filters may be other than zero."""
        block = Places((self.shape[0], *self.window), self.size, self.stride, self.maps, 0, self.block)
        operand = block.empty_operand(torch.float32, "cpu")
        block.lay_out(torch.ones(*block.grid, self.maps, self.size, self.size, self.shape[0]), operand)
        return operand[0, 0]


def _numbers(places: range, period: int) -> Tensor:
    return torch.tensor(places) % period


def _inside(
    rows: range, columns: range, corner: tuple[int, int], filters: Tensor
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Of one place of every block those in a rectangle: down and along, where in the blocks and where in the rectangle."""
    return _met(rows, corner[0], filters.shape[0]), _met(columns, corner[1], filters.shape[1])


def _met(places: range, first: int, count: int) -> tuple[slice, slice]:
    """Of places that are a block apart those from a first one on: where among them, and where among the wanted."""
    skipped = max(0, -(-(first - places.start) // places.step))
    stop = max(skipped, min(len(places), -(-(first + count - places.start) // places.step)))
    start = places.start + skipped * places.step - first
    return slice(skipped, stop), slice(start, max(start, count), places.step)


def with_block(places: Places, block: tuple[int, int]) -> Places:
    """The same layer in other blocks."""
    return Places(places.shape, places.size, places.stride, places.maps, places.period, block)


def best_block(places: Places, batch: int) -> Places:
    """The same layer in the blocks that should be fastest on a processor.

    A rule, not a race: another block adds up in another order, and a run must go on the same on a busier day. Its constants are
    fitted to what benchmark `local-layer` measured: rates of products by their rows, and 80 GB/s for copies in cache.
    """
    if places.maps > 64:
        return places

    def seconds(block: tuple[int, int]) -> float:
        one = with_block(places, block)
        rows, columns, filters, inputs = one.operand_shape
        rate = 1e9 * (100 - 320 / filters)
        products = 6.0 * rows * columns * filters * inputs * batch / rate
        return products + 40.0 * rows * columns * inputs * batch / 80e9

    sizes = [(rows, columns) for rows in range(1, _MOST + 1) for columns in range(1, _MOST + 1)]
    fitting = [block for block in sizes if block[0] <= places.grid[0] and block[1] <= places.grid[1]]
    return with_block(places, min(fitting, key=seconds))
