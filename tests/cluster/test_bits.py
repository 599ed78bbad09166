"""Bits, slices and keyed draws: the small parts that processes agree by."""

from __future__ import annotations

import pytest
import torch

from striate.cluster.bits import pack, pack_on_device, unpack, unpack_on_device
from striate.cluster.slices import length, slices
from striate.draws import Draws
from striate.errors import BadInput


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (13, 1000), (0, 4), (7, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_bits_come_back_as_they_went(shape: tuple[int, int], dtype: torch.dtype) -> None:
    truth = Draws(1).uniform("t", shape) < 0.3
    bits = pack(truth)
    assert bits.dtype == torch.uint8 and len(bits) == -(-truth.numel() // 8)
    # Into columns of a wider array, whose other columns stay as they are.
    wide = torch.full((shape[0], shape[1] + 5), 7.0, dtype=dtype)
    unpack(bits, wide[:, 2 : 2 + shape[1]])
    assert torch.equal(wide[:, 2 : 2 + shape[1]], truth.to(dtype))
    assert bool((wide[:, :2] == 7).all()) and bool((wide[:, 2 + shape[1] :] == 7).all())
    # What GPUs do, done here, byte for byte.
    assert torch.equal(pack_on_device(truth.reshape(-1)), bits)
    again = torch.empty(shape, dtype=dtype)
    assert torch.equal(unpack_on_device(bits, again), truth.to(dtype))


def test_slices_cover_everything_once_and_evenly() -> None:
    for size in (1, 7, 8, 100, 10_001):
        for count in (1, 2, 3, 4, 7):
            if count > size:
                with pytest.raises(BadInput, match=f"{count} processes cannot share {size} cats"):
                    slices(size, count, "cats")
                continue
            pieces = slices(size, count, "cats")
            assert [unit for piece in pieces for unit in range(size)[piece]] == list(range(size))
            assert max(map(length, pieces)) - min(map(length, pieces)) <= 1


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("shape", [(6, 40), (7, 33), (64, 3000), (65, 3001), (2, 5)])
def test_a_part_of_an_array_of_draws_is_that_part(kind: str, shape: tuple[int, int]) -> None:
    """Bit for bit: whoever draws units a to b of examples c to d draws what one machine would."""
    draw = getattr(Draws(3, 8), kind)
    whole = draw("x", shape)
    rows, columns = shape
    for part in (
        (slice(0, rows), slice(0, columns)),
        (slice(1, rows), slice(0, columns)),
        (slice(0, rows), slice(3, columns)),
        (slice(rows // 3, rows), slice(columns // 2, columns)),
        (slice(1, 2), slice(columns - 1, columns)),
        (slice(1, 1), slice(0, columns)),
        (slice(0, rows), slice(columns // 4, columns // 4 + 1)),
    ):
        assert torch.equal(draw("x", shape, part=part), whole[part]), part
