"""Data parallel training: every process learns from its share of each batch, and gradients are averaged.

The batch is cut into equal parts in the order of the processes, so that a step is the one process's step up to the order of
sums. Processes are torchrun's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from striate.cluster.torchrun import started
from striate.errors import BadInput
from striate.train.batches import Batch, Rows

B = TypeVar("B", bound=Batch)


@dataclass(frozen=True)
class Share:
    """One process's place among those that share batches.

    Attributes:
        rank: which one, from 0; 0 keeps the run.
        count: of how many.
    """

    rank: int = 0
    count: int = 1

    def part(self, size: int) -> slice:
        """Its rows of a batch.

        Raises:
            BadInput: the batch cannot be shared evenly.
        """
        if size % self.count:
            raise BadInput(f"a batch of {size} cannot be shared evenly by {self.count} processes")
        return slice(self.rank * (size // self.count), (self.rank + 1) * (size // self.count))


class SharedRows(Rows[B]):
    """Of each batch that is asked for, the rows of one process; the others' are not even read."""

    def __init__(self, rows: Rows[B], share: Share) -> None:
        self._rows, self._share = rows, share

    @property
    def in_memory(self) -> bool:
        """As of the rows themselves."""
        return self._rows.in_memory

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, positions: np.ndarray, epoch: int = 0) -> B:
        """This process's part of a batch."""
        return self._rows.take(positions[self._share.part(len(positions))], epoch)


@contextmanager
def processes() -> Iterator[Share]:
    """The processes that torchrun started, for as long as they work together; without it, the one there is."""
    if not started():
        yield Share()
        return
    device = None
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device is not None else "gloo", device_id=device)
    try:
        yield Share(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def wait_for_all() -> None:
    """Go on when every process is here."""
    dist.barrier()


def average(tensors: list[Tensor]) -> list[Tensor]:
    """Means over processes, in one message."""
    flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    sizes = [tensor.numel() for tensor in tensors]
    return [part.view_as(tensor) for part, tensor in zip(flat.split(sizes), tensors)]


def any_process(asked: bool, device: torch.device | str = "cpu") -> bool:
    """Whether any process says so: all of them then do the same."""
    flag = torch.tensor(int(asked), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)
