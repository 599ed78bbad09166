"""Training raises the exact log-likelihood of small models, and the better sampler raises it further."""

from __future__ import annotations

import pytest
import torch

from striate.draws import Draws
from striate.models.rbm import RBM, new_rbm
from striate.models.rbm.exact import log_likelihood
from striate.train import Batches, CDSettings, ContrastiveLearner, MemoryRows, ScheduleSettings, schedule

pytestmark = [pytest.mark.science, pytest.mark.timeout(900)]


# Persistent chains follow the model only where the rate falls (Tieleman 2008).
RATES = ScheduleSettings(0.1, shape="linear", hold=0.2, momentum=0.5)


def bars_and_stripes(rows: int) -> torch.Tensor:
    """4x4 pictures of full rows or full columns: 30 kinds, far from independent pixels."""
    lines = (Draws(0).uniform("lines", (rows, 4)) < 0.5).float()
    across = Draws(0).uniform("turn", (rows, 1, 1)) < 0.5
    pictures = lines[:, :, None].expand(rows, 4, 4)
    return torch.where(across, pictures, pictures.transpose(1, 2)).flatten(1)


def train(settings: CDSettings, data: torch.Tensor, steps: int) -> RBM:
    rbm = new_rbm(14, data.mean(dim=0), visible="bernoulli", weight_std=0.05, draws=Draws(1))
    learner = ContrastiveLearner(rbm, settings, schedule(RATES, steps), seed=2)
    for batch in Batches(MemoryRows(data), 100, 3).starting_at(0):
        learner.step(batch)
        if learner.step_number == steps:
            return learner.rbm.to(dtype=torch.float64)
    raise AssertionError


def test_training_raises_the_exact_log_likelihood_towards_the_entropy() -> None:
    """Independent pixels give -16 log 2 = -11.1 nats at best; the 30 kinds' entropy allows -3.3. Both samplers pass -6."""
    data = bars_and_stripes(2000)
    found = {}
    for name, settings in (("cd1", CDSettings()), ("pcd", CDSettings(chains=100)), ("cd10", CDSettings(k=10))):
        found[name] = float(log_likelihood(train(settings, data, 6000), data.double()).mean())
    assert all(value > -6.0 for value in found.values()), found
    assert max(found["pcd"], found["cd10"]) > found["cd1"] - 0.3
