"""``--replicas K``: a recipe trained by K copies that exchange what they learn, on this machine or on a cluster of Ray's.

The driver keeps the run as ever; replicas are told everything they need (recipe, model, preprocessing, prepared rows) and share
no folder with it but the pictures', and that only where rows are streamed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from striate.app.alike import check_here, facts
from striate.app.build import Experiment, Resumed, build
from striate.app.crew_files import CrewFiles
from striate.app.exchanging import chosen_rule as chosen_rule
from striate.app.exchanging import rates as rates
from striate.app.exchanging import warm_start as warm_start
from striate.app.load import load_model
from striate.app.recipe import SparseGroup, check_recipe
from striate.app.screen import Screen
from striate.app.yaml import read_yaml
from striate.cluster.ahead import rule_ahead
from striate.cluster.asynchronous.actors import Job, Workbench
from striate.cluster.asynchronous.crew import Wanted
from striate.cluster.asynchronous.engine import ray_cluster
from striate.cluster.asynchronous.fleet import Crew, Fleet, Slots
from striate.cluster.compress import Packer
from striate.cluster.replica import Pace
from striate.cluster.shards import as_tensor
from striate.errors import BadInput
from striate.preprocess import Preprocessor
from striate.train import MemoryRows, Run
from striate.train.checkpoint import read_json

_PARAMETERS_A_SHARD = 64_000_000
_SENT = ("preprocessor.json", "preprocessor.safetensors", "encoder.safetensors")
# Steps from push to push where replicas train by themselves; DiLoCo's authors take 500, on models of months.
_APART = 50


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Attributes:
        replicas: how many, at most.
        address: of a Ray cluster; None: this machine.
        least: so many are waited for; None: all of them.
    """

    replicas: int
    address: str | None = None
    least: int | None = None

    @property
    def wanted(self) -> Wanted:
        """To begin with."""
        return Wanted(self.replicas if self.least is None else self.least, self.replicas)


@dataclass(frozen=True)
class Ticket:
    """Everything a replica is told.

    Attributes:
        recipe: resolved.
        files: of the run, by name.
        streamed: whether rows are read from the store.
        state: the learner's.
        threads: of the replica.
        facts: what must be the same there, see `striate.app.alike`.
    """

    recipe: dict[str, Any]
    files: dict[str, bytes]
    streamed: bool
    state: dict[str, np.ndarray]
    threads: int
    facts: dict[str, str]


def bring(ticket: Ticket, rows: np.ndarray | None) -> Workbench:
    """In a replica's process: the experiment as the driver has it, in the state it was in.

    Raises:
        BadInput: that machine has other pictures, or other versions.
    """
    recipe = check_recipe(ticket.recipe, "the driver's recipe")
    check_here(recipe, ticket.facts)
    if recipe.train.workers is None:
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"workers": ticket.threads})})
    folder = Path(tempfile.mkdtemp(prefix="striate-replica-"))
    try:
        for name, content in ticket.files.items():
            (folder / name).write_bytes(content)
        fitted = Preprocessor.restore(read_json(folder / _SENT[0]), load_file(folder / _SENT[1]))
        resumed = Resumed(load_model(folder), fitted, ticket.streamed)
    finally:
        shutil.rmtree(folder)
    prepared = None if rows is None else MemoryRows(as_tensor(rows))
    experiment = build(recipe, lambda line: None, resumed, rows=prepared)
    learner = experiment.subject.learner
    learner.load_state({name: torch.from_numpy(array.copy()) for name, array in ticket.state.items()})
    return Workbench(learner, experiment.batches.at)


@contextmanager
def crewed(experiment: Experiment, run: Run, screen: Screen, asked: Asked | None) -> Iterator[Experiment]:
    """The experiment with replicas for a learner; as it is where none are asked for.

    Raises:
        BadInput: what the recipe asks for is not for replicas, or Ray cannot be reached.
    """
    if asked is None:
        yield experiment
        return
    check_crew(experiment, asked)
    files, cores = CrewFiles(run.path), own_cores()
    known = facts(check_recipe(read_yaml(run.path / "recipe.yaml"), "recipe.yaml"))
    with ray_cluster(asked.address, max(cores, asked.replicas)) as ray:
        check_gpus(experiment.recipe.device, asked.address, ray.cluster_resources())
        processors = int(ray.cluster_resources().get("CPU", 1))
        crew = _crew(experiment, run, asked, processors, float(ray.cluster_resources().get("GPU", 0)))
        if crew.rule == "momentum" and not crew.job.pace.rounds and asked.replicas > 1:
            screen.say(
                "replicas at their own pace act like more momentum: if the loss lags, lower train.momentum, or set "
                "cluster.exchange.rule=adagrad or cluster.exchange.mode=synchronous"
            )
        rows = _handed_over(experiment, ray, screen)
        fleet = Fleet(
            experiment.subject.learner,
            crew,
            ray,
            bring,
            lambda state: _ticket(experiment, run, state, crew, known),
            rows,
            experiment.loop.total_steps,
            experiment.recipe.train.batch_size,
            screen.say,
            files.pulse,
        )
        try:
            subject = replace(experiment.subject, learner=fleet, filters=lambda: _fresh_filters(fleet, experiment))
            about = {"replicas": asked.replicas, "shards": len(fleet.shards.cuts), "rule": crew.rule}
            run.describe(cluster={**about, "wanted": str(asked.wanted), "crew": files.earlier})
            yield replace(experiment, subject=subject, batches=Slots(experiment.batches.steps_per_epoch))
        finally:
            with suppress(Exception):
                known, record = read_json(run.path / "run.json")["cluster"], fleet.record()
                run.describe(cluster={**known, **record, "crew": files.all_visits(record.get("crew", []))})
                files.close(fleet)
            fleet.close()
            shutil.rmtree(crew.folder, ignore_errors=True)
            with suppress(OSError):
                # Others may keep snapshots of theirs there.
                crew.folder.parent.rmdir()


