"""Response normalisation, forward and backward by hand: y = x / (k + scale * W(x^2))^power, W the sum over a window.

Source: Krizhevsky, Sutskever, Hinton 2012, section 3.3, and cuda-convnet's `cmrnorm` (across maps) and `rnorm` (across places).
torch's own costs half of a training step: it pads, goes through a three-dimensional pooling and keeps four arrays for the
backward pass. Here only the input is kept, and where there is a compiler all is one pass (`fused.py`). With d the denominator's
base and g what flows back,

    dL/dx = g d^-power - 2 scale power x W'(g x d^(-power-1)),     W' the window turned round (for odd sizes W itself).

Across maps W is a product with a band of ones, (maps, maps): matrix units sum in float32 whatever the operands are, and a
window that must not cross columns is a band with gaps. On processors pictures are taken some at a time, so that all passes over
them but the first find them in cache.
Benchmark: `lrn`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.models.convnet import fused
from striate.models.convnet.layers import Window

# Places by maps of a block in cache: 2 MB in float32 with what is computed on the way.
_BLOCK = 1 << 18


def normalise(x: Tensor, window: Window, compiled: bool = False) -> Tensor:
    """Normalise responses (n, maps, height, width), float32, float64 or bfloat16.

    Args:
        x: responses.
        window: by what.
        compiled: let torch's compiler make one pass of it where it can (seconds at first use).
    """
    return _Normalise.apply(x, window, compiled)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window, compiled: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.window = window
        ctx.fused = compiled and window.across == "maps" and fused.supports(x, window.size, window.power)
        if ctx.fused:
            made = fused.forward(_rows(x), window.size, window.scale, window.k, window.groups, window.relu)
            return _maps(made, x)
        return _forward(x.clamp_min(0) if window.relu else x, window)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        window: Window = ctx.window
        if ctx.fused:
            rows = _rows(x), _rows(above)
            return _maps(fused.backward(*rows, window.size, window.scale, window.k, window.groups, window.relu), x), None, None
        below = _backward(x.clamp_min(0) if window.relu else x, above, window)
        return below.mul_(x > 0) if window.relu else below, None, None


def _forward(x: Tensor, window: Window) -> Tensor:
    if window.across == "places":
        return _place_base(x, window).pow_(-window.power).to(x.dtype).mul_(x)
    rows = _rows(x)
    band = _band(x.shape[1], window.size, window.groups, x.dtype, x.device, turned=False)
    out = torch.empty_like(rows)
    for block in _blocks(rows):
        part = rows[block]
        torch.mul(part, _factor(_base(part, band, window), window.power).to(part.dtype), out=out[block])
    return _maps(out, x)


def _backward(x: Tensor, above: Tensor, window: Window) -> Tensor:
    factor = -2 * window.scale * window.power
    if window.across == "places":
        base = _place_base(x, window)
        through = base.pow(-window.power).to(x.dtype).mul_(above)
        shared = _sum_places((through * x).div_(base.to(x.dtype)), window.size).to(x.dtype)
        return through.addcmul_(x, shared, value=factor)
    rows, flowing = _rows(x), _rows(above)
    band = _band(x.shape[1], window.size, window.groups, x.dtype, x.device, turned=False)
    back = _band(x.shape[1], window.size, window.groups, x.dtype, x.device, turned=True)
    out = torch.empty_like(rows)
    for block in _blocks(rows):
        part = rows[block]
        base = _base(part, band, window)
        through = torch.mul(flowing[block], _factor(base, window.power).to(part.dtype), out=out[block])
        shared = (through * part).div_(base.to(part.dtype)) @ back
        through.addcmul_(part, shared, value=factor)
    return _maps(out, x)


def _place_base(x: Tensor, window: Window) -> Tensor:
    squares = x.float().square_() if x.dtype == torch.bfloat16 else x * x
    return _sum_places(squares, window.size).mul_(window.scale).add_(window.k)


def _base(part: Tensor, band: Tensor, window: Window) -> Tensor:
    """k + scale * W(x^2), in float32 at least: beside k the sum is often small, and bfloat16 would lose it."""
    total = (part * part) @ band
    if total.dtype == torch.bfloat16:
        total = total.float()
    return total.mul_(window.scale).add_(window.k)


def _factor(base: Tensor, power: float) -> Tensor:
    """base^-power; the paper's 3/4 by square roots, which cost a quarter of a power."""
    if power != 0.75:
        return base.pow(-power)
    root = base.rsqrt()
    return root.sqrt().mul_(root)


def _rows(x: Tensor) -> Tensor:
    """(n, maps, height, width) -> (n * height * width, maps), a view where memory is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """Back again; memory stays channels-last."""
    count, maps, height, width = like.shape
    return rows.view(count, height, width, maps).permute(0, 3, 1, 2)


def _blocks(rows: Tensor) -> list[slice]:
    length = len(rows) if rows.device.type != "cpu" else max(1, _BLOCK // rows.shape[1])
    return [slice(start, start + length) for start in range(0, len(rows), max(length, 1))]


@lru_cache(maxsize=32)
def _band(maps: int, size: int, groups: int, dtype: torch.dtype, device: torch.device, turned: bool) -> Tensor:
    """(maps, maps) of ones where the map of a row belongs to the window of a column's map."""
    index = torch.arange(maps)
    offset = index[:, None] - index[None]
    inside = (offset >= -(size // 2)) & (offset < size - size // 2)
    inside &= (index[:, None] * groups // maps) == (index[None] * groups // maps)
    band = inside.t() if turned else inside
    return band.to(device=device, dtype=dtype).contiguous()


def _sum_places(squares: Tensor, size: int) -> Tensor:
    """Sums over squares of `size` by `size` places around each; outside there is nothing."""
    return F.avg_pool2d(squares, size, 1, size // 2, divisor_override=1)
