"""Some steps of a random model by processes of this machine, timed: what benchmarks and figures of chapter 4 are drawn from.

Like the paper's own tests: random data, no pictures. Each process has one thread and may stand in a network namespace of its
own, with a link of any speed between.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor

from striate.cluster.costs import Machine, Problem, cost
from striate.cluster.layout import Layout, Mode
from striate.cluster.measuring import choose, choose_transport, measure
from striate.cluster.sharded import ShardedLearner
from striate.cluster.wire import Wire
from striate.errors import StriateError
from striate.models.rbm import RBM, Bernoulli, Gaussian
from striate.train import CDSettings, ContrastiveLearner
from striate.train.contrastive import constant

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}


@dataclass(frozen=True)
class Trial:
    """What to time.

    Attributes:
        visible: units.
        hidden: units.
        batch: images a step, of ones and zeros.
        gaussian: whether visible units are.
        dtype: of the products: fp32, bf16 or fp64.
        mode: the algorithm; `auto`, or `plain` for the learner of one process.
        steps: how many to time.
        warm: whether one more comes first.
        sync_images: as of `Layout`.
    """

    visible: int
    hidden: int
    batch: int
    gaussian: bool = False
    dtype: str = "fp32"
    mode: Mode | Literal["auto", "plain"] = "auto"
    steps: int = 3
    warm: bool = True
    sync_images: int = 0

    @property
    def problem(self) -> Problem:
        """Its step, as the model of costs sees it."""
        dtype = _DTYPES[self.dtype]
        exact = 8 if self.dtype == "fp64" else 4
        return Problem(self.visible, self.hidden, self.batch, not self.gaussian, itemsize=dtype.itemsize, exact=exact)


@dataclass(frozen=True)
class Tried:
    """What one process found.

    Attributes:
        seconds: of each step, until all processes had ended it.
        mode: the algorithm.
        parts: pieces that a batch travelled in.
        received: bytes a step, counted at the collectives.
        interface: bytes a step that the loopback of its network namespace received.
        drift: between the two copies of weights when they were made one, if they were.
        profile: seconds a step in each part.
        machine: rates measured before.
    """

    seconds: list[float]
    mode: str
    parts: int
    received: float
    interface: float
    drift: float | None
    profile: dict[str, float]
    machine: Machine | None

    @property
    def step_s(self) -> float:
        """The median step."""
        return statistics.median(self.seconds)

    def predicted(self, trial: Trial, count: int) -> float:
        """Seconds a step by the model of costs."""
        assert self.machine is not None and self.mode != "plain"
        return cost(trial.problem, cast(Mode, self.mode), count, self.machine, self.parts).step_s


def try_out(trials: Sequence[Trial], count: int, hosts: Sequence[tuple[str, str]] = ()) -> list[list[Tried]]:
    """Every trial by ``count`` processes; results by trial and rank.

    Args:
        trials: one after another.
        count: processes.
        hosts: for each of them a network namespace to stand in and its interface there; none: this machine's own network.

    Raises:
        StriateError: a process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "trials.json").write_text(json.dumps([asdict(trial) for trial in trials]))
        processes = []
        for rank in range(count):
            command = [sys.executable, "-m", "striate.cluster.trial", folder, str(rank), str(count)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            if hosts:
                namespace, interface = hosts[rank]
                command = ["ip", "netns", "exec", namespace, *command]
                environment["GLOO_SOCKET_IFNAME"] = interface
            processes.append(subprocess.Popen(command, env=environment))
        codes = [process.wait() for process in processes]
        if any(codes):
            raise StriateError(f"a process of {count} failed")
        told = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(count)]
    by_rank = [[_restored(found) for found in one] for one in told]
    return [list(results) for results in zip(*by_rank)]


def _restored(found: dict[str, Any]) -> Tried:
    machine = found.pop("machine")
    return Tried(**found, machine=None if machine is None else Machine(**machine))


def _run(folder: Path, rank: int, count: int) -> None:
    torch.set_num_threads(1)
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    trials = [Trial(**told) for told in json.loads((folder / "trials.json").read_text())]
    (folder / f"{rank}.json").write_text(json.dumps([asdict(_tried(trial, rank, count)) for trial in trials]))
    if count > 1:
        dist.barrier()
        dist.destroy_process_group()


def _tried(trial: Trial, rank: int, count: int) -> Tried:
    dtype, wire, machine = _DTYPES[trial.dtype], Wire(rank, count), None
    rbm, data = _random(trial)
    settings, mode, parts = CDSettings(weight_decay=1e-4, data_states=True, final_states=True), trial.mode, 1
    learner: ContrastiveLearner | ShardedLearner
    if mode == "plain":
        learner = ContrastiveLearner(rbm, settings, constant(1e-3, 0.9), dtype=dtype)
    else:
        layout = Layout("hidden")
        if count > 1:
            wire.collective_up_to = choose_transport(wire, torch.device("cpu"))
        machine = measure(wire, trial.problem, dtype, torch.device("cpu"))
        if count > 1:
            layout, _ = choose(trial.problem, count, machine, None if mode == "auto" else mode)
        mode, parts = layout.mode, layout.parts
        layout = Layout(layout.mode, layout.parts, trial.sync_images)
        learner = ShardedLearner(rbm, settings, constant(1e-3, 0.9), wire, layout, dtype=dtype)
    del rbm
    if mode == "data":
        data = data[rank * len(data) // count : (rank + 1) * len(data) // count]
    if trial.warm:
        learner.step(data)
    wire.received, wire.profile.seconds = 0, dict.fromkeys(wire.profile.seconds, 0.0)
    seconds, drift = [], None
    _together(count)
    before = _interface()
    for _ in range(trial.steps):
        begun = time.perf_counter()
        metrics = learner.step(data)
        _together(count)
        seconds.append(time.perf_counter() - begun)
        drift = float(metrics["weight_drift"]) if "weight_drift" in metrics else drift
    profile = {name: value / trial.steps for name, value in wire.profile.seconds.items()}
    crossed = (_interface() - before) / trial.steps
    return Tried(seconds, mode, parts, wire.received / trial.steps, crossed, drift, profile, machine)


def _random(trial: Trial) -> tuple[RBM, Tensor]:
    random = torch.Generator().manual_seed(0)
    weights = torch.randn(trial.hidden, trial.visible, generator=random).mul_(0.01)
    units = Gaussian(torch.ones(())) if trial.gaussian else Bernoulli()
    data = (torch.rand(trial.batch, trial.visible, generator=random) < 0.5).float()
    return RBM(weights, torch.zeros(trial.visible), torch.zeros(trial.hidden), units), data


def _together(count: int) -> None:
    if count > 1:
        dist.barrier()


def _interface() -> float:
    """Bytes that this machine's loopback has received so far; not a number where the system does not tell."""
    file = Path("/proc/net/dev")
    for line in file.read_text().splitlines() if file.exists() else []:
        name, _, counters = line.partition(":")
        if name.strip() == os.environ.get("GLOO_SOCKET_IFNAME", "lo"):
            return float(counters.split()[0])
    return float("nan")


if __name__ == "__main__":
    _run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
