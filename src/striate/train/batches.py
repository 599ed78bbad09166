"""Minibatches in an order keyed by (seed, epoch), from rows in memory or streamed from a store larger than it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from striate.draws import generator
from striate.errors import BadInput
from striate.preprocess.patches import Pictures


class Labelled(NamedTuple):
    """Rows with their classes, int64 (rows,)."""

    rows: Tensor
    labels: Tensor

    def to(self, device: torch.device | str, /) -> Labelled:
        """Both elsewhere."""
        return Labelled(self.rows.to(device), self.labels.to(device))


class Batch(Protocol):
    """What a step takes: a tensor of rows, or rows with labels."""

    def to(self, device: torch.device | str, /) -> Self:
        """The same elsewhere."""
        ...


B = TypeVar("B", bound=Batch)
_B_co = TypeVar("_B_co", bound=Batch, covariant=True)
_B_any = TypeVar("_B_any", covariant=True)


class Rows(Protocol[_B_co]):
    """Training data: float32 rows by position, with labels beside them for models that are told what they see."""

    @property
    def in_memory(self) -> bool:
        """Whether taking rows is a matter of microseconds."""
        ...

    def __len__(self) -> int: ...

    def take(self, positions: np.ndarray, epoch: int = 0) -> _B_co:
        """Rows (len(positions), dim); the epoch matters only where rows are drawn anew in each."""
        ...


class MemoryRows:
    """Rows that fit in memory, preprocessed once."""

    in_memory = True

    def __init__(self, rows: Tensor) -> None:
        self.held = rows

    def __len__(self) -> int:
        return len(self.held)

    def take(self, positions: np.ndarray, epoch: int = 0) -> Tensor:
        """Rows (len(positions), dim), copied."""
        return self.held[torch.from_numpy(positions)]


class StreamedRows:
    """Rows read from a store and preprocessed when asked for: memory holds a batch or two, whatever the store's size.

    Args:
        pictures: a store (or array): uint8 (n, c, h, w) by a list of positions.
        apply: pictures -> float32 rows.
        count: how many of the pictures to use.
    """

    in_memory = False

    def __init__(self, pictures: Pictures, apply: Callable[[np.ndarray], Tensor], count: int) -> None:
        self._pictures = pictures
        self._apply = apply
        self._count = count

    def __len__(self) -> int:
        return self._count

    def take(self, positions: np.ndarray, epoch: int = 0) -> Tensor:
        """Rows (len(positions), dim)."""
        return self._apply(self._pictures[positions])


class LabelledRows:
    """Some rows with their labels.

    Args:
        rows: all rows.
        labels: int64, of all rows.
        positions: those to use.
    """

    def __init__(self, rows: Rows[Tensor], labels: Tensor, positions: np.ndarray) -> None:
        self._rows, self._labels, self._positions = rows, labels, positions
        self.in_memory = rows.in_memory

    def __len__(self) -> int:
        return len(self._positions)

    def take(self, positions: np.ndarray, epoch: int = 0) -> Labelled:
        """Rows (len(positions), dim) and labels (len(positions),)."""
        chosen = self._positions[positions]
        return Labelled(self._rows.take(chosen), self._labels[torch.from_numpy(chosen)])


class Order(Protocol[_B_any]):
    """Minibatches, or their numbers, in the order of a run."""

    steps_per_epoch: int

    def starting_at(self, step: int) -> Iterator[_B_any]:
        """From this step on, without an end."""
        ...

    def at(self, step: int) -> _B_any:
        """Of this step."""
        ...


class Batches(Generic[B]):
    """An endless sequence of minibatches; batch number s is the same whenever and wherever it is asked for.

    Every epoch is a permutation of its own; what is left over at its end (fewer rows than a batch) is dropped.

    Raises:
        BadInput: fewer rows than a batch.
    """

    def __init__(self, rows: Rows[B], batch_size: int, seed: int, device: torch.device | str = "cpu") -> None:
        if not 1 <= batch_size <= len(rows):
            raise BadInput(f"train.batch_size must be from 1 to the {len(rows)} pictures there are, found {batch_size}")
        self._rows, self._size, self._seed, self._device = rows, batch_size, seed, device
        self.steps_per_epoch = len(rows) // batch_size
        self._order: tuple[int, np.ndarray] | None = None

    def starting_at(self, step: int) -> Iterator[B]:
        """Batches from this step on; streamed ones are read while the one before is used."""
        if self._rows.in_memory:
            # Gathering takes microseconds; a second thread would only take a core from the products (1.3 ms a step).
            yield from itertools.starmap(self._batch, self._positions(step))
            return
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as reader:
            order = self._positions(step)
            waiting = reader.submit(self._batch, *next(order))
            for keyed in order:
                batch = waiting.result()
                waiting = reader.submit(self._batch, *keyed)
                yield batch

    def at(self, step: int) -> B:
        """One batch; those of an epoch are cheap one after another."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, generator(self._seed, "order", epoch).permutation(len(self._rows)))
        return self._batch(self._order[1][within * self._size : (within + 1) * self._size], epoch)

    def _positions(self, step: int) -> Iterator[tuple[np.ndarray, int]]:
        epoch, within = divmod(step, self.steps_per_epoch)
        while True:
            permutation = generator(self._seed, "order", epoch).permutation(len(self._rows))
            for number in range(within, self.steps_per_epoch):
                yield permutation[number * self._size : (number + 1) * self._size], epoch
            epoch, within = epoch + 1, 0

    def _batch(self, positions: np.ndarray, epoch: int) -> B:
        return self._rows.take(positions, epoch).to(self._device)
