"""Order and content of minibatches, by the definition: batch s is the same whenever and wherever it is asked for."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch

from striate.errors import BadInput
from striate.train import Batches, MemoryRows, StreamedRows


def _rows(count: int) -> MemoryRows:
    """Row i holds i, so that a batch tells which rows it took."""
    return MemoryRows(torch.arange(count, dtype=torch.float32)[:, None])


def _taken(batches: Batches, start: int, count: int) -> list[list[int]]:
    return [batch[:, 0].int().tolist() for batch in itertools.islice(batches.starting_at(start), count)]


def test_an_epoch_takes_every_row_at_most_once_and_drops_less_than_a_batch() -> None:
    batches = Batches(_rows(23), 5, seed=0)
    assert batches.steps_per_epoch == 4
    for epoch in range(3):
        taken = list(itertools.chain.from_iterable(_taken(batches, 4 * epoch, 4)))
        assert len(taken) == len(set(taken)) == 20


def test_starting_anywhere_gives_the_rest_of_the_same_sequence() -> None:
    whole = _taken(Batches(_rows(23), 5, seed=3), 0, 13)
    for start in range(13):
        assert _taken(Batches(_rows(23), 5, seed=3), start, 13 - start) == whole[start:]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    """Two equal permutations of 50 by chance: probability below 1e-64."""
    first, second = _taken(Batches(_rows(50), 50, seed=0), 0, 2)
    other = _taken(Batches(_rows(50), 50, seed=1), 0, 1)[0]
    assert first != second and first != other
    assert sorted(first) == sorted(second) == sorted(other) == list(range(50))


def test_streamed_rows_are_the_rows_in_memory() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (31, 3, 4, 4), dtype=np.uint8)

    def apply(images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images).flatten(1).float()

    streamed = Batches(StreamedRows(pictures, apply, 31), 7, seed=1)
    kept = Batches(MemoryRows(apply(pictures)), 7, seed=1)
    for a, b in itertools.islice(zip(streamed.starting_at(2), kept.starting_at(2)), 9):
        assert torch.equal(a, b)


def test_one_batch_is_made_ahead_and_no_more() -> None:
    """Memory holds the batch in use and the one being made, whatever the store's size: counted by what was asked for."""
    asked = []

    class Counted:
        in_memory = False

        def __len__(self) -> int:
            return 1000

        def take(self, positions: np.ndarray, epoch: int = 0) -> torch.Tensor:
            asked.append(threading.current_thread().name)
            return torch.zeros(len(positions), 1)

    sequence = Batches(Counted(), 10, seed=0).starting_at(0)
    for used in range(1, 20):
        next(sequence)
        assert len(asked) <= used + 1
    assert all(name.startswith("batches") for name in asked)


def test_a_failing_read_reaches_the_trainer() -> None:
    def fail(images: np.ndarray) -> torch.Tensor:
        raise OSError("the disk went away")

    rows = StreamedRows(np.zeros((9, 1, 2, 2), np.uint8), fail, 9)
    with pytest.raises(OSError, match="went away"):
        next(Batches(rows, 3, seed=0).starting_at(0))


@pytest.mark.parametrize("size", [0, -1, 24])
def test_a_batch_that_does_not_fit_the_data_is_refused(size: int) -> None:
    with pytest.raises(BadInput, match=f"from 1 to the 23 pictures there are, found {size}"):
        Batches(_rows(23), size, seed=0)
