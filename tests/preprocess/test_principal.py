"""Principal components of variance one, and back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.preprocess.whitening import principal


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    return rows.mean(dim=0), torch.cov(rows.t())


def some_rows(rank: int = 6) -> Tensor:
    draws = Draws(1)
    return draws.normal("rows", (500, rank)).double() @ draws.normal("mixing", (rank, 6)).double() + 2.0


def test_components_have_variance_one_and_give_the_rows_back() -> None:
    rows = some_rows()
    found = principal(*moments(rows))
    components = (rows - found.mean) @ found.forward
    torch.testing.assert_close(torch.cov(components.t()), torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(components @ found.backward + found.mean, rows)


def test_those_kept_are_the_strongest_and_a_floor_keeps_faint_ones_faint() -> None:
    rows = some_rows()
    mean, covariance = moments(rows)
    values = torch.linalg.eigvalsh(covariance).flip(0)
    found = principal(mean, covariance, keep=2, floor=0.5)
    components = (rows - mean) @ found.forward
    expected = values[:2] / (values[:2] + 0.5 * values.mean())
    torch.testing.assert_close(torch.cov(components.t()), torch.diag(expected))


def test_without_the_mean_s_direction_nothing_need_be_taken_off() -> None:
    rows = some_rows()
    found = principal(*moments(rows), without_mean=True)
    assert found.forward.shape == (6, 5)
    torch.testing.assert_close((rows - found.mean) @ found.forward, rows @ found.forward)


def test_all_that_varies_is_kept_where_rows_do_not_fill_their_space() -> None:
    assert principal(*moments(some_rows(rank=4))).forward.shape == (6, 4)


def test_what_cannot_be_kept_is_said() -> None:
    mean, covariance = moments(some_rows(rank=4))
    with pytest.raises(BadInput, match="vary in 4 directions, 5 were to be kept"):
        principal(mean, covariance, keep=5)
    with pytest.raises(BadInput, match="6 numbers a row"):
        principal(mean, covariance, keep=7)
    with pytest.raises(BadInput, match="vary in 0 directions"):
        principal(mean, torch.zeros(6, 6, dtype=torch.float64))
