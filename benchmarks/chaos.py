"""Claim: a run of replicas of which a hundred processes are killed ends, and learns what an undisturbed one does.

A sparse autoencoder on real pictures (CIFAR-10, grey), three replicas of a thread, two shards with a snapshot every
half second; 70 SIGKILLs of replicas and 30 of shards, at minibatches drawn at random. Losses are of a thousand pictures
held out, beside several undisturbed runs of as many minibatches, whose spread says what asynchrony alone does. A
replica is back when its place has learned from a minibatch, a shard when it has answered. Everything on this machine:
whoever is begun again has to load torch on the cores on which the others learn.
"""

from __future__ import annotations

import functools
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fire import Fire, burn
from small_fleet import bring, learner, standardised
from striate.cluster.ahead import rule_ahead
from striate.cluster.asynchronous.actors import Job
from striate.cluster.asynchronous.engine import ray_cluster
from striate.cluster.asynchronous.fleet import Crew, Fleet
from striate.cluster.compress import Packer
from striate.cluster.replica import Pace
from striate.draws import generator
from timing import row

BATCH, EVERY, HELD_OUT = 256, 2, 1000
SNAPSHOT_EVERY_S = 0.5


@dataclass(frozen=True)
class Size:
    """How much of it.

    Attributes:
        steps: minibatches of every run.
        replicas: kills of these.
        shards: kills of those.
        undisturbed: runs without.
    """

    steps: int
    replicas: int
    shards: int
    undisturbed: int


@dataclass(frozen=True)
class Course:
    """What became of a run.

    Attributes:
        loss: of pictures held out, a picture.
        loss_seen: of as many that were learned from.
        told: what the fleet counted.
        fire: who was killed.
        longest_s: step of the driver.
        seconds: all steps.
    """

    loss: float
    loss_seen: float
    told: dict[str, Any]
    fire: Fire
    longest_s: float
    seconds: float


def rows(quick: bool = False) -> list[dict[str, object]]:
    size = Size(600, 8, 4, 2) if quick else Size(5000, 70, 30, 3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # Processes that Ray starts find this folder's files by their names.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    pictures = standardised()
    with ray_cluster(None, 4) as ray, tempfile.TemporaryDirectory() as folder:
        run = functools.partial(_run, ray, size.steps, pictures[HELD_OUT:].contiguous(), pictures[:HELD_OUT])
        calm = [run(Path(folder) / f"calm{number}", []) for number in range(size.undisturbed)]
        burned = run(Path(folder) / "burned", ["replica"] * size.replicas + ["shard"] * size.shards)
    torch.set_num_threads(threads)
    return _rows(burned, calm, size.steps)


def _run(ray: ModuleType, steps: int, learned: Tensor, held_out: Tensor, folder: Path, whats: list[str]) -> Course:
    random, whole = generator(0, "chaos"), learner()
    made = Fleet(
        whole, _crew(folder), ray, functools.partial(bring, BATCH), dict, _shared(ray, learned), steps, BATCH, lambda line: None
    )
    made.load_state(whole.state())
    fire, begun = Fire(ray, made, [str(what) for what in random.permutation(whats)], random), time.monotonic()
    moments = sorted(random.integers(steps // 20, steps * 9 // 10, len(whats)).tolist())
    longest_s = burn(made, fire, steps, moments, functools.partial(_tell, fire, steps, begun))
    made.state()
    seconds, told = time.monotonic() - begun, made.counted()
    applied = [one["steps"] for one in ray.get([shard.counted.remote() for shard in made.shards.actors])]
    told["applied"] = statistics.mean(applied)
    made.close()
    losses = (float(whole.slope(some).metrics["loss"]) / HELD_OUT for some in (held_out, learned[:HELD_OUT]))
    return Course(*losses, told, fire, longest_s, seconds)


def _crew(folder: Path) -> Crew:
    pace = Pace(EVERY, EVERY, ahead=rule_ahead("adagrad", rounds=False))
    return Crew(
        replicas=3,
        shards=2,
        rule="adagrad",
        job=Job(pace, Packer(), gradients=True, threads=1),
        forget=0.0,
        warm_start_steps=20,
        folder=folder,
        snapshot_every_s=SNAPSHOT_EVERY_S,
        patience_s=60.0,
    )


def _shared(ray: ModuleType, pictures: Tensor) -> Any:
    return ray.put(pictures.numpy())


def _tell(fire: Fire, steps: int, begun: float, step: int) -> None:
    if (step + 1) % (steps // 10) == 0:
        line = f"{step + 1} of {steps} minibatches, {time.monotonic() - begun:.0f} s, {sum(fire.killed.values())} killed"
        print(line, file=sys.stderr, flush=True)


def _rows(burned: Course, calm: list[Course], steps: int) -> list[dict[str, object]]:
    losses, told, killed = [one.loss for one in calm], burned.told, burned.fire.killed
    middle = statistics.median(losses)
    about = {
        "minibatches": steps,
        **{f"{what}s_killed": count for what, count in killed.items()},
        "loss": burned.loss,
        "undisturbed_least": min(losses),
        "undisturbed_most": max(losses),
        "of_pictures_seen": burned.loss_seen / statistics.median(one.loss_seen for one in calm),
        "seconds": burned.seconds,
        "undisturbed_s": statistics.median(one.seconds for one in calm),
    }
    pushes = {name: float(told[name]) for name in ("lost", "updates", "repeated", "refused")}
    pushes["minibatches_in_shards"] = told["applied"]
    redone = {"redone": told["minibatches_redone"], "replicas_lost": told["replicas_lost"]}
    return [
        row(f"loss after {sum(killed.values())} kills / undisturbed", burned.loss / middle, "ratio", "<= 1.02", about),
        row("the driver's longest step", burned.longest_s, "s", "< 60", {"undisturbed_s": max(one.longest_s for one in calm)}),
        row("pushes lost with shards / pushes", told["lost"] / (told["updates"] + told["lost"]), "ratio", "", pushes),
        row("minibatches handed out again / minibatches", told["minibatches_redone"] / steps, "ratio", "", redone),
        *(_recovery(burned.fire, what, until) for what, until in _UNTIL.items()),
    ]


_UNTIL = {"replica": "the first minibatch of who takes its place", "shard": "its next answer"}


def _recovery(fire: Fire, what: str, until: str) -> dict[str, object]:
    back = [kill.back_s for kill in fire.kills if kill.what == what and kill.back_s is not None]
    peers = {"most_s": max(back), "least_s": min(back), "back": len(back), "killed": fire.killed[what]}
    late = float(np.mean([seconds >= 5 for seconds in back]))
    return row(
        f"from a {what}'s SIGKILL to {until}, median", statistics.median(back), "s", "< 5", {**peers, "share_later": late}
    )
