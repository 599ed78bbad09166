"""Work handed to Ray's workers: order, bounds, errors, and workers that are killed."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import crews
import errands
from striate.cluster.chores import Chore, carry_out, own_versions, pack, unpack
from striate.cluster.pool import Pool
from striate.errors import BadInput, StriateError


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """One engine for all, with room for four."""
    with crews.engine() as connected:
        yield connected


@pytest.mark.parametrize("workers", [1, 2, 3, None])
def test_results_come_in_the_items_order_and_few_items_are_read_ahead(ray: ModuleType, workers: int | None) -> None:
    """Twice as many as may be under way, which is one a worker, or two where all the room is taken."""
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1, 13):
            read.append(number)
            yield number

    most = 2 * (8 if workers is None else workers)
    seen = []
    for item, result in Pool(ray, workers)(errands.squared, items()):
        seen.append((item, result))
        assert len(read) - len(seen) <= most
    assert seen == [(number, number**2) for number in range(1, 13)]


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_are_worked_on_at_a_time_than_was_asked_for(ray: ModuleType, tmp_path: Path, workers: int) -> None:
    seen = [together for _, together in Pool(ray, workers)(errands.Together(tmp_path), range(8))]
    assert max(seen) <= workers


def test_the_first_error_in_the_items_order_is_raised_though_others_come_earlier(ray: ModuleType) -> None:
    """14 and 15 are refused at once, 13 after 0.3 s."""
    seen = []
    with pytest.raises(BadInput, match=r"^13 is unlucky$"):
        for item, _ in Pool(ray)(errands.squared, range(11, 40)):
            seen.append(item)
    assert seen == [11, 12]


def test_a_mistake_is_one_line_that_names_the_machine_with_the_traceback_beside_it(ray: ModuleType) -> None:
    with pytest.raises(StriateError, match=f"^a worker on {platform.node()} failed: ZeroDivisionError: ") as found:
        list(Pool(ray)(errands.mistaken, [1, 0]))
    assert found.value.exit_code == 1 and "in mistaken" in "".join(found.value.__notes__)


def test_what_killed_workers_had_is_done_again_and_counts_once(ray: ModuleType, tmp_path: Path) -> None:
    pool = Pool(ray, 2)
    found = list(errands.mortal(pool, tmp_path, {0: 1, 5: 2, 6: 1})(errands.squared, range(12)))
    assert found == [(number, number**2) for number in range(12)]
    assert pool.lost == 4


def test_an_item_that_ends_every_worker_is_done_some_other_way_or_is_an_error(ray: ModuleType, tmp_path: Path) -> None:
    killing = errands.mortal(Pool(ray, 2), tmp_path, {2: 99})
    assert [result for _, result in killing(errands.squared, range(5), lambda item: -item)] == [0, 1, -2, 9, 16]
    with pytest.raises(StriateError, match="the same piece of work was lost 3 times with its workers"):
        list(killing(errands.squared, range(5)))


def test_the_work_s_arrays_travel_beside_it_and_are_not_copied() -> None:
    rows = np.arange(1_000_000)
    packed = pack({"rows": rows, "none": rows[:0]}.__getitem__)
    assert len(packed[0]) < 1000 and any(np.shares_memory(part, rows) for part in packed[1:])
    found = unpack(packed)
    assert np.array_equal(found("rows"), rows) and len(found("none")) == 0
    assert np.shares_memory(found("rows"), rows)


def test_a_worker_with_another_library_refuses_to_work() -> None:
    """Another Pillow decodes to other pixels, another torch adds in another order."""
    assert {"striate", "torch", "numpy", "pillow"} <= own_versions().keys()
    result, error = carry_out(Chore("none", [], 1, {**own_versions(), "pillow": "1.1"}), 0)
    assert result is None and isinstance(error, BadInput)
    assert str(error).startswith(f"the worker on {platform.node()} has pillow {own_versions()['pillow']}, this machine 1.1: ")


def test_a_cluster_without_gpus_has_none_for_work_that_needs_them(ray: ModuleType) -> None:
    if ray.cluster_resources().get("GPU"):
        pytest.skip("this machine has a GPU")
    assert Pool(ray, device="auto").device == "cpu"
    with pytest.raises(BadInput, match="the Ray cluster has no GPU to work on"):
        Pool(ray, device="cuda")
