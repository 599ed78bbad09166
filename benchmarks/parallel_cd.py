"""Claim: contrastive divergence by K processes exchanges what chapter 4 says it does, and is nearly K times as fast.

8,000 visible x 20,000 hidden units, random data, as in the paper's tests; a thread a process; gloo on this machine's loopback.
All in one sitting: one process of the plain learner, one of the shared code, two in every mode. Bytes are counted at the
collectives and, beside them, at the interface. Predictions are the cost model's, from rates measured by the same processes.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from striate.cluster.bits import pack, unpack
from striate.cluster.costs import Machine, Problem, cost, received_bytes
from striate.cluster.layout import MODES, Layout, Mode
from striate.cluster.measuring import choose, choose_transport, measure
from striate.cluster.sharded import ShardedLearner
from striate.cluster.wire import Wire
from striate.models.rbm import RBM, Bernoulli, Gaussian
from striate.train import CDSettings, ContrastiveLearner
from striate.train.contrastive import constant
from timing import row

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Table 4.1: megabytes to all processes for 8,000 examples, weight synchronisation apart.
TABLE = {
    ("binary", 2): 48,
    ("binary", 4): 144,
    ("binary", 8): 336,
    ("gaussian", 2): 296,
    ("gaussian", 4): 888,
    ("gaussian", 8): 2072,
}
EXAMPLES = 8000


def work(rank: int, count: int, folder: str, jobs: list[dict[str, Any]]) -> None:
    """One process: some steps of every job; its numbers go to a file."""
    torch.set_num_threads(1)
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    found = [_steps(rank, count, job) for job in jobs]
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    if count > 1:
        dist.barrier()
        dist.destroy_process_group()


def _steps(rank: int, count: int, job: dict[str, Any]) -> dict[str, Any]:
    dtype, batch = DTYPES[job["dtype"]], job["batch"]
    problem = Problem(job["visible"], job["hidden"], batch, binary=job["kind"] == "binary", itemsize=dtype.itemsize)
    wire = Wire(rank, count)
    random = torch.Generator().manual_seed(0)
    weights = torch.randn(job["hidden"], job["visible"], generator=random).mul_(0.01)
    units = Bernoulli() if job["kind"] == "binary" else Gaussian(torch.ones(()))
    rbm = RBM(weights, torch.zeros(job["visible"]), torch.zeros(job["hidden"]), units)
    data = (torch.rand(batch, job["visible"], generator=random) < 0.5).float()
    settings = CDSettings(weight_decay=1e-4, data_states=True, final_states=True)
    machine: Machine | None = None
    mode, parts = job["mode"], 1
    if mode == "plain":
        learner: Any = ContrastiveLearner(rbm, settings, constant(1e-3, 0.9), dtype=dtype)
    else:
        if count > 1:
            wire.collective_up_to = choose_transport(wire, torch.device("cpu"))
        machine = measure(wire, problem, dtype, torch.device("cpu"))
        layout, _ = choose(problem, count, machine, None if mode == "auto" else mode)
        mode, parts = layout.mode, layout.parts if count > 1 else 1
        learner = ShardedLearner(rbm, settings, constant(1e-3, 0.9), wire, Layout(mode, parts, job.get("sync", 0)), dtype=dtype)
    del rbm, weights
    if mode == "data":
        data = data[rank * batch // count : (rank + 1) * batch // count]
    if job.get("warm", True):
        learner.step(data)
    wire.received, seconds, drift = 0, [], None
    wire.profile.seconds = dict.fromkeys(wire.profile.seconds, 0.0)
    _barrier(count)
    before = _interface()
    for _ in range(job["steps"]):
        begun = time.perf_counter()
        metrics = learner.step(data)
        _barrier(count)
        seconds.append(time.perf_counter() - begun)
        drift = float(metrics["weight_drift"]) if "weight_drift" in metrics else drift
    return {
        "seconds": seconds,
        "mode": mode,
        "parts": parts,
        "received": wire.received / job["steps"],
        "interface": (_interface() - before) / job["steps"],
        "drift": drift,
        "profile": wire.profile.seconds,
        "machine": asdict(machine) if machine else None,
    }


def _barrier(count: int) -> None:
    if count > 1:
        dist.barrier()


def _interface() -> float:
    """Bytes that this machine's loopback has received so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return float(counters.split()[0])
    return float("nan")


