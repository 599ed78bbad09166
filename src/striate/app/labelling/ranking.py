"""In which order pictures are looked at: as found, most promising first, most uncertain first, or alike together.

The score of a class is regularised least squares on principal components of learned features: a closed form, so that it can be
fitted anew while somebody labels (0.2 s for 50,000 pictures). Before anybody decided, the search terms stand in for decisions;
they stay as weak evidence for pictures that nobody has decided on. Cost: a product of (components x pictures x components).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from striate.draws import generator
from striate.errors import BadInput

Order = Literal["found", "promising", "uncertain", "alike"]
ORDERS: tuple[Order, ...] = ("found", "promising", "uncertain", "alike")
_COMPONENTS = 512
_SAMPLE = 20_000
_BLOCK = 8192
# A decision counts as much as this many pictures that only their term speaks for.
_DECIDED, _TERM = 3.0, 1.0
# Ridge, as a share of the components' mean variance times the number of pictures.
_RIDGE = 2e-2
# Added to the score of pictures found under the class's own terms: their share of the class is far higher.
_PROMISED = 0.3
_GROUP = 30


class Ranker:
    """Scores of every picture of a collection.

    Args:
        features: (n, d), any float format; only their principal components are kept, 2 kB a picture.

    Raises:
        BadInput: there are none.
    """

    def __init__(self, features: np.ndarray | Tensor) -> None:
        if len(features) == 0:
            raise BadInput("no pictures to rank")
        self._rows = _components(features)
        self._groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def components(self) -> Tensor:
        """Principal components (n, k) of the standardised features, about 1 in scale."""
        return self._rows / self._rows.std()

    def scores(self, promised: np.ndarray, kept: np.ndarray, rejected: np.ndarray) -> np.ndarray:
        """How much each picture looks like one of the class, float32 (n,), about 0 to 1, more under the class's terms.

        Args:
            promised: bool (n,), found under the class's terms.
            kept, rejected: positions that were decided on.
        """
        target = torch.from_numpy(promised.astype(np.float32))
        weight = torch.full((len(self),), _TERM)
        for positions, value in ((kept, 1.0), (rejected, 0.0)):
            at = torch.from_numpy(np.asarray(positions, dtype=np.int64))
            target[at] = value
            weight[at] = _DECIDED
        if float(target.min()) == float(target.max()):
            return np.full(len(self), float(target[0]), np.float32)
        mean = float((weight * target).sum() / weight.sum())
        centre = (weight @ self._rows) / weight.sum()
        gram = torch.zeros(self._rows.shape[1], self._rows.shape[1])
        right = torch.zeros(self._rows.shape[1])
        for start in range(0, len(self), _BLOCK):
            rows = self._rows[start : start + _BLOCK] - centre
            weighted = rows * weight[start : start + _BLOCK, None]
            gram += rows.t() @ weighted
            right += weighted.t() @ (target[start : start + _BLOCK] - mean)
        gram.diagonal().add_(_RIDGE * float(gram.diagonal().mean()) + 1e-6)
        weights = torch.linalg.solve(gram, right)
        found = ((self._rows - centre) @ weights + mean).numpy()
        return found + _PROMISED * promised.astype(np.float32)

    def alike(self) -> np.ndarray:
        """int64 (n,): a number that pictures which look alike share, about `_GROUP` of them; made once."""
        if self._groups is None:
            from sklearn.cluster import MiniBatchKMeans

            count = max(1, min(len(self) // _GROUP, 4096))
            model = MiniBatchKMeans(count, batch_size=4096, n_init=1, max_iter=20, random_state=0)
            self._groups = model.fit_predict(self._rows[:, :64].numpy()).astype(np.int64)
        return self._groups

    def order(self, kind: Order, candidates: np.ndarray, scores: np.ndarray, middle: float) -> np.ndarray:
        """Candidates (positions) in an order; `found` leaves them as they are.

        Args:
            kind: promising: highest score first; uncertain: nearest to the middle first; alike: groups together, the most
                promising group first.
            candidates: positions.
            scores: of all pictures.
            middle: the score that tells least.
        """
        if kind == "found":
            return candidates
        own = scores[candidates]
        if kind == "promising":
            return candidates[np.argsort(-own, kind="stable")]
        if kind == "uncertain":
            return candidates[np.argsort(np.abs(own - middle), kind="stable")]
        groups = self.alike()[candidates]
        names, where = np.unique(groups, return_inverse=True)
        means = np.bincount(where, own) / np.bincount(where)
        return candidates[np.lexsort((-own, names[where], -means[where]))]


def _components(features: np.ndarray | Tensor) -> Tensor:
    """Principal components (n, k) of standardised features, float32."""
    sample = torch.from_numpy(np.asarray(_sampled(features), dtype=np.float32))
    mean, deviation = sample.mean(dim=0), sample.std(dim=0, correction=0)
    scale = torch.where(deviation > 1e-6, 1 / deviation.clamp_min(1e-6), torch.zeros_like(deviation))
    sample = (sample - mean) * scale
    dim, kept = sample.shape[1], min(_COMPONENTS, sample.shape[1])
    start = torch.from_numpy(generator(0, "ranking").standard_normal((dim, min(dim, kept + 16)))).float()
    basis = torch.linalg.qr(start).Q
    for _ in range(3):
        basis = torch.linalg.qr(sample.t() @ (sample @ basis)).Q
    inner = torch.linalg.eigh((sample @ basis).t() @ (sample @ basis)).eigenvectors.flip(1)[:, :kept]
    basis = basis @ inner
    parts = []
    for begin in range(0, len(features), _BLOCK):
        rows = torch.from_numpy(np.asarray(features[begin : begin + _BLOCK], dtype=np.float32))
        parts.append(((rows - mean) * scale) @ basis)
    return torch.cat(parts)


def _sampled(features: np.ndarray | Tensor) -> np.ndarray | Tensor:
    if len(features) <= _SAMPLE:
        return features
    return features[np.sort(generator(0, "ranking sample").choice(len(features), _SAMPLE, replace=False))]


def middle_of(scores: np.ndarray, kept: np.ndarray, rejected: np.ndarray, promised: np.ndarray) -> float:
    """Half way between what was kept (or, before that, promised) and the rest."""
    above = scores[kept] if len(kept) else scores[promised]
    below = scores[rejected] if len(rejected) else scores[~promised]
    both = [float(part.mean()) for part in (above, below) if len(part)]
    return sum(both) / len(both) if both else 0.5
