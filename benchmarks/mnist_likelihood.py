"""Claim: 500 binary hidden units on binarised MNIST reach at least the published log-likelihoods of CD-1 and CD-25.

Published (Salakhutdinov and Murray 2008, test set): CD-1 -125.53, CD-3 -105.50, CD-25 -86.34 nats.
Protocol: training pixels are states drawn anew at every step with probability level / 255; test pixels are drawn once, from a
fixed seed. log Z by annealed importance sampling, forward (flatters) and in reverse (conservative), over all test pictures.

Run from the root of the repository: `python -m benchmarks.mnist_likelihood --data FOLDER --epochs 20 --k 1`; prints JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from pathlib import Path

import torch
from torch import Tensor

from striate.compute import choose_dtype
from striate.draws import Draws, generator
from striate.images.sources.idx import read_idx
from striate.measure.likelihood import Likelihood, log_likelihood
from striate.models.rbm import RBM, new_rbm
from striate.models.rbm.ais import salakhutdinov_murray, sigmoid_schedule
from striate.models.rbm.units import bernoulli
from striate.train import CDSettings, ContrastiveLearner
from striate.train.schedules import ScheduleSettings, schedule

HIDDEN, BATCH = 500, 100
PUBLISHED = {1: -125.53, 3: -105.50, 25: -86.34}


def levels(folder: Path, part: str) -> Tensor:
    """Pictures as probabilities, (count, 784) float32 in [0, 1]."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    return torch.from_numpy(images.reshape(len(images), -1).copy()).float().div_(255)


def train(data: Tensor, settings: CDSettings, epochs: int, rate: float, seed: int) -> RBM:
    """An RBM after so many epochs; the rate falls linearly over the second half."""
    draws = Draws(seed)
    rbm = new_rbm(HIDDEN, data.mean(dim=0), visible="bernoulli", draws=draws)
    steps = epochs * (len(data) // BATCH)
    rates = schedule(ScheduleSettings(rate, shape="linear", momentum=0.5), steps)
    dtype = choose_dtype("auto", "cpu", (BATCH, data.shape[1], HIDDEN))
    learner = ContrastiveLearner(rbm, settings, rates, seed=seed, dtype=dtype)
    for epoch in range(epochs):
        order = torch.from_numpy(generator(seed, "order", epoch).permutation(len(data)))
        for chosen in order.split(BATCH)[: len(data) // BATCH]:
            learner.step(data[chosen])
    return learner.rbm


def measure(rbm: RBM, train_levels: Tensor, test_levels: Tensor, runs: int, steps: int) -> Likelihood:
    """Of all test pictures; steps 0: the published schedule of 14,500."""
    betas = sigmoid_schedule(steps) if steps else salakhutdinov_murray()
    rows = bernoulli(test_levels, Draws(0), "test states")
    base = bernoulli(train_levels[:10_000], Draws(0), "base states")
    return log_likelihood(rbm, rows, base, runs=runs, betas=betas)


def main() -> None:
    """Train, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--k", type=int, default=1)
    parser.add_argument("--chains", type=int, help="PCD with so many kept chains; without it CD")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=0, help="of annealing; 0: the published schedule")
    parser.add_argument("--rows", type=int, help="train on so many pictures only")
    args = parser.parse_args()
    data, test = levels(args.data, "train")[: args.rows], levels(args.data, "t10k")
    settings = CDSettings(k=args.k, chains=args.chains, sample_data=True)
    start = time.perf_counter()
    rbm = train(data, settings, args.epochs, args.rate, seed=0)
    trained = time.perf_counter()
    found = dataclasses.asdict(measure(rbm, data, test, args.runs, args.steps))
    result = {
        "settings": {name: value for name, value in vars(args).items() if name != "data"},
        "published_nats": PUBLISHED.get(args.k) if args.chains is None else None,
        "test": found,
        "train_seconds": trained - start,
        "measure_seconds": time.perf_counter() - trained,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