def together(count: int, jobs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Results of every job, by rank."""
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=work, args=(rank, count, folder, jobs)) for rank in range(count)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            if process.exitcode:
                raise RuntimeError(f"a process of {count} ended with {process.exitcode}")
        told = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(count)]
    return [[results[number] for results in told] for number in range(len(jobs))]


def rows(quick: bool = False) -> list[dict[str, object]]:
    visible, hidden = (1000, 2500) if quick else (8000, 20_000)
    base = {"visible": visible, "hidden": hidden, "dtype": "fp32", "kind": "binary"}
    found = _packing()
    for dtype, batch, steps in (("fp32", 1000, 2), ("fp32", 100, 5), ("bf16", 1000, 2), ("bf16", 100, 5))[: 1 if quick else 4]:
        found += _speed({**base, "batch": batch, "dtype": dtype}, steps, MODES)
    if not quick:
        found += _speed({**base, "batch": 1000, "kind": "gaussian"}, 2, ("both",))
    found += _traffic(base, (2,) if quick else (2, 4, 8))
    found += _drift({**base, "kind": "gaussian", "batch": 1000})
    return found


def _speed(base: dict[str, Any], steps: int, modes: Sequence[Mode]) -> list[dict[str, object]]:
    title = f"{base['kind']}, {base['dtype']}, minibatch {base['batch']}, {base['visible']} x {base['hidden']}"
    jobs = [{**base, "mode": mode, "steps": steps} for mode in ("plain", "hidden")]
    (plain,), (one,) = together(1, jobs)
    auto, *others = together(2, [{**base, "mode": mode, "steps": steps} for mode in ("auto", *modes)])
    told = {mode: results[0] for mode, results in zip(modes, others)}
    chosen = auto[0]
    seconds = {mode: statistics.median(result["seconds"]) for mode, result in told.items()}
    alone, single, fastest = (statistics.median(result["seconds"]) for result in (plain, one, chosen))
    best = min(alone, single)
    itemsize = DTYPES[base["dtype"]].itemsize
    problem = Problem(base["visible"], base["hidden"], base["batch"], base["kind"] == "binary", itemsize=itemsize)
    predicted = {
        mode: cost(problem, mode, 2, Machine(**result["machine"]), result["parts"]).step_s / seconds[mode]
        for mode, result in told.items()
    }
    profile = {f"{name}_s": value / steps for name, value in chosen["profile"].items()}
    bars = {("binary", 1000): ">= 1.8", ("binary", 100): ">= 1.6"}
    return [
        row(
            f"speed-up of 2 processes, auto ({chosen['mode']}), {title}",
            best / fastest,
            "ratio",
            bars.get((base["kind"], base["batch"]), "(none set)"),
            {"step_s": fastest, "plain_s": alone, "one_s": single, **profile},
        ),
        row(
            f"speed-up of 2 processes, the algorithm of 4.2, {title}",
            best / seconds["both"],
            "ratio",
            ">= 1.35",
            {mode: best / value for mode, value in seconds.items() if mode != "both"},
        ),
        row(f"one process of the shared code / the plain learner, {title}", single / alone, "ratio", "<= 1.05"),
        row(f"model of costs / measured, 2 processes, both, {title}", predicted["both"], "ratio", "(none set)", predicted),
    ]


def _traffic(base: dict[str, Any], counts: tuple[int, ...]) -> list[dict[str, object]]:
    found = []
    for kind in ("binary", "gaussian"):
        for count in counts:
            batch = 1000
            job = {**base, "kind": kind, "mode": "both", "batch": batch, "steps": 1, "warm": False}
            ((*results,),) = together(count, [job])
            scale = EXAMPLES / batch / 1e6
            counted = sum(result["received"] for result in results) * scale
            said = received_bytes(Problem(base["visible"], base["hidden"], batch, kind == "binary"), "both", count) * scale
            peers = {"interface_mb": results[0]["interface"] * scale, "formula_mb": said}
            if (base["visible"], base["hidden"]) == (8000, 20_000):
                peers["paper_mb"] = TABLE[kind, count]
            found.append(
                row(
                    f"received by {count} processes per 8,000 examples, {kind}, algorithm of 4.2",
                    counted,
                    "MB",
                    "the paper's, within 2%",
                    peers,
                )
            )
    return found


def _drift(base: dict[str, Any]) -> list[dict[str, object]]:
    job = {**base, "mode": "both", "steps": EXAMPLES // base["batch"], "sync": EXAMPLES, "warm": False}
    ((result, _),) = together(2, [job])
    return [
        row(
            "weight drift after 8,000 images, fp32, gaussian, beside the weights' size",
            result["drift"],
            "ratio",
            "<= 1e-06",
            {"paper": 1e-9},
        )
    ]


def _packing() -> list[dict[str, object]]:
    truth = torch.rand(1000, 4000) < 0.5
    wide, bits = torch.empty(1000, 8000), pack(truth)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    calls = {"pack": lambda: pack(truth), "unpack": lambda: unpack(bits, wide[:, :4000])}
    found = []
    for name, call in calls.items():
        seconds = []
        for _ in range(21):
            begun = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begun)
        rate = truth.numel() * 4 / statistics.median(seconds) / 1e9
        found.append(row(f"{name} bits, one core, of their float32 form", rate, "GB/s", ">= 2"))
    torch.set_num_threads(threads)
    return found
