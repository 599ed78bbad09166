"""Data parallel training: every process learns from its share of each batch, and gradients are averaged.

The batch is cut into equal parts in the order of the processes, so that a step is the one process's step up to the order of
sums.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from striate.errors import BadInput
from striate.train.pictures import Crops


def own_share(batch: Crops) -> Crops:
    """This process's part of a batch.

    Raises:
        BadInput: the batch cannot be shared evenly.
    """
    count, rank = dist.get_world_size(), dist.get_rank()
    size = len(batch.labels)
    if size % count:
        raise BadInput(f"a batch of {size} cannot be shared evenly by {count} processes")
    part = slice(rank * (size // count), (rank + 1) * (size // count))
    return Crops(batch.pixels[part], batch.shift[part], batch.labels[part])


def average(gradients: list[Tensor]) -> list[Tensor]:
    """Means over processes, in one message."""
    flat = torch.cat([gradient.reshape(-1).float() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    return [part.view_as(gradient) for part, gradient in zip(flat.split(sizes), gradients)]
