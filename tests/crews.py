"""Learners whose replicas' work is known beforehand, for processes that cannot import the modules of tests."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from striate.cluster.asynchronous.actors import Job, Workbench
from striate.cluster.asynchronous.engine import ray_cluster
from striate.cluster.asynchronous.fleet import Crew, Fleet
from striate.cluster.compress import Packer
from striate.cluster.replica import Pace
from striate.train.exchanged import Exchanged, Slope
from striate.train.updates import Rates


@contextmanager
def engine() -> Iterator[ModuleType]:
    """Ray, whose processes find this file."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "RAY_ADDRESS")}
    known = before["PYTHONPATH"]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *([known] if known else [])])
    # Whatever cluster this machine belongs to is not the one that is meant.
    os.environ["RAY_ADDRESS"] = "127.0.0.1:1"
    try:
        with ray_cluster(None, 4) as connected:
            yield connected
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class Counting:
    """Each minibatch's gradient is -1 everywhere: under plain descent at rate 1 weights count the updates, exactly."""

    own_rule, finished, dtype = "sgd", False, torch.float32

    def __init__(self, size: int, step_s: float = 0.0, mishaps: Mapping[int, str] | None = None, folder: str = "") -> None:
        self.weight, self.step_number = torch.zeros(size), 0
        self._step_s, self._mishaps, self._folder = step_s, mishaps or {}, folder

    def slope(self, batch: int) -> Slope:
        time.sleep(self._step_s)
        poison = self._mishap(batch)
        self.step_number += 1
        return Slope({"loss": torch.tensor(poison or 1.0)}, [torch.full_like(self.weight, poison or -1.0)], Rates(1.0, 0.0))

    def step(self, batch: int) -> dict[str, Tensor]:
        slope = self.slope(batch)
        self.weight.sub_(slope.gradients[0])
        return slope.metrics

    def _mishap(self, batch: int) -> float:
        """What is to go wrong at a minibatch, once in a run."""
        wanted = self._mishaps.get(batch)
        if wanted == "wait":
            while not (Path(self._folder) / "go").exists():
                time.sleep(0.01)
            return 0.0
        if wanted is None:
            return 0.0
        try:
            (Path(self._folder) / f"{wanted}-{batch}").touch(exist_ok=False)
        except FileExistsError:
            return 0.0
        if wanted == "nan":
            return float("nan")
        os.kill(os.getpid(), signal.SIGKILL if wanted == "kill" else signal.SIGSTOP)
        time.sleep(1)
        return 0.0

    def exchanged(self) -> list[Exchanged]:
        return [Exchanged("weight", self.weight)]

    def refresh(self) -> None:
        pass

    def diagnose(self) -> dict[str, float]:
        return {"weight": float(self.weight.mean())}

    def state(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "step": torch.tensor(self.step_number)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.weight.copy_(state["weight"])
        self.step_number = int(state["step"])


def bring(brought: dict[str, Any], rows: None) -> Workbench:
    """In a replica's process."""
    state = brought.pop("state")
    if brought.pop("wrong_clock", False):
        # Ten years behind, and a second further with every look.
        looks = itertools.count()
        time.time = lambda: 1e9 - next(looks)
    learner = Counting(**brought)
    learner.load_state(state)
    return Workbench(learner, lambda slot: slot)


def crew(folder: Path, **changed: Any) -> Crew:
    pace = changed.pop("pace", Pace())
    job = Job(pace, changed.pop("packer", Packer()), changed.pop("gradients", True), threads=1)
    settings = {
        "replicas": 2,
        "shards": 2,
        "rule": "sgd",
        "forget": 0.0,
        "warm_start_steps": 0,
        "folder": folder / "shards",
        "snapshot_every_s": 0.3,
        "patience_s": 30.0,
    }
    return Crew(job=job, **{**settings, **changed})  # type: ignore[arg-type]


def fleet(
    ray: ModuleType, crew: Crew, total: int, size: int = 10, said: list[str] | None = None, pulse: Any = None, **learner: Any
) -> Fleet:
    """A fleet of counting replicas, begun."""
    whole = Counting(size)
    heard = said if said is not None else []
    made = Fleet(
        whole, crew, ray, bring, lambda state: {"size": size, "state": state, **learner}, None, total, 10, heard.append, pulse
    )
    made.load_state(whole.state())
    return made


def run(fleet: Fleet, steps: int, each: Any = None) -> dict[str, Tensor]:
    """Steps as the loop takes them, and the state at the end."""
    for number in range(steps):
        fleet.step(number)
        if each is not None:
            each(number)
    return fleet.state()
