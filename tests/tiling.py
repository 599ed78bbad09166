"""Small networks of stages, trained by one process or by several that share their places."""

from __future__ import annotations

from typing import Any

import torch

from striate.cluster.neighbours import meet
from striate.cluster.tiled import TiledLearner, TiledNet, bytes_a_step
from striate.cluster.tiles import Grid
from striate.cluster.wire import Near, Wire
from striate.draws import Draws
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.train.contrastive import constant
from striate.train.sparse import SparseLearner, SparseSettings

DTYPES = {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16}
NETS = {
    # Fields wider than tiles, odd edges, windows cropped.
    "valid": NetSpec((2, 23, 21), (StageSpec(6, 1, 3, pool=3, norm=3), StageSpec(5, 1, 4, pool=2, norm=3))),
    # Padding, strides, windows cut off at borders, pools of maps; a top of 3 x 3 places.
    "padded": NetSpec(
        (1, 24, 24),
        (
            StageSpec(5, 1, 4, pad=4, pool=2, pool_stride=2, norm=3, norm_edges="keep"),
            StageSpec(4, 2, 9, pad=2, pool=3, pool_pad=2, pool_maps=3, norm=5, norm_edges="keep"),
            StageSpec(4, 1, 4, pool=1, norm=0),
        ),
        input_norm=3,
    ),
    # Of four rows of processes the first owns filters of the second stage, and none of its pools.
    "small": NetSpec(
        (1, 12, 13),
        (StageSpec(4, 1, 3, pool=3, norm=0), StageSpec(3, 1, 2, pool=3, norm=0), StageSpec(2, 1, 2, pad=2, pool=1, norm=0)),
    ),
    "tied": NetSpec((2, 20, 17), (StageSpec(5, 1, 3, pool=2, norm=3, sharing="tied"), StageSpec(3, 1, 4, pool=2, norm=0))),
    "tiled": NetSpec(
        (1, 19, 19), (StageSpec(4, 1, 3, pool=2, norm=3, sharing="tiled", tile=3), StageSpec(3, 1, 2, pool=2, norm=0))
    ),
}
BATCH = 6


def pictures(spec: NetSpec, step: int, batch: int = BATCH) -> torch.Tensor:
    channels, height, width = spec.input
    return Draws(3, step).normal("pictures", (batch, channels * height * width))


def settings(case: dict[str, Any]) -> SparseSettings:
    return SparseSettings(**{"sparsity": (0.1,), "total_steps": case.get("steps", 4), **case.get("settings", {})})


def alone(case: dict[str, Any]) -> dict[str, Any]:
    """The plain learner."""
    spec, dtype = NETS[case["net"]], DTYPES[case.get("dtype", "fp64")]
    net = SparseNet(spec, case.get("tied_decoder", False))
    _start(net, case)
    for stage in net.stages:
        stage.encoder = stage.encoder.to(torch.promote_types(dtype, torch.float32))
        stage.decoder = None if stage.decoder is None else stage.decoder.to(stage.encoder.dtype)
    learner = SparseLearner(net, settings(case), constant(case.get("rate", 0.05), 0.9), dtype=dtype)
    start = {name: tensor.clone() for name, tensor in learner.state().items()}
    metrics = [_plain(learner.step(pictures(spec, step))) for step in range(case.get("steps", 4))]
    return {"start": start, "state": learner.state(), "metrics": metrics, "diagnose": learner.diagnose()}


def trained(rank: int, count: int, case: dict[str, Any], grid: tuple[int, int], near: Near | None) -> dict[str, Any]:
    """The shared one; what it leaves on this process."""
    spec, dtype = NETS[case["net"]], DTYPES[case.get("dtype", "fp64")]
    wire = Wire(rank, count, near=None if case.get("far") else near)
    exact = torch.promote_types(dtype, torch.float32)
    net = TiledNet(spec, Grid(*grid), wire, case.get("tied_decoder", False), dtype=exact)
    if "state" in case:
        net.load(case["state"])
    else:
        _start(net, case)
    learner = TiledLearner(net, settings(case), constant(case.get("rate", 0.05), 0.9), dtype=dtype)
    if "state" in case:
        learner.load_state(case["state"])
    start = {name: tensor.clone() for name, tensor in learner.state().items()}
    metrics, first, predicted = [], learner.step_number, 0
    wire.received = 0
    for step in range(first, first + case.get("steps", 4)):
        predicted += bytes_a_step(net, BATCH, dtype.itemsize, learner.settings.together, learner.level)
        metrics.append(_plain(learner.step(pictures(spec, step))))
    received = wire.received
    return {
        "start": start, "state": learner.state(), "metrics": metrics, "diagnose": learner.diagnose(), "received": received,
        "predicted": predicted, "pieces": [len(stage.pieces) for stage in net.stages],
    }  # fmt: skip


def cases(rank: int, count: int, wanted: list[tuple[dict[str, Any], tuple[int, int]]]) -> list[dict[str, Any]]:
    """Several of them in one job."""
    near = meet(rank, count)
    return [trained(rank, count, case, grid, near) for case, grid in wanted]


def _start(net: SparseNet | TiledNet, case: dict[str, Any]) -> None:
    draws = Draws(7, purpose="start/")
    if case.get("start") == "pictures":
        net.start_from(pictures(net.spec, 99, 10), draws)
    else:
        net.start(draws)


def _plain(metrics: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}
