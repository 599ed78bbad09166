"""Log-likelihood of a run's RBM on pictures it has not seen: what ``striate probe --likelihood`` shows."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.app.load import TrainedModel, load_model
from striate.app.screen import Screen
from striate.draws import Draws
from striate.errors import BadInput
from striate.images import ImageStore
from striate.measure.likelihood import log_likelihood
from striate.models.rbm import Bernoulli
from striate.models.rbm.ais import salakhutdinov_murray
from striate.train.checkpoint import write_text

# Pictures for the base of the annealing: means of single pixels need no more.
_BASE = 5000


def likelihood_of_run(run: Path, train: ImageStore, test: ImageStore, screen: Screen, runs: int = 100) -> dict[str, Any]:
    """Mean log-likelihood in nats of a store's pictures under a run's (first) RBM, kept in the run as likelihood.json.

    Binary units see states drawn once from the levels; Gaussian ones the preprocessed pictures.

    Raises:
        BadInput: a stack, a net, or a model of patches.
    """
    model = load_model(run)
    if len(model.parts.rbms) != 1 or model.preprocessor.settings.patch is not None:
        raise BadInput(f"{run}: log-likelihood is measured of a single RBM of whole pictures")
    screen.say(f"annealing {runs} chains over {len(salakhutdinov_murray()):,} models, forward and back")
    rows = _rows(model, test[: len(test)], "test")
    base = _rows(model, train[np.linspace(0, len(train) - 1, min(_BASE, len(train))).astype(int)], "train")
    found = log_likelihood(model.rbm, rows, base, runs=runs, betas=salakhutdinov_murray())
    result = {"run": str(run), **asdict(found)}
    write_text(run / "likelihood.json", json.dumps(result))
    return result


def _rows(model: TrainedModel, pictures: np.ndarray, name: str) -> Tensor:
    rows = model.preprocessor.apply(pictures)
    if isinstance(model.rbm.units, Bernoulli):
        return (Draws(0, purpose="binarised/").uniform(name, rows.shape) < rows).to(torch.float32)
    return rows
