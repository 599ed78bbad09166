"""Messages through shared memory: every byte in order, whoever is late; and a neighbour that ends is noticed by all."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import run
from striate.cluster import neighbours
from striate.cluster.neighbours import meet
from striate.cluster.parallel import wait_for_all
from striate.cluster.ring import RingEnd
from striate.cluster.wire import Lost, Wire


def test_a_ring_gives_the_bytes_that_were_put_in_whatever_the_pieces() -> None:
    """10,000 bytes through 64, in pieces of lengths that are prime to it; never more than there is room for."""
    memory = np.zeros(64, np.uint8)
    writer, reader = RingEnd(memory, writes=True), RingEnd(memory, writes=False)
    sent = np.arange(10_000, dtype=np.uint32).astype(np.uint8)
    came = np.empty_like(sent)
    written = read = 0
    while read < len(sent):
        count = writer.move(sent[written : written + 37])
        assert written + count - read <= len(memory)
        reader.room += count
        written += count
        count = reader.move(came[read : read + 23])
        writer.room += count
        read += count
    assert (came == sent).all()
    assert reader.room == 0 and writer.room == len(memory)


def _swap(rank: int, count: int) -> tuple[list[int], int, list[list[bool]]]:
    """Rounds of messages of many lengths, two on their way at once, the second waited for first; longer than a ring too."""
    near = meet(rank, count)
    wire = Wire(rank, count, near=near)
    right, expected = [], 0
    for step, length in enumerate((1, 1000, 2_100_001, 77)):
        arrivals = []
        for turn in range(2):
            lengths = [length * (1 + source) + turn for source in range(count)]
            own = [torch.full((length * (1 + rank) + turn,), 10.0 * rank + step + turn) for _ in range(count)]
            arrivals.append(wire.exchange(own, lengths))
            expected += 4 * sum(other for source, other in enumerate(lengths) if source != rank)
        for turn in (1, 0):
            came = arrivals[turn].wait()
            right.append([bool((one == 10.0 * source + step + turn).all()) for source, one in enumerate(came)])
    reached = [other for other in range(count) if near is not None and other in near]
    return reached, wire.received - expected, right


def test_messages_come_whole_and_in_order() -> None:
    for rank, (reached, miscounted, right) in enumerate(run(3, _swap)):
        assert reached == [other for other in range(3) if other != rank]
        assert miscounted == 0
        assert all(all(one) for one in right)


def _again(rank: int, count: int) -> bool:
    """More than a ring holds, for one that comes late; its memory is used again as soon as the wait is over."""
    near = meet(rank, count)
    assert near is not None
    numbers = torch.arange(5_000_000, dtype=torch.float32)
    if rank == 0:
        near.send(numbers, 1).wait()
        numbers.zero_()
        return True
    came = torch.empty_like(numbers)
    time.sleep(0.2)
    near.receive(came, 0).wait()
    return torch.equal(came, numbers)


def test_what_was_sent_may_be_changed_after_the_wait() -> None:
    assert run(2, _again) == [True, True]


def _late(rank: int, count: int) -> float:
    """The second comes late; what it was sent waits for it, and the first sleeps meanwhile."""
    wire = Wire(rank, count, near=meet(rank, count))
    if rank:
        time.sleep(0.5)
    busy = time.process_time()
    came = wire.exchange([torch.full((3,), float(rank))] * 2, [3, 3]).wait()
    assert came[1 - rank].tolist() == [1.0 - rank] * 3
    return time.process_time() - busy


def test_who_waits_sleeps() -> None:
    assert run(2, _late)[0] < 0.1


def _lose(rank: int, count: int, folder: Path) -> None:
    """Each talks to the next alone. The last is killed; the one before it notices, and those who wait for that one hear."""
    wire = Wire(rank, count, near=meet(rank, count, timeout_s=60))
    pair = [other for other in (rank - 1, rank + 1) if 0 <= other < count]
    lengths = [4 if other in pair else 0 for other in range(count)]
    messages = [torch.zeros(length) for length in lengths]
    wire.exchange(messages, lengths).wait()
    if rank == count - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    begun = time.monotonic()
    try:
        for _ in range(count):
            wire.exchange(messages, lengths).wait()
    except Lost as lost:
        (folder / str(rank)).write_text(f"{time.monotonic() - begun:.1f} {lost}")
        # As in a roll call: nobody leaves before the others had time to hear.
        time.sleep(1)


def test_whoever_waits_for_one_that_waits_for_the_dead_is_told(tmp_path: Path) -> None:
    with suppress(AssertionError):
        run(4, _lose, tmp_path)
    told = [(tmp_path / str(rank)).read_text() for rank in range(3)]
    assert "process 3 has ended" in told[2]
    assert all("another was lost" in one for one in told[:2]), told
    assert all(float(one.split()[0]) < 1 for one in told), told


def _silent(rank: int, count: int) -> str:
    near = meet(rank, count, timeout_s=0.3)
    if rank:
        time.sleep(1)
        return ""
    with pytest.raises(Lost, match="nothing came"):
        Wire(rank, count, near=near).exchange([torch.zeros(2)] * 2, [2, 2]).wait()
    return "lost"


def test_one_that_is_silent_is_given_up() -> None:
    assert run(2, _silent)[0] == "lost"


def _elsewhere(rank: int, count: int) -> list[int]:
    """The last is of a machine without such memory: nothing but the engine reaches it."""
    if rank == count - 1:
        del os.memfd_create
    near = meet(rank, count)
    wire = Wire(rank, count, near=near)
    came = wire.exchange([torch.full((5,), float(rank))] * count, [5] * count).wait()
    assert [int(one[0]) for one in came] == list(range(count))
    return [other for other in range(count) if near is not None and other in near]


def test_who_cannot_be_reached_so_is_sent_messages_by_the_engine() -> None:
    assert run(3, _elsewhere) == [[1], [0], []]


class _Unknown(neighbours.Inbox):
    """Whoever opens it finds a key that does not fit: in another container another process may have the number."""

    @property
    def address(self) -> dict[str, object]:
        return {**super().address, "key": "00" * 32}


def _stranger(rank: int, count: int) -> bool:
    if rank:
        neighbours.Inbox = _Unknown  # type: ignore[misc]
    return meet(rank, count) is None


def test_somebody_elses_memory_is_not_written_to() -> None:
    assert run(2, _stranger) == [True, True]


# More news than a pipe holds.
_MANY = 6000


def _flood(rank: int, count: int) -> list[bool]:
    """Everybody sends everybody more messages than can be told of, and listens only then."""
    near = meet(rank, count)
    assert near is not None
    others = [other for other in range(count) if other != rank]
    numbers = torch.arange(_MANY, dtype=torch.int32) + 10 * rank
    sent = [near.send(one, other) for one in numbers.split(1) for other in others]
    came = {other: torch.empty(_MANY, dtype=torch.int32) for other in others}
    received = [near.receive(one, other) for other in others for one in came[other].split(1)]
    for message in (*sent, *received):
        message.wait()
    return [torch.equal(came[other], torch.arange(_MANY, dtype=torch.int32) + 10 * other) for other in others]


def test_a_full_pipe_stops_nobody() -> None:
    """Three whose pipes are all full, each of which waits for the others to listen."""
    assert run(3, _flood) == [[True, True]] * 3


def _deaf(rank: int, count: int) -> bool:
    """The second has sent everything and listens no more: that it was all read, a piece at a time, it need not hear."""
    near = meet(rank, count)
    assert near is not None
    numbers = torch.arange(_MANY, dtype=torch.int32)
    if rank:
        near.send(numbers, 0).wait()
        wait_for_all()
        return True
    wait_for_all()
    came = torch.empty_like(numbers)
    for piece in came.split(1):
        near.receive(piece, 1).wait()
    return torch.equal(came, numbers)


def test_nobody_waits_to_tell_what_need_not_be_heard() -> None:
    assert run(2, _deaf, limit_s=30) == [True, True]


def _alarmed(rank: int, count: int) -> str:
    """The first floods the second, and leaves: no room to say so."""
    near = meet(rank, count, timeout_s=60)
    assert near is not None
    message = torch.ones(1, dtype=torch.int32)
    if rank == 0:
        for _ in range(_MANY):
            near.send(message, 1)
        near.leave()
        near.send(message, 1)
        wait_for_all()
        return ""
    wait_for_all()
    begun = time.monotonic()
    with pytest.raises(Lost, match="process 0 has ended"):
        for _ in range(_MANY + 1):
            near.receive(message, 0).wait()
    assert time.monotonic() - begun < 20
    return "lost"


def test_who_leaves_is_noticed_though_its_pipe_is_full() -> None:
    assert run(2, _alarmed)[1] == "lost"


def _open_files(rank: int, count: int) -> tuple[int, list[str]]:
    before = {path.name for path in Path("/dev/shm").iterdir()}
    wire = Wire(rank, count, near=meet(rank, count))
    wire.exchange([torch.zeros(9)] * 2, [9, 9]).wait()
    return os.getpid(), [path.name for path in Path("/dev/shm").iterdir() if path.name not in before and "striate" in path.name]


def test_memory_has_no_name_that_could_be_left_behind() -> None:
    assert [names for _, names in run(2, _open_files)] == [[], []]
