"""Claim: CD-1 here is faster than other packages' training of the same RBM: binary visible units, 784 x 500 and 3072 x 4000.

Peers, in the same process and interleaved: scikit-learn's BernoulliRBM (PCD-1, its only mode; it computes in float64 or, given
float32, in float32), `rbms` and `learnergy` where they can be imported (`pip install --no-deps --target peers rbms learnergy`,
then PYTHONPATH=peers: they pin other things). Beside them, a plain torch CD-1 with fresh tensors, as people write it.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from types import SimpleNamespace

import numpy as np
import torch

from striate.draws import Draws
from striate.models.rbm import new_rbm
from striate.train import Batches, CDSettings, ContrastiveLearner, MemoryRows
from striate.train.contrastive import constant
from timing import interleaved, row


def ours(data: torch.Tensor, hidden: int, batch: int, dtype: torch.dtype):
    rbm = new_rbm(hidden, data.mean(0), visible="bernoulli", draws=Draws(0))
    model = ContrastiveLearner(rbm, CDSettings(weight_decay=1e-4), constant(0.01, 0.5), dtype=dtype)
    batches = Batches(MemoryRows(data), batch, 0)

    def epoch() -> None:
        wanted = model.step_number + batches.steps_per_epoch
        for rows_of_step in batches.starting_at(model.step_number):
            model.step(rows_of_step)
            if model.step_number == wanted:
                return

    return epoch


def scikit_learn(data: torch.Tensor, hidden: int, batch: int):
    from sklearn.neural_network import BernoulliRBM

    array = data.numpy().astype(np.float32)
    model = BernoulliRBM(n_components=hidden, learning_rate=0.01, batch_size=batch, n_iter=1, random_state=0)
    return lambda: model.fit(array)


def plain_torch(data: torch.Tensor, hidden: int, batch: int):
    weights = 0.01 * torch.randn(data.shape[1], hidden)
    b, c = torch.zeros(data.shape[1]), torch.zeros(hidden)

    def epoch() -> None:
        nonlocal weights, b, c
        for v0 in data[torch.randperm(len(data))].split(batch):
            h0 = torch.sigmoid(v0 @ weights + c)
            v1 = torch.bernoulli(torch.sigmoid(torch.bernoulli(h0) @ weights.t() + b))
            h1 = torch.sigmoid(v1 @ weights + c)
            weights = weights + 0.01 * ((v0.t() @ h0 - v1.t() @ h1) / len(v0) - 1e-4 * weights)
            b, c = b + 0.01 * (v0 - v1).mean(0), c + 0.01 * (h0 - h1).mean(0)

    return epoch


def learnergy(data: torch.Tensor, hidden: int, batch: int):
    from learnergy.models.bernoulli import RBM

    model = RBM(n_visible=data.shape[1], n_hidden=hidden, steps=1, learning_rate=0.01, momentum=0.5, decay=1e-4)
    dataset = torch.utils.data.TensorDataset(data, torch.zeros(len(data)))

    def epoch() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            model.fit(dataset, batch_size=batch, epochs=1)

    return epoch


def rbms(data: torch.Tensor, hidden: int, batch: int):
    """CD with its own gradient and sampler, without its HDF5 writing (its training loop is slower still)."""
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.sampling.gibbs import sample_state

    params = BBRBM.init_parameters(hidden, SimpleNamespace(data=data), torch.device("cpu"), torch.float32)
    for parameter in params.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def epoch() -> None:
        for v0 in data[torch.randperm(len(data))].split(batch):
            positive = params.init_chains(len(v0), start_v=v0)
            negative = sample_state(
                gibbs_steps=1, chains={name: part.clone() for name, part in positive.items()}, params=params
            )
            params.compute_gradient(data=positive, chains=negative, centered=False)
            with torch.no_grad():
                for parameter in params.parameters():
                    parameter.add_(parameter.grad, alpha=0.01)

    return epoch


PACKAGES = {"scikit-learn": scikit_learn, "rbms": rbms, "learnergy": learnergy}
PEERS = {**PACKAGES, "plain torch": plain_torch}
BARS = {"small": (">= 1.2 in fp32", ">= 3 in bf16"), "large": (">= 1.2 in fp32", ">= 4 in bf16")}


def rows(quick: bool = False) -> list[dict[str, object]]:
    warnings.simplefilter("ignore")
    found = []
    sizes = {"small": (784, 500, 100, 2000 if quick else 10_000), "large": (3072, 4000, 128, 256 if quick else 2048)}
    for label, (visible, hidden, batch, count) in sizes.items():
        data = (torch.rand(count, visible, generator=torch.Generator().manual_seed(0)) < 0.3).float()
        calls = {
            "fp32": ours(data, hidden, batch, torch.float32),
            "bf16": ours(data, hidden, batch, torch.bfloat16),
        }
        missing = {}
        for name, peer in PEERS.items():
            try:
                call = peer(data, hidden, batch)
                call()
                calls[name] = call
            except Exception as error:  # a peer that is not there or does not run is named, not hidden
                missing[name] = f"{type(error).__name__}: {error}"
        seconds = interleaved(calls, 3 if quick else 5, warm_up=1)
        rates = {name: count / value for name, value in seconds.items()}
        best = max(rates[name] for name in PACKAGES if name in rates)
        for dtype, bar in zip(("fp32", "bf16"), BARS[label]):
            title = f"CD-1 images/s against the best package, {visible} x {hidden}, ours in {dtype}"
            line = row(title, rates[dtype] / best, "times", bar, rates)
            if missing:
                line["missing"] = missing
            found.append(line)
    return found


if __name__ == "__main__":
    import json

    print(json.dumps(rows(), indent=1))
