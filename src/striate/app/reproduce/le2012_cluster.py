"""Le et al. 2012, section 4, and DistBelief (Dean et al. 2012): what machines did, would do, and what one of today's does.

All by models: places shared by a grid (`striate.cluster.tile_costs`), replicas and shards (`striate.cluster.simulate`). Their
rates are named here and in the findings; those of machines that are not at hand are from data sheets or assumed, as said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from striate.app.reproduce.finding import Finding
from striate.app.reproduce.stages import Stages
from striate.cluster.simulate import Job, better_interval, simulate
from striate.cluster.tile_costs import GridRates, grid_cost
from striate.cluster.tiles import Grid
from striate.models.sparse import NetSpec, StageSpec
from striate.models.sparse.shapes import costs
from striate.show import Figure
from striate.show import figures as draw

_BATCH = 100
_PAPER = NetSpec((3, 200, 200), (StageSpec(),) * 3)
# DistBelief's locally connected image network, as far as it is described: 100x100, fields of 10, up to 36 maps, 1.7 billion.
_IMAGES = NetSpec((3, 100, 100), tuple(StageSpec(size=10, maps=36) for _ in range(3)))
# A machine of 16 cores at 4 GFLOP/s reached each (assumed), gigabit Ethernet.
_THEN = GridRates(flops=64e9, memory=10e9, bandwidth=105e6, latency_s=1e-4)
# An H200: dense bf16 at 40% of 790 TFLOP/s, memory at 4.3 TB/s, by its data sheet; one process then holds the whole network.
_H200 = GridRates(flops=0.4 * 790e12, memory=4.3e12, bandwidth=50e9, latency_s=2e-5)
_PICTURES = 10_000_000
_EDGES = (1, 2, 3, 4, 6, 9, 11, 13)
_REPLICAS = (1, 2, 5, 10, 20, 59)
_GPUS = (1, 2, 4, 8, 16, 64)
_SECONDS = 60.0


def machines(stages: Stages) -> Finding:
    """DistBelief's figure 3: one replica on more and more machines."""
    lines = {"as many times": ([float(edge**2) for edge in _EDGES], [float(edge**2) for edge in _EDGES])}
    for name, spec in (("the paper's network", _PAPER), ("DistBelief's for pictures", _IMAGES)):
        alone = grid_cost(spec, Grid(1, 1), _BATCH, _THEN).step_s
        speed = [alone / grid_cost(spec, Grid(edge, edge), _BATCH, _THEN).step_s for edge in _EDGES]
        lines[name] = (lines["as many times"][0], speed)
    at = dict(zip(_EDGES, lines["DistBelief's for pictures"][1]))
    return Finding(
        "6",
        "DistBelief: a locally connected network of 1.7 billion parameters is more than 12 times as fast on 81 machines, and "
        "still rising.",
        f"by the model, at 64 GFLOP/s a machine and 105 MB/s between them: {at[9]:.0f} times on 81 machines, {at[13]:.0f} on "
        "169; borders alone are counted, not machines that lag",
        at[9] > 12 and at[13] > at[9],
        (
            Figure(
                "How many times faster one replica is, by its machines.",
                draw.curves(lines, "machines", "times", log=True),
                True,
            ),
        ),
    )


