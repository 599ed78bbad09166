"""Krizhevsky 2009, chapter 4: what K machines exchange, and how much faster they are.

Measured for two processes of this machine, one thread each, on random data as in the paper's own tests; beyond them by the
model of costs (`striate.cluster.costs`), whose rates were measured by the same processes and whose predictions are checked
against their steps. The paper's machines and today's are the model's with other rates, which are named in each caption.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import replace

from striate.app.reproduce.finding import Finding
from striate.app.reproduce.stages import Stages
from striate.cluster.costs import Machine, Problem, cost, received_bytes
from striate.cluster.layout import Mode
from striate.cluster.trial import Trial, Tried, try_out
from striate.show import Figure
from striate.show import figures as draw

_EXAMPLES = 8000
_VISIBLE, _HIDDEN = 8000, 20_000
_COUNTS = (1, 2, 4, 8)
# Megabytes to all machines for 8,000 examples: table 4.1, by bytes of a visible activity (0: bits).
_TABLE = {0: (48, 144, 336), 4: (296, 888, 2072), 8: (552, 1656, 3864)}
# A core of the paper's 3 GHz Xeons: 8 single precision operations a cycle, four fifths of them reached (assumed); its network.
_THEN = Machine(flops=19e9, memory=3e9, draws=5e7, packing=1e9, bandwidth=105e6, latency_s=0.091e-3)
# An H200 in fp32 with tf32 products, by its data sheet at half of peak (assumed), beside others on NVLink.
_GPU = Machine(flops=250e12, memory=3e12, draws=5e10, packing=1.5e12, bandwidth=300e9, latency_s=8e-6)
_ETHERNET = {"bandwidth": 11e9, "latency_s": 15e-6}


def traffic(stages: Stages) -> Finding:
    """Table 4.1: megabytes exchanged for 8,000 examples."""
    sizes = _sizes(stages)
    (found,) = try_out([Trial(*sizes, 1000, mode="both", steps=1, warm=False)], 2)
    counted = sum(one.received for one in found) * _EXAMPLES / 1000
    said = received_bytes(Problem(*sizes, _EXAMPLES), "both", 2)
    table = {
        itemsize: [received_bytes(_problem(itemsize), "both", count) / 1e6 for count in _COUNTS[1:]] for itemsize in _TABLE
    }
    close = all(abs(a / b - 1) < 0.02 for itemsize, row in _TABLE.items() for a, b in zip(table[itemsize], row))
    lines = {
        name: ([float(count) for count in _COUNTS[1:]], table[itemsize])
        for itemsize, name in ((0, "binary"), (4, "Gaussian, single"), (8, "Gaussian, double"))
    }
    return Finding(
        "4.1",
        "Table 4.1: 48, 144, 336 MB to all of 2, 4, 8 machines with binary units, 296, 888, 2,072 with Gaussian ones in single "
        "precision, 552, 1,656, 3,864 in double.",
        f"the same within 2%; two processes of {sizes[0]:,} x {sizes[1]:,} units received {counted / 1e6:.2f} MB, counted at "
        f"the collectives, where the formula says {said / 1e6:.2f}",
        close and abs(counted / said - 1) < 0.02,
        (Figure("MB to all machines for 8,000 examples of 8,000 x 20,000 units.", draw.curves(lines, "machines", "MB")),),
    )


def _problem(itemsize: int) -> Problem:
    size = itemsize or 4
    return Problem(_VISIBLE, _HIDDEN, _EXAMPLES, binary=itemsize == 0, itemsize=size, exact=size)


def binary_speed(stages: Stages) -> Finding:
    """Figure 4.6: doubling the machines, binary visible units."""
    return _speed(stages, "4.6", gaussian=False)


def gaussian_speed(stages: Stages) -> Finding:
    """Figure 4.7: the same with Gaussian ones."""
    return _speed(stages, "4.7", gaussian=True)


def _speed(stages: Stages, number: str, gaussian: bool) -> Finding:
    sizes = _sizes(stages)
    trials = [Trial(*sizes, batch, gaussian, mode="both") for batch in (1000, 100)]
    alone, two = measured(tuple(trials))
    gains = [_doublings(replace(_problem(4 if gaussian else 0), batch=batch), _THEN) for batch in (1000, 100)]
    ratios = [one[0].predicted(trial, 2) / one[0].step_s for trial, one in zip(trials, two)]
    speed = [one[0].step_s / both[0].step_s for one, both in zip(alone, two)]
    machine = two[0][0].machine
    assert machine is not None
    kind = "Gaussian" if gaussian else "binary"
    return Finding(
        number,
        "Doubling the machines nearly doubles the speed"
        + (", a little less than for binary units." if gaussian else ".")
        + " It does so worst at minibatch 100.",
        f"at the paper's network, 4 machines over 2 and 8 over 4: {gains[0][1]:.2f} and {gains[0][2]:.2f} times at minibatch "
        f"1,000, {gains[1][1]:.2f} and {gains[1][2]:.2f} at 100, 8 over 1 {math.prod(gains[0]):.2f} and "
        f"{math.prod(gains[1]):.2f} (2 over 1: {gains[0][0]:.2f}, of the 10/7 that work done twice allows); "
        f"measured, 2 over 1 at {sizes[0]:,} x {sizes[1]:,}: {speed[0]:.2f} and {speed[1]:.2f}; the model's "
        f"steps are {ratios[0]:.2f} and {ratios[1]:.2f} of the measured ones",
        min(gains[0][1:]) > 1.8 and math.prod(gains[0]) > math.prod(gains[1]) and all(abs(ratio - 1) < 0.2 for ratio in ratios),
        tuple(
            Figure(
                f"{kind.capitalize()} units, {_VISIBLE:,} x {_HIDDEN:,}, by minibatch and precision: {caption}",
                _curves(gaussian, rates, seen),
                wide=True,
            )
            for caption, rates, seen in (
                ("the paper's machines and network (105 MB/s, 0.091 ms; 19 GFLOP/s a core assumed).", _THEN, {}),
                (
                    f"this machine's cores, 100 Gb/s between them; measured: two processes at {sizes[0]:,} x {sizes[1]:,}.",
                    replace(machine, **_ETHERNET),
                    {f"measured, {batch:,}": ([1.0, 2.0], [1.0, gain / 2]) for batch, gain in zip((1000, 100), speed)},
                ),
                ("GPUs on NVLink (250 TFLOP/s, 300 GB/s assumed).", _GPU, {}),
            )
        ),
    )


def _doublings(problem: Problem, machine: Machine, mode: Mode = "both") -> list[float]:
    seconds = [cost(problem, mode, count, machine).step_s for count in _COUNTS]
    return [before / after for before, after in itertools.pairwise(seconds)]


def _curves(gaussian: bool, machine: Machine, seen: dict[str, tuple[list[float], list[float]]]) -> bytes:
    """What share of K machines' speed they reach, by the model, and what was seen beside it."""
    counts = (1, 2, 4, 8, 16, 32)
    lines = dict(seen)
    modes: tuple[tuple[Mode, str], ...] = (("both", "section 4.2"), ("hidden", "hidden-sharded"))
    for mode, name in modes:
        for batch in (1000, 100):
            for itemsize in (4, 8) if mode == "both" else (4,):
                # Double precision does half the operations, and moves twice the bytes.
                rates = machine if itemsize == 4 else replace(machine, flops=machine.flops / 2)
                problem = Problem(_VISIBLE, _HIDDEN, batch, not gaussian, itemsize=itemsize, exact=itemsize)
                one = cost(problem, "hidden", 1, rates).step_s
                speed = [one / cost(problem, mode, count, rates).step_s / count for count in counts]
                label = f"{name}, {batch:,}, {'single' if itemsize == 4 else 'double'}"
                lines[label] = ([float(count) for count in counts], speed)
    return draw.curves(lines, "machines", "speed-up / machines")


@functools.lru_cache(maxsize=4)
def measured(trials: tuple[Trial, ...]) -> tuple[list[list[Tried]], list[list[Tried]]]:
    """Every trial by one process and by two, in turn."""
    return try_out([replace(trial, mode="hidden") for trial in trials], 1), try_out(trials, 2)


def _sizes(stages: Stages) -> tuple[int, int]:
    """A model that takes seconds, or the paper's."""
    return (2000, 5000) if stages.size == "small" else (_VISIBLE, _HIDDEN)


FIGURES: dict[str, Callable[[Stages], Finding]] = {"4.1": traffic, "4.6": binary_speed, "4.7": gaussian_speed}
