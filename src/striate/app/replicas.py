"""``--replicas K``: a recipe trained by K copies that exchange what they learn, on this machine or on a cluster of Ray's.

The driver keeps the run as ever; replicas are told everything they need (`tickets.py`) and share no folder with it but the
pictures', and that only where rows are streamed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from striate.app.alike import facts
from striate.app.build import Experiment
from striate.app.crew_files import CrewFiles
from striate.app.exchanging import chosen_rule as chosen_rule
from striate.app.exchanging import intervals, takes_advice
from striate.app.exchanging import rates as rates
from striate.app.exchanging import warm_start as warm_start
from striate.app.gangs import check_gang, described, gang_bytes, num_shards, sections_of
from striate.app.recipe import SparseGroup, check_recipe
from striate.app.screen import Screen
from striate.app.tickets import bring, ticket_of
from striate.app.yaml import read_yaml
from striate.cluster.ahead import rule_ahead
from striate.cluster.asynchronous.actors import Job
from striate.cluster.asynchronous.crew import Wanted
from striate.cluster.asynchronous.engine import ray_cluster
from striate.cluster.asynchronous.fleet import Crew, Fleet, Slots
from striate.cluster.compress import Packer
from striate.cluster.replica import Pace
from striate.errors import BadInput
from striate.train import Run
from striate.train.checkpoint import read_json

# In run.json: the interval that `auto` has taken, for good.
_TAKEN = "exchange_every"


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Attributes:
        replicas: how many, at most.
        address: of a Ray cluster; None: this machine.
        least: so many are waited for; None: all of them.
        processes: of each replica.
    """

    replicas: int
    address: str | None = None
    least: int | None = None
    processes: int = 1

    @property
    def wanted(self) -> Wanted:
        """To begin with."""
        return Wanted(self.replicas if self.least is None else self.least, self.replicas)


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
    with ray_cluster(asked.address, max(cores, asked.replicas * asked.processes)) as ray:
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
            lambda state: ticket_of(experiment, run, state, crew, known),
            rows,
            experiment.loop.total_steps,
            experiment.recipe.train.batch_size,
            screen.say,
            files.pulse,
            sections_of(experiment, asked.processes),
            gang_bytes(experiment, asked.processes),
        )
        try:
            subject = replace(experiment.subject, learner=fleet, filters=lambda: _fresh_filters(fleet, experiment))
            about = {"replicas": asked.replicas, "shards": len(fleet.shards.cuts), "rule": crew.rule}
            about |= described(experiment, asked.processes)
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
    for name, given in (
        ("together=fields", train.together == "fields"),
        ("plateau", train.plateau is not None),
        ("until_error", train.until_error is not None),
        ("patience", train.patience is not None),
        ("average", train.average > 0),
    ):
        if given:
            raise BadInput(f"train.{name} needs one process that sees every step: leave it out, or train without --replicas")
    exchange = recipe.cluster.exchange
    _, gradients = chosen_rule(exchange, learner)
    takes_advice(exchange, gradients)
    if exchange.momentum is not None and exchange.rate is None and exchange.mode != "diloco":
        raise BadInput("cluster.exchange.momentum goes with a rate of its own: give cluster.exchange.rate, too")
    check_gang(experiment, asked.processes)


def _crew(experiment: Experiment, run: Run, asked: Asked, processors: int, gpus: float) -> Crew:
    recipe, learner = experiment.recipe, experiment.subject.learner
    exchange = recipe.cluster.exchange
    rule, gradients = chosen_rule(exchange, learner)
    rounds, taken = exchange.mode != "downpour", read_json(run.path / "run.json").get(_TAKEN)
    given = os.environ.get("OMP_NUM_THREADS")

    advice = takes_advice(exchange, gradients)

    def take(interval: int) -> tuple[int, int]:
        run.describe(**{_TAKEN: interval})
        return intervals(exchange, gradients, interval)

    def threads_of(count: int) -> int:
        return int(given) if given else max(1, processors // (count * asked.processes))

    # Here a range ends where the cores do; whoever names one number means it.
    cores = own_cores() // ((int(given) if given else 1) * asked.processes)
    room = asked.replicas if asked.address is not None else max(asked.wanted.least, cores)
    replicas, own_pace = min(asked.replicas, room), not gradients and not rounds and exchange.rate is None
    threads = threads_of(asked.replicas)
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
        shards=num_shards(experiment, asked.processes),
        rule=rule,
        job=Job(
            Pace(
                *intervals(exchange, gradients, taken),
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
        gpus=min(1.0, gpus / (asked.replicas * asked.processes)) if experiment.device.type == "cuda" else 0.0,
        processes=asked.processes,
        taken=taken if advice else None,
        take=take if advice and taken is None else None,
    )
