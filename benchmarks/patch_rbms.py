"""Claim: the paper's 26 patch RBMs train at least three times faster side by side than one after another.

192 visible x 300 hidden units each, minibatch 100.

Side by side: one step of `BatchedContrastiveLearner` on 26 minibatches. One after another: a step of each of 26
`ContrastiveLearner`s on the same minibatches, in the same format. Floor: the batched products alone. Interleaved; medians.
"""

from __future__ import annotations

import torch

from striate.draws import Draws
from striate.models.rbm import ManyRBMs, new_rbm
from striate.train import CDSettings, ContrastiveLearner
from striate.train.batched import BatchedContrastiveLearner
from striate.train.contrastive import constant
from timing import interleaved, row

MODELS, VISIBLE, HIDDEN = 26, 192, 300
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def floor(batch: int, dtype: torch.dtype):
    weights = torch.randn(MODELS, HIDDEN, VISIBLE).to(dtype)
    v, h = torch.randn(MODELS, batch, VISIBLE).to(dtype), torch.rand(MODELS, batch, HIDDEN).to(dtype)
    v2, h2 = torch.cat([v, v], dim=1), torch.cat([h, h], dim=1)

    def products() -> None:
        torch.bmm(v, weights.transpose(1, 2))
        torch.bmm(h, weights)
        torch.bmm(v, weights.transpose(1, 2))
        torch.bmm(h2.transpose(1, 2), v2)

    return products


def rows(quick: bool = False) -> list[dict[str, object]]:
    settings = CDSettings(weight_decay=1e-4, sparsity_target=0.03, sparsity_cost=10.0)
    rbms = [new_rbm(HIDDEN, torch.zeros(VISIBLE), sigma=0.5, hidden_bias=-2.0, draws=Draws(number)) for number in range(MODELS)]
    found = []
    for batch in (100,) if quick else (100, 1000):
        data = torch.randn(MODELS, batch, VISIBLE)
        calls = {}
        for name, dtype in DTYPES.items():
            together = BatchedContrastiveLearner(ManyRBMs.of(rbms), settings, constant(1e-3, 0.9), dtype=dtype)
            alone = [ContrastiveLearner(rbm, settings, constant(1e-3, 0.9), dtype=dtype) for rbm in rbms]

            def one_after_another(alone: list[ContrastiveLearner] = alone, data: torch.Tensor = data) -> None:
                for learner, rows_of_one in zip(alone, data, strict=True):
                    learner.step(rows_of_one)

            calls[f"{name} together"] = lambda together=together, data=data: together.step(data)
            calls[f"{name} one after another"] = one_after_another
            calls[f"{name} products"] = floor(batch, dtype)
        seconds = interleaved(calls, 5 if quick else 15, warm_up=2)
        for name in DTYPES:
            together = seconds[f"{name} together"]
            peers = {
                "together_ms": 1e3 * together,
                "one_after_another_ms": 1e3 * seconds[f"{name} one after another"],
                "products_ms": 1e3 * seconds[f"{name} products"],
            }
            title = f"{MODELS} patch RBMs {VISIBLE} x {HIDDEN}, {name}, minibatch {batch}: one after another / side by side"
            bar = ">= 3" if batch == 100 else "(none set)"
            found.append(row(title, seconds[f"{name} one after another"] / together, "times", bar, peers))
    return found
