"""Response normalisation across maps as one pass over memory each way, by torch's compiler: C++ on processors, Triton on GPUs.

Memory holds a place's maps one after another (channels-last), so a window's neighbours are the same array moved by a few
elements; what belongs to the next place or column is multiplied away. Written so, the compiler makes plain vector loads of it:
the forward pass then costs what reading and writing the array costs (17.8 ms where a ReLU takes 14.4), and sums are float32
whatever the array is. A ReLU before the normalisation rides along. Where there is no compiler, `response.py` does the same in
plain torch.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Elements a call: what the backward pass writes and reads again stays in the processor's cache.
_BLOCK = 1 << 19
# Places in the first and the last block.
_EDGE = 64
# Below this many elements starting compiled code is not worth it.
WORTHWHILE = 1 << 16


@functools.cache
def available(kind: str) -> bool:
    """Whether torch can compile for this kind of device here."""
    if os.environ.get("TORCHDYNAMO_DISABLE") == "1":
        return False
    if kind == "cuda":
        return importlib.util.find_spec("triton") is not None
    return kind == "cpu" and any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


def _squares(flat: Tensor, masks: Tensor, rows: int, relu: bool) -> Tensor:
    """Sums of squares over windows, (rows, maps), of a flat array that reaches over its ends by half a window."""
    size, maps = masks.shape
    total = torch.zeros((), dtype=torch.float32, device=flat.device)
    for offset in range(size):
        value = flat[offset : offset + rows * maps].view(rows, maps).float()
        value = value.clamp_min(0) if relu else value
        total = total + value * value * masks[offset]
    return total


def _middle(flat: Tensor, masks: Tensor, rows: int, relu: bool) -> Tensor:
    size, maps = masks.shape
    value = flat[size // 2 : size // 2 + rows * maps].view(rows, maps).float()
    return value.clamp_min(0) if relu else value


def _forward(flat: Tensor, masks: Tensor, rows: int, scale: float, k: float, relu: bool) -> Tensor:
    root = (_squares(flat, masks, rows, relu) * scale + k).rsqrt()
    return (_middle(flat, masks, rows, relu) * root * root.sqrt()).to(flat.dtype)


def _shared(flat: Tensor, above: Tensor, masks: Tensor, rows: int, scale: float, k: float, relu: bool) -> Tensor:
    """g x d^-7/4, what every neighbour in a window feels."""
    root = (_squares(flat, masks, rows, relu) * scale + k).rsqrt()
    return (above.float() * _middle(flat, masks, rows, relu) * root.sqrt() * root * root * root).to(flat.dtype)


def _backward(
    flat: Tensor, above: Tensor, shared: Tensor, masks: Tensor, rows: int, scale: float, k: float, relu: bool
) -> Tensor:
    root = (_squares(flat, masks, rows, relu) * scale + k).rsqrt()
    # An odd window turned round is itself.
    size, maps = masks.shape
    total = torch.zeros((), dtype=torch.float32, device=flat.device)
    for offset in range(size):
        total = total + shared[offset : offset + rows * maps].view(rows, maps).float() * masks[offset]
    value = _middle(flat, masks, rows, relu)
    gradient = above.float() * root * root.sqrt() - (1.5 * scale) * value * total
    return (gradient * (value > 0) if relu else gradient).to(flat.dtype)


@functools.cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(function, dynamic=True)


def _run(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    with warnings.catch_warnings():
        # What the compiler has to say of itself is not about the user's pictures.
        warnings.simplefilter("ignore")
        return _compiled(function)(*arguments)


@functools.lru_cache(maxsize=32)
def _masks(maps: int, size: int, groups: int, device: torch.device) -> Tensor:
    """(size, maps): 1 where a map's neighbour at this offset is in its window, 0 where it is another column's or place's."""
    index = torch.arange(maps)
    neighbour = index + (torch.arange(size) - size // 2)[:, None]
    inside = (neighbour >= 0) & (neighbour < maps)
    same = neighbour.clamp(0, maps - 1) * groups // maps == index * groups // maps
    return (inside & same).float().to(device)


def supports(x: Tensor, size: int, power: float) -> bool:
    """Whether this pass can be fused: the paper's power, an odd window, and enough to be worth it."""
    return power == 0.75 and size % 2 == 1 and x.numel() >= WORTHWHILE and x.shape[1] > size and available(x.device.type)


def forward(rows: Tensor, size: int, scale: float, k: float, groups: int, relu: bool) -> Tensor:
    """Normalised (places, maps); `rows` are contiguous."""
    masks = _masks(rows.shape[1], size, groups, rows.device)
    out = torch.empty_like(rows)
    for block, flat in _blocks(rows, size):
        out[block] = _run(_forward, flat, masks, len(out[block]), scale, k, relu)
    return out


def backward(rows: Tensor, above: Tensor, size: int, scale: float, k: float, groups: int, relu: bool) -> Tensor:
    """What flows back into `rows`, given what flows back into their normalisation, both (places, maps) and contiguous."""
    masks = _masks(rows.shape[1], size, groups, rows.device)
    out = torch.empty_like(rows)
    half, maps = size // 2, rows.shape[1]
    for block, flat in _blocks(rows, size):
        count = len(out[block])
        shared = rows.new_zeros(count * maps + 2 * half)
        shared[half : half + count * maps] = _run(_shared, flat, above[block], masks, count, scale, k, relu).view(-1)
        out[block] = _run(_backward, flat, above[block], shared, masks, count, scale, k, relu)
    return out


def _blocks(rows: Tensor, size: int) -> list[tuple[slice, Tensor]]:
    """Blocks of rows, each with the flat array that reaches over its ends by half a window.

    The first and last reach over the array's ends and must be padded, which copies them: they are made small.
    """
    count, maps = rows.shape
    half, flat = size // 2, rows.view(-1)
    length = count if rows.device.type != "cpu" else max(1, _BLOCK // maps)
    edge = min(_EDGE, count // 2)
    cuts = sorted({0, edge, *range(edge, count - edge, length), count - edge, count})
    found = []
    for start, stop in itertools.pairwise(cuts):
        first, last = start * maps - half, stop * maps + half
        piece = flat[max(first, 0) : min(last, flat.numel())]
        if first < 0 or last > flat.numel():
            piece = torch.nn.functional.pad(piece, (max(-first, 0), max(last - flat.numel(), 0)))
        found.append((slice(start, stop), piece))
    return found
