"""Jobs of several processes on this machine, forked from one with everything loaded: milliseconds to start, not seconds."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from striate.cluster.layout import Layout
from striate.cluster.sharded import ShardedLearner
from striate.cluster.wire import Wire
from striate.draws import Draws
from striate.models.rbm import RBM, new_rbm
from striate.train import CDSettings
from striate.train.contrastive import constant
from training import clean_server

# Sizes that no number of processes divides; a batch that many do.
VISIBLE, HIDDEN, BATCH = 37, 29, 24
DTYPES = {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16}


def model(kind: str, visible: int = VISIBLE, hidden: int = HIDDEN) -> RBM:
    return new_rbm(hidden, torch.zeros(visible), visible=kind, sigma=0.7, weight_std=0.3, hidden_bias=-0.5, draws=Draws(5))


def data(kind: str, step: int, batch: int = BATCH, visible: int = VISIBLE) -> torch.Tensor:
    """Ones and zeros, or numbers about zero; another batch at every step."""
    uniform = Draws(9, step).uniform("data", (batch, visible))
    return (uniform < 0.4).float() if kind == "bernoulli" else 2 * uniform - 1


def learner(wire: Wire, case: dict[str, Any]) -> ShardedLearner:
    """`case`: kind, settings, mode, parts, sync_images, dtype, and sizes."""
    return ShardedLearner(
        model(case["kind"], case.get("visible", VISIBLE), case.get("hidden", HIDDEN)),
        CDSettings(**case.get("settings", {})),
        constant(0.05, 0.9),
        wire,
        Layout(case.get("mode", "hidden"), case.get("parts", 1), case.get("sync_images", 0)),
        seed=1,
        dtype=DTYPES[case.get("dtype", "fp64")],
    )


def trained(wire: Wire, case: dict[str, Any]) -> dict[str, Any]:
    """Some steps of a case on this process; what is kept is the first process's, metrics and counts are this one's."""
    made = learner(wire, case)
    if "state" in case:
        made.load_state(case["state"])
    batch, visible = case.get("batch", BATCH), case.get("visible", VISIBLE)
    metrics, first = [], made.step_number
    for step in range(first, first + case.get("steps", 20)):
        rows = data(case["kind"], step, batch, visible)
        if case.get("mode") == "data":
            rows = rows[wire.rank * batch // wire.count : (wire.rank + 1) * batch // wire.count]
        metrics.append({name: float(value) for name, value in made.step(rows).items()})
    received = wire.received
    state = {name: tensor.clone() for name, tensor in made.state().items()}
    wire.received = 0
    return {"state": state, "metrics": metrics, "received": received, "diagnose": made.diagnose()}


def alone(case: dict[str, Any]) -> dict[str, Any]:
    """The same in this process."""
    return trained(Wire(), case)


def together(count: int, cases: Sequence[dict[str, Any]], collective_up_to: int = 0) -> list[list[dict[str, Any]]]:
    """Every case in ``count`` processes; results by case and rank."""
    found = run(count, _train, list(cases), collective_up_to)
    return [[results[number] for results in found] for number in range(len(cases))]


def _train(rank: int, count: int, cases: list[dict[str, Any]], collective_up_to: int) -> list[dict[str, Any]]:
    wire = Wire(rank, count, collective_up_to=collective_up_to)
    return [trained(wire, case) for case in cases]


def run(count: int, what: Callable[..., Any], *arguments: Any, limit_s: float = 120) -> list[Any]:
    """Call ``what(rank, count, *arguments)`` in every process of a gloo group; what each gives, by rank."""
    with tempfile.TemporaryDirectory() as folder:
        context = clean_server()
        processes = [context.Process(target=_enter, args=(rank, count, Path(folder), what, arguments)) for rank in range(count)]
        for process in processes:
            process.start()
        _join(processes, limit_s)
        assert [process.exitcode for process in processes] == [0] * count
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _join(processes: Sequence[BaseProcess], limit_s: float) -> None:
    until = time.monotonic() + limit_s
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()


def _enter(rank: int, count: int, folder: Path, what: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=count)
    torch.save(what(rank, count, *arguments), folder / f"{rank}.pt")
    if count > 1:
        dist.barrier()
        dist.destroy_process_group()


def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def rank_environment(rank: int, count: int, port: int, **more: str) -> dict[str, str]:
    """What torchrun tells a process."""
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count}
    return {**os.environ, **{name: str(value) for name, value in told.items()}, "OMP_NUM_THREADS": "1", **more}
