"""Short binary codes of features: a deep belief net, unrolled into an autoencoder whose code units noise makes binary.

Source: Krizhevsky et al. 2012, section 6.1, suggests an autoencoder on the last hidden layer for retrieval; Salakhutdinov and
Hinton 2007 give this one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from striate.app.estimators.stacks import DeepBeliefNetwork
from striate.draws import generator
from striate.measure.binary_codes import Recall, hamming, pack, recall_at
from striate.models.autoencoder import Autoencoder, unrolled
from striate.train.backprop import BackpropLearner, BackpropSettings
from striate.train.objectives import binary_cross_entropy
from striate.train.updates import Rates

_BATCH = 100
# Levels of a feature above this share of pictures are cut: activities have long tails.
_HIGH = 0.995


@dataclass(frozen=True)
class Coder:
    """Features to bits.

    Attributes:
        scale: (features,), what features are divided by before they are cut at 1.
        autoencoder: on those.
    """

    scale: Tensor
    autoencoder: Autoencoder

    def bits(self, features: Tensor) -> np.ndarray:
        """Packed codes (n, words) of features (n, d), not negative."""
        return pack(self.autoencoder.bits((features / self.scale).clamp(0, 1)).numpy())


def learn_codes(
    features: Tensor, bits: int, hidden: int = 512, epochs: int = 10, tuning: int = 20, noise: float = 4.0, seed: int = 0
) -> Coder:
    """Codes for features (n, d), not negative: RBMs of `hidden` and `bits` units, unrolled and fine-tuned."""
    scale = torch.quantile(features[:: max(1, len(features) // 5000)].float(), _HIGH, dim=0).clamp_min(1e-6)
    rows = (features.float() / scale).clamp(0, 1)
    net = DeepBeliefNetwork((hidden, bits), visible="bernoulli", learning_rate=0.05, n_iter=epochs, random_state=seed).fit(rows)
    start = unrolled(tuple(layer._model() for layer in net.layers_))
    learner = BackpropLearner(
        start.weights,
        start.biases,
        binary_cross_entropy,
        BackpropSettings(code_noise=noise, code=start.code),
        lambda step: Rates(0.02, 0.9),
        input_scale=start.scale,
        seed=seed,
    )
    for epoch in range(tuning):
        order = torch.from_numpy(generator(seed, "codes", epoch).permutation(len(rows)))
        for at in order.split(_BATCH):
            if len(at) == _BATCH:
                learner.step(rows[at])
    return Coder(scale, Autoencoder(tuple(learner.weights), tuple(learner.biases), start.scale, start.gaussian))


@dataclass(frozen=True)
class Retrieval:
    """Search by codes beside exact search.

    Attributes:
        recall: of the true ten among the codes' first hundred, and among their first ten.
        exact_s: seconds a query of exact Euclidean search.
        codes_s: of Hamming search.
        bytes_exact: a picture, of float32 features.
    """

    recall: Recall
    strict: Recall
    exact_s: float
    codes_s: float
    bytes_exact: int


def retrieval(coder: Coder, queries: Tensor, base: Tensor, k: int = 10, candidates: int = 100) -> Retrieval:
    """How well and how fast codes find the neighbours that exact search finds, among features (n, d)."""
    query_codes, base_codes = coder.bits(queries), coder.bits(base)
    rows = queries.numpy(), base.numpy()
    wide = recall_at(query_codes, base_codes, *rows, k, min(candidates, len(base)))
    begun = time.perf_counter()
    squares = (base * base).sum(dim=1)
    torch.topk(2 * queries @ base.t() - squares, k, dim=1)
    exact = (time.perf_counter() - begun) / len(queries)
    begun = time.perf_counter()
    np.argpartition(hamming(query_codes, base_codes), k - 1, axis=1)
    codes = (time.perf_counter() - begun) / len(queries)
    return Retrieval(wide, recall_at(query_codes, base_codes, *rows, k), exact, codes, base.shape[1] * 4)
