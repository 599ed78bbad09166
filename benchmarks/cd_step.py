"""Claim: a whole CD-1 step (momentum, decay, reconstruction error) costs little more than its five bare matrix products.

Gaussian RBM, 3072 visible x 10,000 hidden units. Floor: the same products (two up, one down, one for both phases' statistics)
in the same format into arrays that are there already. All interleaved in one process; medians.
"""

from __future__ import annotations

import torch

from striate.draws import Draws
from striate.models.rbm import new_rbm
from striate.train import CDSettings, ContrastiveLearner
from striate.train.contrastive import constant
from timing import interleaved, row

BARS = {("fp32", 128): "<= 1.15", ("bf16", 128): "<= 1.7", ("bf16", 1000): "<= 1.25", ("fp32", 1000): "(none set)"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def learner(visible: int, hidden: int, dtype: torch.dtype) -> ContrastiveLearner:
    rbm = new_rbm(hidden, torch.zeros(visible), sigma=0.5, hidden_bias=-4.0, draws=Draws(0))
    return ContrastiveLearner(rbm, CDSettings(weight_decay=1e-4), constant(1e-3, 0.9), dtype=dtype)


def floor(visible: int, hidden: int, batch: int, dtype: torch.dtype):
    w = torch.randn(hidden, visible).to(dtype)
    v, h = torch.randn(batch, visible).to(dtype), torch.rand(batch, hidden).to(dtype)
    v2, h2 = torch.cat([v, v]), torch.cat([h, h])
    up, down = torch.empty(batch, hidden, dtype=dtype), torch.empty(batch, visible, dtype=dtype)
    statistics = torch.empty(hidden, visible, dtype=dtype)

    def products() -> None:
        torch.mm(v, w.t(), out=up)
        torch.mm(h, w, out=down)
        torch.mm(v, w.t(), out=up)
        torch.mm(h2.t(), v2, out=statistics)

    return products


def memory_floor(visible: int, hidden: int):
    """18 bytes a weight: velocity and weights read and written in fp32, the bf16 copy written; one thread a core, streamed."""
    weights, velocity = torch.zeros(hidden, visible), torch.zeros(hidden, visible)
    copy = torch.empty(hidden, visible, dtype=torch.bfloat16)

    def traffic() -> None:
        velocity.mul_(0.9)
        weights.add_(1.0)
        copy.copy_(weights)

    return traffic


def rows(quick: bool = False) -> list[dict[str, object]]:
    visible, hidden = (768, 2048) if quick else (3072, 10_000)
    rounds = 5 if quick else 7
    found = []
    for batch in (128, 1000):
        calls = {}
        for name, dtype in DTYPES.items():
            model, data = learner(visible, hidden, dtype), torch.randn(batch, visible)
            calls[f"step {name}"] = lambda model=model, data=data: model.step(data)
            calls[f"floor {name}"] = floor(visible, hidden, batch, dtype)
        calls["memory floor"] = memory_floor(visible, hidden)
        seconds = interleaved(calls, rounds)
        flops = 10 * batch * visible * hidden
        for name in DTYPES:
            step, products = seconds[f"step {name}"], seconds[f"floor {name}"]
            peers = {
                "floor_s": products,
                "step_s": step,
                "floor_gflop_s": flops / products / 1e9,
                "update_traffic_s": seconds["memory floor"],
                "step_over_products_plus_traffic": step / (products + seconds["memory floor"]),
            }
            title = f"CD-1 step / its products, {name}, minibatch {batch}, {visible} x {hidden}"
            found.append(row(title, step / products, "ratio", BARS[name, batch], peers))
        speedup = seconds["step fp32"] / seconds["step bf16"]
        title = f"bf16 against fp32 steps, minibatch {batch}"
        peers = {"products_fp32_over_bf16": seconds["floor fp32"] / seconds["floor bf16"]}
        found.append(row(title, speedup, "times", ">= 2.5", peers))
    return found


if __name__ == "__main__":
    import json

    print(json.dumps(rows(), indent=1))
