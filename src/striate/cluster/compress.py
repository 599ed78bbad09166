"""Updates made smaller on their way, with what is left out kept for the next one (error feedback: Seide et al. 2014).

On one machine nothing is won: converting costs ten times what moving does. Over a network of 10 Gb/s bf16 pays, and the
largest hundredth (`topk`) where the network is slower still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Kind = Literal["none", "bf16", "topk"]
KINDS: tuple[Kind, ...] = ("none", "bf16", "topk")


@dataclass(frozen=True)
class Packed:
    """An update as it travels.

    Attributes:
        kind: how it is packed.
        arrays: the numbers; for `topk` places (int32) and values.
        size: of the update.
    """

    kind: Kind
    arrays: tuple[np.ndarray, ...]
    size: int

    @property
    def nbytes(self) -> int:
        """On its way."""
        return sum(array.nbytes for array in self.arrays)

    def unpacked(self) -> np.ndarray:
        """Float32, as long as the update was; not a copy where nothing was packed."""
        if self.kind == "none":
            return self.arrays[0]
        if self.kind == "bf16":
            # A bf16 number is the upper half of a float32.
            return (self.arrays[0].astype(np.uint32) << 16).view(np.float32)
        dense = np.zeros(self.size, np.float32)
        dense[self.arrays[0]] = self.arrays[1]
        return dense


@dataclass(frozen=True)
class Packer:
    """How to pack.

    Attributes:
        kind: `none`; `bf16`: half the bytes; `topk`: the largest numbers alone.
        share: `topk`: how many of all.
    """

    kind: Kind = "none"
    share: float = 0.01

    def pack(self, update: Tensor) -> Packed:
        """Pack a flat float32 vector; what is left out stays in it (with `none`, all of it: see `settle`)."""
        if self.kind == "none":
            return Packed("none", (update.numpy(),), len(update))
        if self.kind == "bf16":
            half = update.bfloat16()
            update.sub_(half.float())
            return Packed("bf16", (half.view(torch.uint16).numpy(),), len(update))
        count = max(1, math.ceil(self.share * len(update)))
        places = update.abs().topk(count, sorted=False).indices
        values = update[places]
        update[places] = 0
        return Packed("topk", (places.int().numpy(), values.numpy()), len(update))

    def settle(self, update: Tensor) -> None:
        """To be called when what was packed is on its way."""
        if self.kind == "none":
            update.zero_()
