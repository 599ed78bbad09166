"""A small job of replicas for benchmarks: a sparse autoencoder on CIFAR-10 in grey, a thread a replica, one shard, Adagrad."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cifar import pictures
from striate.cluster.ahead import rule_ahead
from striate.cluster.asynchronous.actors import Job, Workbench
from striate.cluster.asynchronous.fleet import Crew, Fleet
from striate.cluster.compress import Packer
from striate.cluster.replica import Pace
from striate.cluster.shards import as_tensor
from striate.draws import Draws
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.train import Batches, MemoryRows
from striate.train.sparse import SparseLearner, SparseSettings
from striate.train.updates import Rates


def learner() -> SparseLearner:
    """A stage of untied filters on 32x32 pictures, its decoder apart: 0.9 million weights."""
    net = SparseNet(NetSpec((1, 32, 32), (StageSpec(10, 1, 8, pool=3, norm=5, norm_edges="keep"),))).start(Draws(0))
    return SparseLearner(net, SparseSettings(), lambda step: Rates(0.02, 0.0))


def standardised() -> Tensor:
    """Grey pictures of mean 0 and deviation 1, each."""
    pixels, _ = pictures("train", 6000)
    grey = torch.from_numpy(pixels).float().mean(dim=1).flatten(1)
    grey -= grey.mean(dim=1, keepdim=True)
    return grey / grey.std(dim=1, keepdim=True).clamp_min(1.0)


def bring(batch: int, state: Mapping[str, Tensor], held: np.ndarray) -> Workbench:
    """In a replica's process."""
    made = learner()
    made.load_state(state)
    return Workbench(made, Batches(MemoryRows(as_tensor(held)), batch, 0).at)


def fleet(
    ray: ModuleType,
    folder: Path,
    whole: Any,
    replicas: int,
    rule: str = "adagrad",
    rows: Any = None,
    batch: int = 256,
    every: int = 1,
    warm: int = 0,
) -> Fleet:
    """Begun; with no replicas, its shards alone."""
    crew = Crew(
        replicas=replicas,
        shards=1,
        rule=rule,
        job=Job(Pace(every, every, ahead=rule_ahead(rule, rounds=False)), Packer(), gradients=True, threads=1),
        forget=0.0,
        warm_start_steps=warm,
        folder=folder,
        snapshot_every_s=5.0,
        patience_s=60.0,
    )
    made = Fleet(whole, crew, ray, functools.partial(bring, batch), dict, rows, 10**6, batch, lambda line: None)
    made.load_state(whole.state())
    return made


def losses(fleet: Fleet, steps: int) -> list[tuple[float, float]]:
    """When each minibatch was reported, and its loss."""
    found = []
    for step in range(steps):
        metrics = fleet.step(step)
        found.append((time.monotonic(), float(metrics["loss"])))
    return found


def rate(found: list[tuple[float, float]], batch: int) -> float:
    """Images a second, from the first report to the last: reports come by the lease, so the first one's is left out."""
    first = next(number for number, (when, _) in enumerate(found) if when - found[0][0] > 0.01)
    return (len(found) - first) * batch / (found[-1][0] - found[first - 1][0])


def time_to(found: list[tuple[float, float]], loss: float, window: int) -> float:
    """Seconds until the mean of a window of minibatches is this or less."""
    for end in range(window, len(found) + 1):
        if statistics.mean(one for _, one in found[end - window : end]) <= loss:
            return found[end - 1][0] - found[0][0]
    return float("inf")


def mean_staleness(counts: Mapping[str, int]) -> float:
    """Of the shards' histogram."""
    told = {int(value): count for value, count in counts.items()}
    return sum(value * count for value, count in told.items()) / max(sum(told.values()), 1)
