"""Binary activities as single bits, eight to a byte: what chapter 4 sends over the wire.

On a processor numpy packs at the speed of memory (20 to 120 GB/s of float form a core); on a GPU eight bytes of truth become
one by a multiplication that gathers their lowest bits, and a byte becomes eight by a table.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

# Eight bytes of 0 or 1 times this have their bits side by side in the highest byte, the first byte's on top.
_GATHER = 0x8040201008040201 - (1 << 64)


def pack(truth: Tensor) -> Tensor:
    """Booleans of any shape as bits, uint8 (ceil(n / 8),); the first is the highest bit, the last byte is filled with zeros."""
    flat = truth.reshape(-1)
    if flat.device.type == "cpu":
        return torch.from_numpy(np.packbits(flat.numpy()))
    return pack_on_device(flat)


def unpack(bits: Tensor, out: Tensor) -> Tensor:
    """Bits as ones and zeros of ``out``'s format, into all of ``out``, which need not be contiguous."""
    if bits.device.type == "cpu":
        return out.copy_(torch.from_numpy(np.unpackbits(bits.numpy(), count=out.numel())).view(out.shape))
    return unpack_on_device(bits, out)


def pack_on_device(flat: Tensor) -> Tensor:
    """`pack` in torch's own operations, on any device; booleans (n,)."""
    missing = -len(flat) % 8
    if missing:
        flat = torch.cat([flat, flat.new_zeros(missing)])
    return ((flat.view(torch.int64) * _GATHER) >> 56).to(torch.uint8)


def unpack_on_device(bits: Tensor, out: Tensor) -> Tensor:
    """`unpack` in torch's own operations, on any device."""
    rows = _table(out.dtype, bits.device)[bits.long()]
    return out.copy_(rows.view(-1)[: out.numel()].view(out.shape))


@functools.lru_cache(maxsize=8)
def _table(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The bits of every byte, (256, 8), the highest first."""
    places = torch.arange(7, -1, -1)
    return ((torch.arange(256)[:, None] >> places) & 1).to(device=device, dtype=dtype)
