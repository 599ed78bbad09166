"""The processes of a job: how they meet, agree, share batches, and say which of them was lost.

Processes are torchrun's, or those of ``striate train --processes``. All of them read the same recipe and pictures; what keeps
one from going on stops all, and the first of them says it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from striate.cluster.connections import connections, hang_up
from striate.cluster.torchrun import started
from striate.cluster.wire import Broken, Lost, reached
from striate.errors import BadInput, StriateError
from striate.train.batches import Batch, Rows

B = TypeVar("B", bound=Batch)

DEFAULT_TIMEOUT_S = 300.0
# Long enough for everybody's error to reach everybody; what is still silent then is gone or stuck.
_ROLL_CALL_S = 10.0
# The first stays so much longer than the others, who ask at its store.
_FIRST_STAYS_S = 0.5


@dataclass(frozen=True)
class Share:
    """One process's place among those that share the work.

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
def processes(timeout_s: float = DEFAULT_TIMEOUT_S) -> Iterator[Share]:
    """The processes of this job, for as long as they work together; without others, the one there is.

    Args:
        timeout_s: how long to wait for another process before it counts as lost.

    Raises:
        Broken: they cannot meet, or one of them was lost or failed; the message says which and why.
    """
    if not started():
        yield Share()
        return
    share = Share(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    device = _own_gpu(share)
    store = _meet(share, timeout_s)
    before, own = set(connections()), set[str]()
    try:
        with reached():
            dist.init_process_group(
                # What is in memory and what is on a GPU travels by the engine for it, whatever device a recipe names.
                "cpu:gloo,cuda:nccl" if device is not None else "gloo",
                store=dist.PrefixStore("work", store),
                rank=share.rank,
                world_size=share.count,
                timeout=timedelta(seconds=timeout_s),
                device_id=device,
            )
        own = set(connections()) - before
        yield share
    except Lost as lost:
        # Others may be waiting for this process, not for the one that is lost: they come to the roll call now.
        hang_up(own, int(os.environ["MASTER_PORT"]))
        raise _named(lost, store, share, timeout_s) from None
    except BaseException as error:
        # The others will lose this process; they should know why.
        code = error.exit_code if isinstance(error, StriateError) else StriateError.exit_code
        with suppress(RuntimeError):
            store.set(f"failed/{share.rank}", json.dumps([code, str(error) or type(error).__name__]))
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _own_gpu(share: Share) -> torch.device | None:
    """The GPU of this process, made the one it works on; None on a machine without any."""
    if not torch.cuda.is_available():
        return None
    local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= there:
        raise _unmet(
            f"process {share.rank} has no GPU of its own: this machine has {there}. Start as many processes here, or hide the "
            "GPUs with CUDA_VISIBLE_DEVICES= to work on processors"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def _meet(share: Share, timeout_s: float) -> dist.Store:
    """The store at which processes meet: torchrun's own, or the first process's."""
    host, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    launched = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    keeper = share.rank == 0 and not launched
    if keeper and not _free(int(port)):
        raise _unmet(f"port {port} is in use on this machine: choose another MASTER_PORT")
    if not keeper and not answers(host, int(port), timeout_s):
        raise _unmet(
            f"process {share.rank} found nobody at {host}:{port} within {timeout_s:g} s: is the first process running, is the "
            "address right, does a firewall stand between?"
        )
    try:
        store = dist.TCPStore(
            host,
            int(port),
            share.count,
            is_master=keeper,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise _unmet(
            f"process {share.rank} could not meet the others at {host}:{port} ({why}): is cluster.timeout_s={timeout_s:g} too "
            "short?"
        ) from None
    # A store that outlives a restart holds the words of the attempt before.
    return dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _unmet(why: str) -> Broken:
    """Whoever meets nobody says so itself."""
    return Broken(why, speaker=True, exit_code=BadInput.exit_code)


def _free(port: int) -> bool:
    """Whether this machine can be met at a port; the engine would say so at greater length."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", port))
        except OSError:
            return False
    return True


def answers(host: str, port: int, timeout_s: float) -> bool:
    """Whether somebody can be reached at an address, now or within the time."""
    until = time.monotonic() + timeout_s
    while True:
        with suppress(OSError), socket.create_connection((host, port), timeout=max(0.1, until - time.monotonic())):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.1)


def _named(lost: Lost, store: dist.Store, share: Share, timeout_s: float) -> Broken:
    """Who does not answer a roll call, and what the others said before they went. The first who is left tells the user."""
    missing = set(range(share.count)) - {share.rank}
    failed: dict[int, tuple[int, str]] = {}
    try:
        store.set(f"here/{share.rank}", "yes")
        until = time.monotonic() + _ROLL_CALL_S + (_FIRST_STAYS_S if share.rank == 0 else 0.0)
        while missing and time.monotonic() < until:
            for rank in sorted(missing):
                if store.check([f"failed/{rank}"]):
                    failed[rank] = tuple(json.loads(store.get(f"failed/{rank}")))
                if rank in failed or store.check([f"here/{rank}"]):
                    missing.discard(rank)
            time.sleep(0.05)
    except RuntimeError:
        # Only the first keeps a store that can vanish.
        why = "process 0, at which all others meet, was killed or cannot be reached any more"
        return Broken(why, speaker=share.rank == 1)
    left = [rank for rank in range(share.count) if rank not in missing and rank not in failed]
    speaker = share.rank == left[0] and 0 not in failed
    if failed:
        rank, (code, why) = min(failed.items())
        return Broken(f"process {rank} of {share.count}: {why}", speaker, code)
    if missing:
        names = ", ".join(map(str, sorted(missing)))
        why = f"process {names} of {share.count} was killed, is stuck, or cannot be reached any more"
        return Broken(f"{why} (noticed by process {share.rank}; cluster.timeout_s is {timeout_s:g})", speaker)
    why = f"the {share.count} processes lost one another: is cluster.timeout_s={timeout_s:g} too short? ({lost})"
    return Broken(why, speaker)


@contextmanager
def agreed(share: Share) -> Iterator[None]:
    """Preparations that every process makes by itself: if any fails, all fail with its reason, and nobody waits in vain.

    Raises:
        StriateError: of the kind the first of them met.
    """
    if share.count == 1:
        yield
        return
    error: Exception | None = None
    try:
        yield
    except Lost:
        raise
    except Exception as found:
        error = found
    said = tell_all(json.dumps(None if error is None else [isinstance(error, BadInput), str(error) or type(error).__name__]))
    failures = {rank: told for rank, told in enumerate(map(json.loads, said)) if told is not None}
    if not failures:
        return
    if error is not None and not isinstance(error, StriateError):
        raise error
    rank, (bad_input, why) = next(iter(failures.items()))
    everybody = len(failures) == share.count and len({told[1] for told in failures.values()}) == 1
    kind = BadInput if bad_input else StriateError
    raise kind(why if everybody else f"process {rank} of {share.count}: {why}")


def check_alike(share: Share, facts: Mapping[str, str]) -> None:
    """Refuse to begin where a process has another version, recipe or pictures than the first.

    Raises:
        BadInput: naming the process and what it has.
    """
    if share.count == 1:
        return
    told = [json.loads(text) for text in tell_all(json.dumps(dict(facts)))]
    for rank, other in enumerate(told):
        for name, value in told[0].items():
            if other.get(name) != value:
                raise BadInput(
                    f"process {rank} of {share.count} has another {name} than the first: {other.get(name)}, not {value}"
                )


def tell_all(text: str) -> list[str]:
    """Everybody's text, by rank."""
    # With something to send even if nothing is said.
    own = torch.from_numpy(np.frombuffer(text.encode() + b"\n", np.uint8).copy())
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    with reached():
        dist.all_gather(lengths, torch.tensor([len(own)]))
        longest = max(int(length) for length in lengths)
        padded = torch.cat([own, own.new_zeros(longest - len(own))])
        texts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(texts, padded)
    return [bytes(told[: int(length) - 1].numpy()).decode() for told, length in zip(texts, lengths)]


def from_first(tensor: Tensor) -> Tensor:
    """The first process's numbers in everybody's tensor, changed in place."""
    with reached():
        dist.broadcast(tensor, 0)
    return tensor


def open_meeting() -> dist.TCPStore:
    """A store at which the processes of this machine can meet, at a port that was free; whoever opens it outlives them."""
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=30))


def wait_for_all() -> None:
    """Go on when every process is here."""
    with reached():
        dist.barrier()


def average(tensors: list[Tensor]) -> list[Tensor]:
    """Means over processes, in one message."""
    flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
    with reached():
        dist.all_reduce(flat)
    flat /= dist.get_world_size()
    sizes = [tensor.numel() for tensor in tensors]
    return [part.view_as(tensor) for part, tensor in zip(flat.split(sizes), tensors)]


def any_process(asked: int | bool, device: torch.device | str = "cpu") -> int:
    """The most that any process says: all of them then do the same."""
    flag = torch.tensor(int(asked), device=device)
    with reached():
        dist.all_reduce(flag, dist.ReduceOp.MAX)
    return int(flag)
