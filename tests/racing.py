"""A small sparse autoencoder on smooth shapes, for replicas in processes of their own and on imagined machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from striate.cluster.asynchronous.actors import Workbench
from striate.draws import Draws
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.train.sparse import SparseLearner, SparseSettings
from striate.train.updates import Rates


def learner() -> SparseLearner:
    """Untied filters on 12x12 pictures."""
    net = SparseNet(NetSpec((1, 12, 12), (StageSpec(6, 2, 4, pool=2, norm=0),))).start(Draws(0))
    return SparseLearner(net, SparseSettings(), lambda step: Rates(0.04, 0.0))


def batch(slot: int) -> Tensor:
    """Eight pictures, (8, 144)."""
    draws = Draws(5, slot)
    return draws.normal("amounts", (8, 4)) @ Draws(1).normal("shapes", (4, 144)) + 0.3 * draws.normal("noise", (8, 144))


def loss(made: Any) -> float:
    """On pictures that nobody learns from."""
    held = torch.cat([batch(10**6 + number) for number in range(16)])
    return float(made._gradients(held)[0]["loss"])


def bring(state: Mapping[str, Tensor], rows: None) -> Workbench:
    """In a replica's process."""
    made = learner()
    made.load_state(state)
    return Workbench(made, batch)
