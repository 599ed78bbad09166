"""Claim: a training step of AlexNet (paper's net, two columns) outruns the same net built of torch's own layers.

Ours: bf16, channels-last, fused normalisation and update. Peer: torch.nn layers with autocast to bf16, channels-last, torch's
LocalResponseNorm and torch.optim.SGD, in a process of its own (what we tell the C library of memory would help it too). On a
GPU, rates at batches of 1,024 and 128 on synthetic crops, beside the floor that its floating-point operations set. Interleaved
in one process; medians.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn

from striate.compute import choose_device, keep_memory, synchronise
from striate.draws import Draws
from striate.models.convnet import ConvNet
from striate.models.convnet.named import named_net
from striate.models.convnet.shapes import training_flop
from striate.train.convnet import ConvnetLearner, ConvnetSettings
from striate.train.pictures import Crops
from striate.train.updates import Rates
from timing import interleaved, row


def synthetic(size: int, edge: int, device: torch.device, classes: int = 1000) -> Crops:
    pixels = torch.randint(0, 256, (size, 3, edge, edge), dtype=torch.uint8, device=device)
    return Crops(pixels, torch.zeros(size, 3, device=device), torch.randint(0, classes, (size,), device=device))


def learner_of(name: str, device: torch.device, classes: int = 1000, switches=None, compile: str = "none", **settings):
    spec = named_net(name, classes, switches)
    net = ConvNet(spec, Draws(0)).to(device)
    mean = torch.full(spec.input, 120.0)
    settings = ConvnetSettings(1000, compile=compile, **settings)
    return ConvnetLearner(net, mean, settings, lambda step: Rates(1e-4, 0.9), dtype=torch.bfloat16)


class _Norm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        parts = [nn.functional.local_response_norm(part.float(), 5, 5e-4, 0.75, 2.0) for part in x.chunk(2, dim=1)]
        return torch.cat(parts, dim=1)


def torchs(device: torch.device):
    """The paper's net as torch users write it."""
    net = nn.Sequential(
        nn.ZeroPad2d((0, 3, 0, 3)), nn.Conv2d(3, 96, 11, 4), nn.ReLU(True), _Norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, 1, 2, groups=2), nn.ReLU(True), _Norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, 1, 1), nn.ReLU(True), nn.Conv2d(384, 384, 3, 1, 1, groups=2), nn.ReLU(True),
        nn.Conv2d(384, 256, 3, 1, 1, groups=2), nn.ReLU(True), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Linear(9216, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout(),
        nn.Linear(4096, 1000),
    ).to(device, memory_format=torch.channels_last)  # fmt: skip
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)

    def step(batch: Crops) -> None:
        x = (batch.pixels.float() - 120).contiguous(memory_format=torch.channels_last)
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            output = net(x)
        nn.functional.cross_entropy(output.float(), batch.labels).backward()
        optimiser.step()

    return step


def _serve(calls: Connection, size: int) -> None:
    device = torch.device("cpu")
    step, batch = torchs(device), synthetic(size, 224, device)
    while calls.recv():
        step(batch)
        calls.send(True)


@contextmanager
def elsewhere(size: int) -> Iterator[Callable[[], None]]:
    """The peer's step in a process of its own, which waits while others compute."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, size), daemon=True)
    process.start()

    def step() -> None:
        here.send(True)
        here.recv()

    try:
        yield step
    finally:
        here.send(False)
        process.join()


def rows(quick: bool = False) -> list[dict[str, object]]:
    device = choose_device()
    if device.type == "cuda":
        return _on_gpu(device, quick)
    with elsewhere(8 if quick else 64) as theirs:
        keep_memory()
        return _on_cpu(device, theirs, quick)


def _on_cpu(device: torch.device, theirs: Callable[[], None], quick: bool) -> list[dict[str, object]]:
    size = 8 if quick else 64
    batch = synthetic(size, 224, device)
    ours = learner_of("paper", device, compile="norms")
    bare = learner_of("paper", device, switches={"order": "none"})
    calls = {
        "ours": lambda: ours.step(batch),
        "torch": theirs,
        "without normalisation": lambda: bare.step(batch),
    }
    seconds = interleaved(calls, 3 if quick else 5, warm_up=2)
    rates = {f"{name} images/s": size / value for name, value in seconds.items()}
    label = f"batch {size}, bf16, 2 threads"
    return [
        row(f"AlexNet training step, {label}", size / seconds["ours"], "images/s", "(none set)", rates),
        row(f"ours / torch's own layers, {label}", seconds["torch"] / seconds["ours"], "times", ">= 2.5", rates),
        row(
            f"ours / ours without normalisation, {label}",
            seconds["without normalisation"] / seconds["ours"],
            "ratio",
            ">= 0.9",
            rates,
        ),
    ]


def _on_gpu(device: torch.device, quick: bool) -> list[dict[str, object]]:
    found = []
    flop = training_flop(named_net("paper", 1000))
    for size, bar in ((1024, ">= 40000"), (128, ">= 25000")):
        batch = synthetic(size, 224, device)
        learners = {
            "eager, norms compiled": learner_of("paper", device, compile="norms"),
            "compiled": learner_of("paper", device, compile="net"),
            "graphs": learner_of("paper", device, compile="graphs"),
            "without normalisation": learner_of("paper", device, switches={"order": "none"}, compile="graphs"),
        }
        peer = torchs(device)

        def timed(step, batch=batch) -> None:
            for _ in range(10):
                step(batch)
            synchronise(device)

        calls = {name: (lambda learner=learner: timed(learner.step)) for name, learner in learners.items()}
        seconds = interleaved({**calls, "torch": lambda peer=peer: timed(peer)}, 3 if quick else 7, warm_up=2)
        rates = {f"{name} images/s": 10 * size / value for name, value in seconds.items()}
        best = max(rates[f"{name} images/s"] for name in ("eager, norms compiled", "compiled", "graphs"))
        found.append(row(f"AlexNet training on synthetic crops, batch {size}", best, "images/s", bar, rates))
        found.append(row(f"operations a second, batch {size}", best * flop / 1e12, "TFLOP/s", "(peak about 790)", rates))
        bare = rates["without normalisation images/s"]
        found.append(row(f"ours / without normalisation, batch {size}", best / bare, "ratio", ">= 0.9", rates))
    return found
