"""Claim: exact streamed whitening statistics take little longer than the bare float32 product X'X of the same data."""

from __future__ import annotations

import numpy as np
import torch

from striate.preprocess import Moments
from timing import interleaved, row


def rows(quick: bool = False) -> list[dict[str, object]]:
    dim, count = (768, 4096) if quick else (3072, 16_384)
    levels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, dim), dtype=np.uint8))
    floats = levels.float()
    out = torch.empty(dim, dim)

    def ours() -> None:
        Moments(dim).update(levels)

    calls = {
        "ours": ours,
        "float32 product": lambda: torch.mm(floats.t(), floats, out=out),
        "float64 product": lambda: (lambda d: d.t() @ d)(floats.double()),
        "numpy cov": lambda: np.cov(levels.numpy(), rowvar=False),
    }
    seconds = interleaved(calls, 3 if quick else 5)
    peers = {f"{name}_s": value for name, value in seconds.items()}
    title = f"whitening statistics, {dim} dimensions, {count} pictures: rate / rate of the float32 product"
    return [
        row(title, seconds["float32 product"] / seconds["ours"], "share", ">= 0.70", peers),
        row("the same against numpy.cov", seconds["numpy cov"] / seconds["ours"], "times", "(none set)"),
    ]


if __name__ == "__main__":
    import json

    print(json.dumps(rows(), indent=1))