def replicas(stages: Stages) -> Finding:
    """Section 4.1: replicas of 169 machines on 256 shards."""
    step = grid_cost(_PAPER, Grid(13, 13), _BATCH, _THEN).step_s
    bytes_ = 4.0 * costs(_PAPER, _BATCH).parameters
    job = Job(
        1,
        step,
        _BATCH,
        bytes_,
        shards=256,
        # A machine of a replica talks to the shards of its own places: 169 connections side by side.
        bandwidth=169 * _THEN.bandwidth,
        shard_bandwidth=_THEN.bandwidth,
        update_s=3 * bytes_ / 256 / _THEN.memory,
        jitter=0.2,
    )
    rates: dict[str, tuple[list[float], list[float]]] = {}
    stale, busy = {}, {}
    for every in (1, 10):
        speeds = []
        for count in _REPLICAS:
            found = simulate(_with(job, count, every), _SECONDS, settle_s=_SECONDS)
            speeds.append(found.images_per_s)
            stale[every, count] = float(np.mean(found.staleness)) if found.staleness else float("nan")
            busy[every, count] = found.busy
        rates[f"exchanged every {every} steps"] = ([169.0 * count for count in _REPLICAS], speeds)
    often, rarely = (dict(zip(_REPLICAS, rates[f"exchanged every {every} steps"][1])) for every in (1, 10))
    return Finding(
        "7",
        "Five replicas of 169 machines, 256 shards, three days for a pass over ten million pictures: 38.6 pictures/s in all.",
        f"by the model a step of 100 takes a replica {step:.2g} s, and five replicas learn from {often[5]:,.0f} pictures/s if "
        f"they exchange after every step (shards {busy[1, 5]:.0%} busy, {stale[1, 5]:.1f} updates stale), {rarely[5]:,.0f} "
        f"after every tenth; at 10,000 machines {often[59]:,.0f} and {rarely[59]:,.0f}, {stale[10, 59]:.0f} updates stale. The "
        f"paper's machines did a {rarely[5] / 38.6:.0f}th of what borders and shards alone allow",
        rarely[5] > 38.6 and often[59] < rarely[59],
        (Figure("Pictures/s by machines, 169 a replica.", draw.curves(rates, "machines", "pictures/s", log=True), True),),
    )


def today(stages: Stages) -> Finding:
    """What the paper's job costs today."""
    # Products in bf16; parameters, sums and gradients in float32.
    batch = 256
    step = grid_cost(_PAPER, Grid(1, 1), batch, _H200, itemsize=2).step_s
    bytes_ = 4.0 * costs(_PAPER, batch).parameters
    base = Job(1, step, batch, bytes_, bandwidth=_H200.bandwidth, update_s=3 * bytes_ / 8 / _H200.memory, shards=8, jitter=0.02)
    every = better_interval(base)
    hours: dict[str, list[float]] = {}
    for name, between in (("exchanged after every step", 1), (f"after every {every}th", every)):
        span = 40 * max(between * step, 2 * bytes_ / _H200.bandwidth)
        speeds = [simulate(_with(base, count, between), span, settle_s=span).images_per_s for count in _GPUS]
        hours[name] = [_PICTURES / max(speed, 1e-9) / 3600 for speed in speeds]
    lines = {name: ([float(count) for count in _GPUS], values) for name, values in hours.items()}
    best = dict(zip(_GPUS, hours[f"after every {every}th"]))
    often = dict(zip(_GPUS, hours["exchanged after every step"]))
    return Finding(
        "8",
        "1,000 machines of 16 cores took three days for ten million pictures.",
        f"by the model one H200 takes {60 * best[1]:.0f} minutes (a step of {batch} in {1e3 * step:.0f} ms), eight take "
        f"{60 * best[8]:.1f} where they exchange every {every} steps, {60 * often[8]:.0f} where they do after every step: "
        f"a pull of {bytes_ / 1e9:.1f} GB takes {bytes_ / _H200.bandwidth / step:.0f} steps. Not measured: no such GPU was at "
        "hand",
        best[8] < best[1] < 72 and best[8] < often[8],
        (
            Figure(
                "Hours for ten million pictures, by H200s (50 GB/s between them assumed).",
                draw.curves(lines, "H200s", "hours", log=True),
                True,
            ),
        ),
    )


def _with(job: Job, count: int, every: int) -> Job:
    return replace(job, replicas=count, pull_every=every, push_every=every)


FIGURES: dict[str, Callable[[Stages], Finding]] = {"6": machines, "7": replicas, "8": today}
