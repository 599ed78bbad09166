"""Locally connected filtering with separate encoding and decoding weights, forward and backward, a row of blocks at a time.

The unfolded inputs of one row of blocks stay in cache: they are copied there, multiplied, and forgotten; the whole unfolded
input, many times the picture, never exists. Encoding and decoding share one sweep, and so do the four products of the way back.
Source: Le et al. 2012, section 3.2, equation 1. Benchmark: `local-layer`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from striate.models.sparse.places import Places


def encode(x: Tensor, operand: Tensor, places: Places) -> Tensor:
    """Filter maps with laid-out filters; differentiable.

    Args:
        x: (height, width, channels, batch), as `places.shape` says.
        operand: laid-out filters (see `Places`), of x's dtype.
        places: the geometry.

    Returns:
        (rows, columns, maps, batch).
    """
    return _Encode.apply(x, operand, places)


def autoencode(x: Tensor, encoder: Tensor, decoder: Tensor, places: Places) -> tuple[Tensor, Tensor]:
    """Filter maps, and make them again of what the filters gave; differentiable.

    Args:
        x: (height, width, channels, batch).
        encoder: laid-out filters W1.
        decoder: laid-out filters W2: a place's answer adds its filter, so many times, to its field.
        places: the geometry.

    Returns:
        W1'x (rows, columns, maps, batch), and W2 W1'x like x, in float32 at least.
    """
    return _Autoencode.apply(x, encoder, decoder, places)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, operand: Tensor, places: Places) -> Tensor:
        ctx.save_for_backward(x, operand)
        ctx.places = places
        sweep = _Sweep(places, x)
        h = sweep.empty_answers()
        for row in range(places.blocks[0]):
            torch.bmm(operand[row], sweep.gather(row), out=h[row])
        return sweep.from_blocks(h)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, operand = ctx.saved_tensors
        places: Places = ctx.places
        sweep = _Sweep(places, x)
        answers = sweep.to_blocks(above[0])
        d_operand = torch.empty_like(operand) if ctx.needs_input_grad[1] else None
        sums = sweep.empty_sums() if ctx.needs_input_grad[0] else None
        for row in range(places.blocks[0]):
            if d_operand is not None:
                sweep.weigh(answers[row], sweep.gather(row), d_operand[row])
            if sums is not None:
                sweep.scatter(row, operand[row], answers[row], sums)
        return None if sums is None else sweep.cropped(sums).to(x.dtype), d_operand, None


class _Autoencode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, encoder: Tensor, decoder: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        sweep = _Sweep(places, x)
        h, sums = sweep.empty_answers(), sweep.empty_sums()
        for row in range(places.blocks[0]):
            torch.bmm(encoder[row], sweep.gather(row), out=h[row])
            sweep.scatter(row, decoder[row], h[row], sums)
        ctx.save_for_backward(x, encoder, decoder, h)
        ctx.places = places
        return sweep.from_blocks(h), sweep.cropped(sums)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, encoder, decoder, h = ctx.saved_tensors
        places: Places = ctx.places
        d_h, d_rebuilt = above
        seen, errors = _Sweep(places, x), _Sweep(places, d_rebuilt.to(x.dtype))
        answers = seen.to_blocks(d_h)
        d_encoder, d_decoder = torch.empty_like(encoder), torch.empty_like(decoder)
        sums = seen.empty_sums() if ctx.needs_input_grad[0] else None
        for row in range(places.blocks[0]):
            back = errors.gather(row)
            errors.weigh(h[row], back, d_decoder[row])
            torch.baddbmm(answers[row], decoder[row], back, out=answers[row])
            seen.weigh(answers[row], seen.gather(row), d_encoder[row])
            if sums is not None:
                seen.scatter(row, encoder[row], answers[row], sums)
        return None if sums is None else seen.cropped(sums).to(x.dtype), d_encoder, d_decoder, None


class _Sweep:
    """Rows of blocks of one picture's maps, one after another, through buffers that are used again."""

    def __init__(self, places: Places, x: Tensor) -> None:
        self.places = places
        self._height, self._width, channels, batch = x.shape
        high, wide = places.padded
        if (high, wide) != (self._height, self._width):
            x = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, wide - self._width, 0, high - self._height))
        self._x = x.contiguous()
        self._run = channels * batch
        self._columns = places.blocks[1]
        self._buffer = x.new_empty(self._columns, places.operand_shape[3], batch)
        self._spread: Tensor | None = None
        self._mask: Tensor | None = None

    def gather(self, row: int) -> Tensor:
        """Windows of a row of blocks, (columns of blocks, inputs, batch); good until the next call."""
        high, wide = self.places.window
        step = self.places.block[1] * self.places.stride
        pitch = self._x.shape[1] * self._run
        first = self._x.storage_offset() + row * self.places.block[0] * self.places.stride * pitch
        windows = self._x.as_strided((self._columns, high, wide * self._run), (step * self._run, pitch, 1), first)
        self._buffer.view(self._columns, high, wide * self._run).copy_(windows)
        return self._buffer

    def scatter(self, row: int, operand: Tensor, answers: Tensor, sums: Tensor) -> None:
        """Add each block's filters, times its answers, to its window of `sums`."""
        if self._spread is None:
            self._spread = torch.empty_like(self._buffer)
        torch.bmm(operand.transpose(1, 2), answers, out=self._spread)
        high, wide = self.places.window
        step = self.places.block[1] * self.places.stride
        spread = self._spread.view(self._columns, high, wide * self._run)
        pitch = sums.shape[1] * self._run
        first = row * self.places.block[0] * self.places.stride * pitch
        # Windows of neighbours overlap, columns as wide as the way between them do not: those of all blocks are added at once.
        for left in range(0, wide, step):
            length = min(step, wide - left) * self._run
            target = sums.as_strided((self._columns, high, length), (step * self._run, pitch, 1), first + left * self._run)
            target.add_(spread[:, :, left * self._run : left * self._run + length])

    def weigh(self, answers: Tensor, windows: Tensor, out: Tensor) -> None:
        """What answers and windows say of the filters of a row of blocks."""
        torch.bmm(answers, windows.transpose(1, 2), out=out)
        if self.places.block == (1, 1):
            return
        if self._mask is None:
            self._mask = self.places.mask.to(out.device, out.dtype)
        out.mul_(self._mask)

    def empty_answers(self) -> Tensor:
        """(rows of blocks, columns of blocks, filters, batch)."""
        rows, columns, filters, _ = self.places.operand_shape
        return self._buffer.new_empty(rows, columns, filters, self._buffer.shape[2])

    def empty_sums(self) -> Tensor:
        """Zeros like the padded maps, in float32 at least."""
        dtype = torch.promote_types(self._x.dtype, torch.float32)
        return torch.zeros(self._x.shape, dtype=dtype, device=self._x.device)

    def cropped(self, sums: Tensor) -> Tensor:
        """Without what was padded."""
        return sums[: self._height, : self._width]

    def from_blocks(self, answers: Tensor) -> Tensor:
        """Answers by block to (rows, columns, maps, batch)."""
        high, wide = self.places.block
        rows, columns = self.places.grid
        apart = answers.unflatten(2, (high, wide, self.places.maps))
        return apart.transpose(1, 2).flatten(2, 3).flatten(0, 1)[:rows, :columns]

    def to_blocks(self, answers: Tensor) -> Tensor:
        """(rows, columns, maps, batch) to answers by block, zeros beyond the grid; a copy."""
        (high, wide), (down, along) = self.places.block, self.places.blocks
        rows, columns = self.places.grid
        out = self._buffer.new_zeros(down * high, along * wide, *answers.shape[2:])
        out[:rows, :columns] = answers
        return out.unflatten(1, (along, wide)).unflatten(0, (down, high)).transpose(1, 2).flatten(2, 4).contiguous()
