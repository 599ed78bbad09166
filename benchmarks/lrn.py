"""Claim: response normalisation across maps costs little of AlexNet's training step; torch's own costs half of it.

The step is a whole update (bf16 products, channels-last, momentum and decay) of the paper's net on synthetic crops: with our
normalisation compiled and in plain torch, with torch's `local_response_norm` in the same net, and without any. Interleaved in
one process; medians.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from convnet import learner_of, synthetic
from striate.compute import choose_device, keep_memory, synchronise
from striate.models.convnet import response
from striate.models.convnet.layers import Window
from timing import interleaved, row


def torchs(x: torch.Tensor, window: Window, compiled: bool = False) -> torch.Tensor:
    """The same normalisation by torch's own layer, column by column, as torch users write it."""
    x = torch.relu(x) if window.relu else x
    # torch divides alpha by the window and has no bf16 pooling in three dimensions on processors.
    parts = [
        F.local_response_norm(part.float(), window.size, window.scale * window.size, window.power, window.k)
        for part in x.chunk(window.groups, dim=1)
    ]
    return torch.cat(parts, dim=1).to(x.dtype)


def rows(quick: bool = False) -> list[dict[str, object]]:
    keep_memory()
    device = choose_device()
    size = (512 if device.type == "cuda" else 64) if not quick else 8
    batch = synthetic(size, 224, device)
    learners = {
        "ours, compiled": learner_of("paper", device, compile="norms"),
        "ours": learner_of("paper", device),
        "torch": learner_of("paper", device),
        "none": learner_of("paper", device, switches={"order": "none"}),
    }
    import striate.models.convnet.net as net

    ours = net.normalise
    calls = {}
    for name, learner in learners.items():

        def step(learner=learner, used=torchs if name == "torch" else ours) -> None:
            net.normalise = used
            try:
                learner.step(batch)
                synchronise(device)
            finally:
                net.normalise = ours

        calls[name] = step
    seconds = interleaved(calls, 3 if quick else 5, warm_up=2)
    rates = {name: size / value for name, value in seconds.items()}
    label = f"AlexNet step, batch {size}, bf16, {device.type}"
    found = [
        row(
            f"speed with normalisation / without, {label}",
            seconds["none"] / seconds["ours, compiled"],
            "ratio",
            ">= 0.9",
            rates,
        ),
        row(
            f"speed / with torch's normalisation, {label}", seconds["torch"] / seconds["ours, compiled"], "times", ">= 2", rates
        ),
    ]
    return [*found, *_alone(device, quick)]


def _alone(device: torch.device, quick: bool) -> list[dict[str, object]]:
    """The layer by itself, forward and backward, beside a ReLU's passes over the same array."""
    count = 8 if quick else 64
    x = torch.randn(count, 96, 55, 55, device=device).mul_(30).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    above = torch.randn_like(x)
    x.requires_grad_(True)
    window = Window("maps", 5, 2e-5, groups=2)

    def both(function) -> None:
        torch.autograd.grad(function(x), x, above)
        synchronise(device)

    calls = {
        "compiled": lambda: both(lambda y: response.normalise(y, window, compiled=True)),
        "plain": lambda: both(lambda y: response.normalise(y, window)),
        "torch": lambda: both(lambda y: torchs(y, window)),
        "relu": lambda: both(torch.relu),
    }
    seconds = interleaved(calls, 3 if quick else 7, warm_up=2)
    label = f"{count} x 96 x 55 x 55, bf16, forward and backward, {device.type}"
    return [
        row(
            f"normalisation / a ReLU over the same maps, {label}",
            seconds["compiled"] / seconds["relu"],
            "ratio",
            "(none set)",
            seconds,
        )
    ]