def check_gpus(device: str, address: str | None, resources: Mapping[str, float]) -> None:
    """Refuse a cluster that cannot give what the recipe asks for.

    Raises:
        BadInput: a GPU is asked for, and no machine of the cluster has one.
    """
    if address is not None and device.startswith("cuda") and not resources.get("GPU"):
        raise BadInput(
            f"device={device} was asked for, but no machine of the Ray cluster at {address} has a GPU "
            f"({resources.get('CPU', 0):.0f} cores): start one that has, or use device=cpu"
        )


def own_cores() -> int:
    """Of this machine, that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fresh_filters(fleet: Fleet, experiment: Experiment) -> Tensor:
    fleet.freshen()
    return experiment.subject.filters()


def _handed_over(experiment: Experiment, ray: Any, screen: Screen) -> Any:
    """Prepared rows in the memory that all processes of a machine share; None where rows are streamed, or find no room."""
    held = getattr(experiment.rows, "held", None)
    if experiment.streamed or held is None:
        return None
    try:
        return ray.put(held.numpy())
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError):
        screen.warn(
            f"Ray's shared memory has no room for {held.nbytes / 1e6:,.0f} MB of prepared pictures: every replica prepares "
            "its own (more room: `ray start --object-store-memory BYTES`)"
        )
        return None


def _ticket(experiment: Experiment, run: Run, state: Mapping[str, Tensor], crew: Crew, known: dict[str, str]) -> Ticket:
    recipe = read_yaml(run.path / "recipe.yaml")
    recipe["data"]["store"] = str(experiment.store.path.resolve())
    files = {name: (run.path / name).read_bytes() for name in _SENT}
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}
    return Ticket(recipe, files, experiment.streamed, arrays, crew.job.threads, known)


def check_crew(experiment: Experiment, asked: Asked | None) -> None:
    """Refuse what replicas cannot do, before anything is written.

    Raises:
        BadInput: naming the key.
    """
    if asked is None:
        return
    recipe, learner = experiment.recipe, experiment.subject.learner
    train = recipe.train
    if train.dtype == "fp64":
        raise BadInput("train.dtype=fp64 is for processes that share a model: replicas exchange float32")
    chosen_rule(recipe.cluster.exchange, learner)
    for name, given in (
        ("plateau", train.plateau is not None),
        ("until_error", train.until_error is not None),
        ("patience", train.patience is not None),
        ("average", train.average > 0),
    ):
        if given:
            raise BadInput(f"train.{name} needs one process that sees every step: leave it out, or train without --replicas")
    exchange = recipe.cluster.exchange
    if exchange.momentum is not None and exchange.rate is None and exchange.mode != "diloco":
        raise BadInput("cluster.exchange.momentum goes with a rate of its own: give cluster.exchange.rate, too")


def _crew(experiment: Experiment, run: Run, asked: Asked, processors: int, gpus: float) -> Crew:
    recipe, learner = experiment.recipe, experiment.subject.learner
    exchange = recipe.cluster.exchange
    rule, gradients = chosen_rule(exchange, learner)
    rounds = exchange.mode != "downpour"
    apart = exchange.mode in ("local", "diloco")
    push_every = exchange.push_every or (_APART if apart else 1)
    given = os.environ.get("OMP_NUM_THREADS")

    def threads_of(count: int) -> int:
        return int(given) if given else max(1, processors // count)

    # Here a range ends where the cores do; whoever names one number means it.
    room = asked.replicas if asked.address is not None else max(asked.wanted.least, own_cores() // (int(given) if given else 1))
    replicas, own_pace = min(asked.replicas, room), not gradients and not rounds and exchange.rate is None
    threads = threads_of(asked.replicas)
    size = sum(one.tensor.numel() for one in learner.exchanged()) if hasattr(learner, "exchanged") else 1
    folder = (exchange.snapshots or run.path / "shards").resolve() / f"{time.time_ns():x}"
    if exchange.snapshots is None:
        # Of a driver that was killed; checkpoints have what is needed of it.
        shutil.rmtree(run.path / "shards", ignore_errors=True)
    return Crew(
        replicas=replicas,
        least=asked.wanted.least,
        rates=partial(rates, exchange, recipe.train.momentum, gradients) if own_pace else None,
        threads=threads_of if asked.address is None else None,
        near=exchange.snapshots is None,
        shards=exchange.shards or -(-size // _PARAMETERS_A_SHARD),
        rule=rule,
        job=Job(
            Pace(
                exchange.pull_every if gradients else push_every,
                push_every,
                rounds,
                rates(exchange, recipe.train.momentum, gradients, asked.replicas),
                rule_ahead(rule, rounds),
            ),
            Packer(exchange.compress, exchange.keep),
            gradients,
            threads,
        ),
        forget=recipe.train.forget if rule == "adagrad" and isinstance(recipe.model, SparseGroup) else 0.0,
        warm_start_steps=warm_start(exchange, gradients, asked.replicas, experiment.loop.total_steps),
        folder=folder,
        snapshot_every_s=exchange.snapshot_every_s,
        patience_s=exchange.patience_s,
        gpus=min(1.0, gpus / asked.replicas) if experiment.device.type == "cuda" else 0.0,
    )
