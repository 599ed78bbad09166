"""Claim: two replicas that exchange asynchronously learn nearly twice as fast as one, and exchanging costs what memory does.

A sparse autoencoder on real pictures (CIFAR-10, grey), one thread a replica; a shard that runs Adagrad as DistBelief's; they
exchange as seldom as the plan that is measured before a run advises, and at every step; one replica alone for the first twenty
steps; everything on this machine, through Ray's shared memory.
Transport: a shard of 25 million parameters pulled (a version that was put once) and pushed, beside bare actors that are handed
the same arrays. Update: beside two passes of trivial arithmetic over the same vectors. Recovery: from SIGKILL to the next thing
done. Two replicas need two cores of their own: on a busy machine those rows say little.
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from small_fleet import fleet, learner, losses, mean_staleness, rate, standardised, time_to
from striate.cluster.asynchronous.calling import RayDoor
from striate.cluster.asynchronous.engine import ray_cluster
from striate.cluster.compress import Packed
from striate.cluster.rules import RULES
from striate.cluster.server import Message
from striate.cluster.shards import Version, as_tensor
from striate.train import Batches, MemoryRows
from striate.train.updates import Rates
from timing import interleaved, row

BATCH, WARM = 256, 20
SIZE = 25_000_000


def rows(quick: bool = False) -> list[dict[str, object]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # Processes that Ray starts find this file by its name.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    size = SIZE // 2 if quick else SIZE
    found = _updates(size, 5 if quick else 15)
    with ray_cluster(None, 4) as ray, tempfile.TemporaryDirectory() as folder:
        found += _transport(ray, Path(folder), size, 5 if quick else 21)
        found += _replicas(ray, Path(folder), 150 if quick else 300)
        found += _recovery(ray, Path(folder))
    torch.set_num_threads(threads)
    return found


def _updates(size: int, rounds: int) -> list[dict[str, object]]:
    """One thread; the floor reads and writes what the rule must, with nothing to work out."""
    values, squares, update = torch.randn(size), torch.full((size,), 1.0), torch.randn(size)
    velocity = torch.zeros(size)

    def passes() -> None:
        for w, s, g in zip(values.split(1 << 17), squares.split(1 << 17), update.split(1 << 17)):
            s.add_(g, alpha=0.0)
            w.add_(g, alpha=0.0)

    def apply(rule: str, memory: Tensor) -> None:
        RULES[rule].apply(values, [memory], update, Rates(1e-9, 0.9))

    calls = {
        "adagrad": lambda: apply("adagrad", squares),
        "passes": passes,
        "momentum": lambda: apply("momentum", velocity),
        "finite": lambda: bool(torch.isfinite(update.sum())),
    }
    seconds = interleaved(calls, rounds)
    rate = 20e-9 * size
    return [
        row(
            f"Adagrad on {size:,} parameters / passes over memory, one thread",
            seconds["passes"] / seconds["adagrad"],
            "ratio",
            ">= 0.9",
            {"adagrad_gb_s": rate / seconds["adagrad"], "momentum": seconds["passes"] / seconds["momentum"]}
            | {f"{name}_ms": 1e3 * value for name, value in seconds.items()},
        )
    ]


class Bare:
    """What Ray alone does with the same arrays."""

    def __init__(self, size: int) -> None:
        self.values = np.zeros(size, np.float32)

    def pull(self) -> np.ndarray:
        return self.values

    def push(self, update: np.ndarray) -> None:
        pass


def _transport(ray: ModuleType, folder: Path, size: int, rounds: int) -> list[dict[str, object]]:
    """Pull: from the shard's values into the replica's. Push: from the replica's into the shard's hands, not applied."""
    crew = fleet(ray, folder / "transport", Whole(size), replicas=0, rule="sgd")
    door, bare = RayDoor(crew.shards.actors[0]), ray.remote(Bare).options(num_cpus=0).remote(size)
    update, own, received = np.ones(size, np.float32), torch.empty(size), torch.empty(size)
    sequence = iter(range(1, 10**6))

    def pull() -> None:
        values = door.pull(None).get().values
        received.copy_(as_tensor(values))

    def push() -> None:
        packed = Packed("none", (update,), size)
        # A repeat is taken and dropped: the message is carried, the update is not made.
        door.push(Message("bench", min(next(sequence), 1), Version(0, 0), Rates(0.0, 0.0), packed)).get()

    calls = {
        "pull": pull,
        "push": push,
        "bare_pull": lambda: own.copy_(as_tensor(ray.get(bare.pull.remote()))),
        "bare_push": lambda: ray.get(bare.push.remote(update)),
        "copy": lambda: own.copy_(received),
    }
    # Pages of the store that nobody has touched yet cost eight times as much; it takes some rounds until all were.
    seconds = interleaved(calls, rounds, warm_up=40)
    crew.close()
    ray.kill(bare)
    both, bytes_moved = seconds["pull"] + seconds["push"], 8 * size
    peers = {
        "bare_ray_gb_s": bytes_moved / (seconds["bare_pull"] + seconds["bare_push"]) / 1e9,
        "one_copy_gb_s": 4 * size / seconds["copy"] / 1e9,
    }
    peers |= {f"{name}_ms": 1e3 * value for name, value in seconds.items()}
    return [row(f"a shard of {size:,} parameters pulled and pushed", bytes_moved / both / 1e9, "GB/s", ">= 8", peers)]


class Whole:
    """A vector for a learner."""

    own_rule, finished, dtype, step_number = "sgd", False, torch.float32, 0

    def __init__(self, size: int) -> None:
        self.weight = torch.zeros(size)

    def exchanged(self) -> list[Any]:
        from striate.train.exchanged import Exchanged

        return [Exchanged("weight", self.weight)]

    def refresh(self) -> None:
        pass

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        pass

    def state(self) -> dict[str, Tensor]:
        return {"weight": self.weight}


def _replicas(ray: ModuleType, folder: Path, steps: int) -> list[dict[str, object]]:
    """At the interval that the plan advises, and at every step."""
    held = ray.put(standardised().numpy())
    advised = _advised(ray, folder, held)
    plain = _plain(held, ray, steps)
    found = []
    for every in dict.fromkeys((advised, 1)):
        found += _pair(ray, folder / f"every{every}", held, steps, every, advised, plain)
    return found


def _advised(ray: ModuleType, folder: Path, held: Any) -> int:
    crew = fleet(ray, folder / "plan", learner(), 2, rows=held, batch=BATCH)
    assert crew.plan is not None
    every = crew.plan.advised_interval
    crew.close()
    return every


def _pair(
    ray: ModuleType, folder: Path, held: Any, steps: int, every: int, advised: int, plain: float
) -> list[dict[str, object]]:
    """One replica, then two."""
    reached, told = {}, {}
    for count in (1, 2):
        crew = fleet(
            ray, folder / f"{count}", learner(), count, rows=held, batch=BATCH, every=every, warm=WARM if count > 1 else 0
        )
        reached[count], told[count] = losses(crew, count * steps), crew.counted()
        crew.close()
    # When both have been at it for a while; the time to a loss has the warm start in it.
    rates = {count: rate(found[len(found) // 3 :], BATCH) for count, found in reached.items()}
    target = statistics.mean(loss for _, loss in reached[1][-steps // 10 :])
    to_target = {count: time_to(found, target, steps // 10) for count, found in reached.items()}
    moved = (told[2]["pulls"] + told[2]["pushes"]) * 4 * sum(one.size for one in learner().exchanged())
    peers = {f"{count}_images_s": one for count, one in rates.items()} | {"no_replicas_images_s": plain}
    often = f"exchanging every {every} steps, as advised" if every == advised else "exchanging at every step"
    times = {"one_s": to_target[1], "two_s": to_target[2], "loss": target}
    return [
        row(
            f"two replicas / one, images a second, a thread each, {often}",
            rates[2] / rates[1],
            "ratio",
            ">= 1.8" if every == advised else "(none set)",
            peers,
        ),
        row(
            f"one replica / two, time to the loss that one reaches, {often}",
            to_target[1] / to_target[2],
            "ratio",
            ">= 1.5" if every == advised else "(none set)",
            times | {"staleness_mean": mean_staleness(told[2]["staleness"])},
        ),
        row(
            f"bytes that travelled / (pulls + pushes) x parameters, {often}",
            (told[2]["pulled_bytes"] + told[2]["pushed_bytes"]) / moved,
            "ratio",
            "<= 1.1",
            {name: float(told[2][name]) for name in ("pulls", "pushes")},
        ),
    ]


def _plain(held: Any, ray: ModuleType, steps: int) -> float:
    """Images a second of the learner alone, in this process."""
    alone, batches = learner(), Batches(MemoryRows(as_tensor(ray.get(held))), BATCH, 0)
    alone.step(batches.at(0))
    count, begun = max(10, steps // 10), time.monotonic()
    for step in range(count):
        alone.step(batches.at(step))
    return count * BATCH / (time.monotonic() - begun)


def _recovery(ray: ModuleType, folder: Path) -> list[dict[str, object]]:
    """Two replicas; one is killed, then the shard."""
    held = ray.put(standardised().numpy())
    crew = fleet(ray, folder / "killed", learner(), 2, rows=held, batch=BATCH, warm=WARM)
    for step in range(40):
        crew.step(step)
    pid, begun = ray.get(crew.members[1].actor.pid.remote()), time.monotonic()
    os.kill(pid, signal.SIGKILL)
    while crew.members.losses.failed == 0 or crew.members[1].fresh:
        crew.step(0)
    replaced = time.monotonic() - begun
    before = crew.counted()
    pid, begun = ray.get(crew.shards.actors[0].counted.remote())["pid"], time.monotonic()
    os.kill(pid, signal.SIGKILL)
    RayDoor(crew.shards.actors[0]).pull(None).get()
    back = time.monotonic() - begun
    for step in range(60):
        crew.step(step)
    after = crew.counted()
    crew.close()
    lost = {"pushes_lost": float(after["lost"]), "snapshot_every_s": 5.0, "pushes_before": float(before["updates"])}
    return [
        row("from a replica's SIGKILL to the first minibatch of who takes its place", replaced, "s", "< 5"),
        row("from a shard's SIGKILL to its next answer", back, "s", "< 5", lost),
    ]
