"""Claim: a fine-tuning step of a 3072-10,000-10 net costs little more than its products, and less than torch's own.

Momentum, decay, training error on. Floor: the two products that matter (forward, weight gradient of the lowest layer;
nothing flows into the data) in the same format. Peer: the same net by torch autograd and torch.optim.SGD, in fp32 and under
bf16 autocast.
Interleaved in one process; medians.
"""

from __future__ import annotations

import torch
from torch import nn

from striate.draws import Draws
from striate.models.classifier import random_net
from striate.train.backprop import BackpropLearner, BackpropSettings
from striate.train.batches import Labelled
from striate.train.objectives import softmax_cross_entropy
from striate.train.updates import Rates
from timing import interleaved, row

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def ours(sizes: tuple[int, int, int], dtype: torch.dtype) -> BackpropLearner:
    net = random_net(sizes, Draws(0))
    return BackpropLearner(
        net.weights,
        net.biases,
        softmax_cross_entropy,
        BackpropSettings(weight_decay=1e-4),
        lambda step: Rates(1e-3, 0.9),
        input_scale=net.input_scale,
        dtype=dtype,
    )


def torchs(sizes: tuple[int, int, int], autocast: bool):
    net = nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.Sigmoid(), nn.Linear(sizes[1], sizes[2]))
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def step(batch: Labelled) -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = net(batch.rows)
        nn.functional.cross_entropy(output.float(), batch.labels).backward()
        optimiser.step()
        (output.argmax(dim=1) != batch.labels).float().mean()

    return step


def floor(sizes: tuple[int, int, int], batch: int, dtype: torch.dtype):
    weights = torch.randn(sizes[1], sizes[0]).to(dtype)
    rows_, delta = torch.randn(batch, sizes[0]).to(dtype), torch.randn(batch, sizes[1]).to(dtype)
    up, gradient = torch.empty(batch, sizes[1], dtype=dtype), torch.empty(sizes[1], sizes[0], dtype=dtype)

    def products() -> None:
        torch.mm(rows_, weights.t(), out=up)
        torch.mm(delta.t(), rows_, out=gradient)

    return products


def rows(quick: bool = False) -> list[dict[str, object]]:
    sizes = (768, 2048, 10) if quick else (3072, 10_000, 10)
    found = []
    for size in (128, 1000):
        batch = Labelled(torch.randn(size, sizes[0]), torch.randint(0, 10, (size,)))
        calls = {}
        for name, dtype in DTYPES.items():
            learner, step = ours(sizes, dtype), torchs(sizes, dtype == torch.bfloat16)
            calls[f"ours {name}"] = lambda learner=learner, batch=batch: learner.step(batch)
            calls[f"torch {name}"] = lambda step=step, batch=batch: step(batch)
            calls[f"floor {name}"] = floor(sizes, size, dtype)
        seconds = interleaved(calls, 5 if quick else 7)
        for name in DTYPES:
            step, products = seconds[f"ours {name}"], seconds[f"floor {name}"]
            peers = {"step_s": step, "floor_s": products, "torch_s": seconds[f"torch {name}"]}
            label = f"{' x '.join(map(str, sizes))}, {name}, minibatch {size}"
            found.append(row(f"fine-tuning step / its products, {label}", step / products, "ratio", "(none set)", peers))
            found.append(
                row(f"torch autograd and SGD / ours, {label}", seconds[f"torch {name}"] / step, "times", ">= 1.0", peers)
            )
    return found
