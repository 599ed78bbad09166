"""Claim: a whole training step of the paper's network runs near what its operations and weight traffic allow.

On a GPU: the network of a billion connections at minibatch 100 and 256 in bf16, its images/s beside the floor computed from
operations and 22 bytes of traffic a weight, and its peak memory. On a processor: the 64x64 network of `le2012/network`,
its step beside the bare products it needs, operands ready.
"""

from __future__ import annotations

import torch

from striate.app.kinds.sparse import net_spec
from striate.app.recipe import SparseGroup, find_recipe, load_recipe
from striate.compute import choose_device, keep_memory, synchronise
from striate.draws import Draws
from striate.models.sparse import NetSpec, SparseNet
from striate.models.sparse.shapes import costs, sides
from striate.train.sparse import SparseLearner, SparseSettings
from striate.train.updates import Rates
from timing import interleaved, row

# An H200's: dense bf16 products and memory.
_FLOPS, _BYTES = 790e12, 4.3e12
_TRAFFIC = 22


def rows(quick: bool = False) -> list[dict[str, object]]:
    device = choose_device()
    if device.type == "cuda":
        return [found for batch in ((100,) if quick else (100, 256)) for found in _on_gpu(batch, device, 3 if quick else 10)]
    keep_memory()
    return [_on_cpu(dtype, 3 if quick else 9) for dtype in (torch.float32, torch.bfloat16)]


def _spec(size: str | None, shape: tuple[int, int, int]) -> NetSpec:
    group = load_recipe(find_recipe("le2012/network"), size=size).model
    assert isinstance(group, SparseGroup)
    return net_spec(group, shape)


def _learner(spec: NetSpec, dtype: torch.dtype, device: torch.device) -> SparseLearner:
    net = SparseNet(spec).start(Draws(0)).to(device)
    return SparseLearner(net, SparseSettings(), lambda step: Rates(1e-2, 0.9), dtype=dtype)


def _on_cpu(dtype: torch.dtype, rounds: int) -> dict[str, object]:
    spec, batch = _spec(None, (1, 64, 64)), 64
    learner = _learner(spec, dtype, torch.device("cpu"))
    pictures = Draws(0).normal("pictures", (batch, 64 * 64))
    ready = []
    for number, one in enumerate(sides(spec)):
        places = one.filtered[1] * one.filtered[2]
        left = Draws(number).normal("left", (places, one.stage.maps, one.fan_in)).to(dtype)
        right = Draws(number).normal("right", (places, one.fan_in, batch)).to(dtype)
        ready += [(left, right)] * (6 if number else 5)
    calls = {
        "step": lambda: learner.step(pictures),
        "bare products": lambda: [torch.bmm(left, right) for left, right in ready],
    }
    seconds = interleaved(calls, rounds, warm_up=2)
    name = "bf16" if dtype == torch.bfloat16 else "fp32"
    rates = {what: batch / value for what, value in seconds.items()}
    said = f"whole step / bare products of one place at a time, 64x64 grey, three stages, minibatch {batch}, {name}"
    return row(said, seconds["step"] / seconds["bare products"], "times", "(none set)", rates)


def _on_gpu(batch: int, device: torch.device, rounds: int) -> list[dict[str, object]]:
    spec = _spec("paper", (3, 200, 200))
    taken = costs(spec, batch, operand_bytes=2)
    torch.cuda.reset_peak_memory_stats(device)
    learner = _learner(spec, torch.bfloat16, device)
    pictures = torch.rand(batch, 3 * 200 * 200, device=device)

    def step() -> None:
        learner.step(pictures)
        synchronise(device)

    seconds = interleaved({"step": step}, rounds, warm_up=2)["step"]
    floor = max(taken.flops * batch / _FLOPS, _TRAFFIC * taken.parameters / _BYTES)
    rates = {"ours": batch / seconds, "floor": batch / floor, "hours for 10 million": 1e7 * seconds / batch / 3600}
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    label = f"{taken.encoder:,} encoder weights, 200x200, minibatch {batch}, bf16"
    return [
        row(f"images/s / the floor of operations and weight traffic, {label}", floor / seconds, "ratio", ">= 0.4", rates),
        row(f"peak memory, {label}", peak, "GiB", "< 45", {"predicted": taken.parameter_bytes / 2**30}),
    ]
