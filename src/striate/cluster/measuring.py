"""Rates of the processes at hand and of what lies between them, measured in a fraction of a second before a run begins."""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable

import torch

from striate.cluster.costs import Cost, Machine, Problem, cost
from striate.cluster.layout import MODES, Layout, Mode
from striate.cluster.wire import Wire
from striate.compute import synchronise
from striate.draws import Draws
from striate.errors import BadInput

# Large enough to leave the caches, small enough to take milliseconds.
_MEMORY_BYTES = 1 << 26
_LARGE, _SMALL = 1 << 22, 1 << 8
_SIZES = (1 << 12, 1 << 16, 1 << 19, 1 << 22)
# Of a product's sides: what is larger runs at the same rate.
_MOST = 3072
_LEAST_ROWS = 128


def measure(wire: Wire, problem: Problem, dtype: torch.dtype, device: torch.device) -> Machine:
    """The slowest process's rates, the same on all."""
    rows, visible, hidden = problem.batch, min(problem.visible, _MOST), min(problem.hidden, _MOST)
    left, right = (torch.ones(shape, dtype=dtype, device=device) for shape in ((rows, visible), (visible, hidden)))
    product = torch.empty(rows, hidden, dtype=dtype, device=device)
    weights, velocity = (torch.zeros(_MEMORY_BYTES // 4, device=device) for _ in range(2))
    coins = torch.empty(1 << 20, device=device)
    packed = torch.zeros(1024, 4096, dtype=dtype, device=device)

    def timed(call: Callable[[], object]) -> float:
        return _median(call, device)

    flops = 2 * rows * visible * hidden / timed(lambda: torch.mm(left, right, out=product))
    # Two tensors read, one written.
    memory = 3 * _MEMORY_BYTES / timed(lambda: weights.add_(velocity))
    draws = coins.numel() / timed(lambda: Draws(0).uniform("rate", coins.shape, out=coins) < 0.5)
    packing = packed[:, :2048].nbytes / timed(lambda: packed[:, :2048].reshape(-1))
    if wire.count == 1:
        return Machine(flops, memory, draws, packing, bandwidth=math.inf, latency_s=0.0)
    small, large = (_median(_pairs(wire, size, device), device) for size in (_SMALL, _LARGE))
    bandwidth = (wire.count - 1) * _LARGE / max(large - small, 1e-9)
    # The slowest counts: of rates the least, of latencies the most.
    values = [-flops, -memory, -draws, -packing, -bandwidth, small]
    slowest = wire.most(torch.tensor(values, dtype=torch.float64, device=device)).tolist()
    flops, memory, draws, packing, bandwidth = (-value for value in slowest[:-1])
    return Machine(flops, memory, draws, packing, bandwidth, slowest[-1])


def _pairs(wire: Wire, size: int, device: torch.device) -> Callable[[], object]:
    message = torch.zeros(size, dtype=torch.uint8, device=device)
    return lambda: wire.exchange([message] * wire.count, [size] * wire.count).wait()


def choose_transport(wire: Wire, device: torch.device) -> int:
    """Up to which size messages to all should go as one collective: the largest measured at which that was not slower."""
    best = 0
    for size in _SIZES:
        message = torch.zeros(size, dtype=torch.uint8, device=device)
        lengths = [size] * wire.count
        pairs = _median(_pairs(wire, size, device), device)
        wire.collective_up_to = size
        collective = _median(functools.partial(_gathered, wire, message, lengths), device)
        slowest = wire.most(torch.tensor([pairs, collective], dtype=torch.float64, device=device))
        if float(slowest[1]) > float(slowest[0]):
            break
        best = size
    return best


def _gathered(wire: Wire, message: torch.Tensor, lengths: list[int]) -> None:
    wire.gather(message, lengths).wait()


def choose(problem: Problem, count: int, machine: Machine, wanted: Mode | None = None) -> tuple[Layout, dict[Mode, Cost]]:
    """The layout that should be fastest, of all modes or the wanted one, and what every mode should cost.

    Raises:
        BadInput: so many processes cannot share this.
    """
    costs: dict[Mode, tuple[Cost, int]] = {}
    for mode in MODES:
        if problem.batch % count if mode == "data" else count > min(problem.visible, problem.hidden):
            continue
        tried = [(cost(problem, mode, count, machine, parts), parts) for parts in _parts(problem.batch, mode)]
        costs[mode] = min(tried, key=lambda pair: pair[0].step_s)
    if wanted is None and not costs:
        raise BadInput(
            f"{count} processes cannot share {problem.hidden} hidden and {problem.visible} visible units, nor a batch of "
            f"{problem.batch} evenly: start fewer"
        )
    if wanted == "data" and "data" not in costs:
        raise BadInput(f"a batch of {problem.batch} cannot be shared evenly by {count} processes")
    chosen = min(costs, key=lambda name: costs[name][0].step_s) if wanted is None else wanted
    return Layout(chosen, costs[chosen][1] if chosen in costs else 1), {name: found for name, (found, _) in costs.items()}


def _parts(batch: int, mode: Mode) -> list[int]:
    """Pieces that are not too small for products at full rate."""
    return [1] if mode == "data" else [parts for parts in (1, 2, 4) if parts == 1 or batch // parts >= _LEAST_ROWS]


def _median(call: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for turn in range(6):
        synchronise(device)
        begun = time.perf_counter()
        call()
        synchronise(device)
        if turn:
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)
