"""A collection as points in a plane: principal components, t-SNE, UMAP; and how much of the truth such a map keeps.

Maps of this kind mislead: what is near in them need not be near, and gaps need not be there. `neighbours_kept` says how much:
the share of pictures' true nearest neighbours that the map puts nearest to them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from striate.draws import Draws, generator
from striate.errors import BadInput

# Rows that directions are found from; more move them by less than one sees.
_SAMPLE = 8192
_POWERS = 3
# Columns beyond those asked for, which make the last ones exact enough (Halko, Martinsson, Tropp 2011).
_SPARE = 14
_BLOCK = 4096
# Below so many points the neighbours' graph is too small for t-SNE's usual perplexity of 30.
_PERPLEXITY = 30


@dataclass(frozen=True)
class Components:
    """Directions of most variance.

    Attributes:
        mean: of the rows, (d,).
        directions: (d, k), orthonormal, that of most variance first; each one's largest entry is positive.
    """

    mean: Tensor
    directions: Tensor

    def apply(self, rows: np.ndarray | Tensor) -> np.ndarray:
        """Rows (n, d) as float32 (n, k)."""
        return ((torch.as_tensor(rows).float() - self.mean) @ self.directions).numpy()


def find_components(rows: np.ndarray, count: int, seed: int = 0) -> Components:
    """Principal components of rows (n, d) by randomised subspace iteration; exact where there are few of either.

    Source: Halko, Martinsson and Tropp 2011, algorithm 4.4.
    """
    x = torch.as_tensor(rows).float()
    mean = x.mean(dim=0)
    x = x - mean
    count = min(count, *x.shape)
    width = min(count + _SPARE, *x.shape)
    basis = torch.linalg.qr(x @ Draws(seed, purpose="components/").normal("start", (x.shape[1], width)))[0]
    for _ in range(_POWERS):
        basis = torch.linalg.qr(x.t() @ basis)[0]
        basis = torch.linalg.qr(x @ basis)[0]
    _, _, right = torch.linalg.svd(basis.t() @ x, full_matrices=False)
    directions = right[:count].t().contiguous()
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    return Components(mean, directions * torch.where(largest < 0, -1.0, 1.0))


def sample_positions(count: int, seed: int = 0, most: int = _SAMPLE) -> np.ndarray:
    """At most so many positions of a collection, drawn without replacement, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(generator(seed, "map").choice(count, most, replace=False))


def project(components: Components, blocks: Callable[[int, int], np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Rows given block by block, (start, stop) to (stop - start, d), as their components (stop - start, k)."""
    for start in range(0, count, _BLOCK):
        yield components.apply(blocks(start, min(start + _BLOCK, count)))


def tsne(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE of rows (n, k), started from their first two components, float32 (n, 2); minutes for 60,000.

    Source: van der Maaten and Hinton 2008; by interpolation (Linderman et al. 2019) where openTSNE is installed, by
    scikit-learn's trees otherwise. Initialised by components, which keeps more of the whole (Kobak and Berens 2019).
    """
    perplexity = min(_PERPLEXITY, max(1.0, (len(rows) - 1) / 3))
    start = 1e-4 * rows[:, :2] / max(float(rows[:, 0].std()), 1e-12)
    try:
        fast = importlib.import_module("openTSNE")
    except ImportError:
        from sklearn.manifold import TSNE

        made = TSNE(init=np.ascontiguousarray(start), perplexity=perplexity, random_state=seed, n_jobs=-1).fit_transform(rows)
    else:
        # Affinities by approximate neighbours, as its default; as many threads as there are cores.
        made = fast.TSNE(perplexity=perplexity, initialization=start, random_state=seed, n_jobs=-1).fit(rows)
    return np.asarray(made, dtype=np.float32)


def umap(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """UMAP of rows (n, k), float32 (n, 2).

    Raises:
        BadInput: it is not installed.
    """
    try:
        library = importlib.import_module("umap")
    except ImportError:
        raise BadInput("UMAP is not installed: pip install 'striate[umap]'") from None
    neighbours = min(15, max(2, len(rows) - 1))
    return np.asarray(library.UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(rows), dtype=np.float32)


def clusters(rows: np.ndarray, count: int = 20, seed: int = 0) -> np.ndarray:
    """k-means of rows (n, k): int64 (n,), the largest cluster is 0."""
    from sklearn.cluster import MiniBatchKMeans

    count = max(1, min(count, len(rows)))
    found = MiniBatchKMeans(count, batch_size=4096, n_init=3, random_state=seed).fit_predict(rows)
    order = np.argsort(-np.bincount(found, minlength=count), kind="stable")
    return np.argsort(order)[found].astype(np.int64)


@dataclass(frozen=True)
class Kept:
    """How much of the neighbourhoods a map keeps.

    Attributes:
        share: of the true nearest neighbours that are among as many nearest on the map; by chance it would be `chance`.
        chance: neighbours / (n - 1).
        neighbours: how many of each point were compared.
        sample: how many points.
    """

    share: float
    chance: float
    neighbours: int
    sample: int


def neighbours_kept(true: np.ndarray, places: np.ndarray, asked: np.ndarray) -> Kept:
    """Compare true neighbours with those on a map.

    Args:
        true: positions of each asked point's nearest others, (sample, k).
        places: of all points on the map, (n, 2).
        asked: the points' own positions, (sample,).
    """
    points = torch.as_tensor(places).float()
    k = true.shape[1]
    kept = 0
    for start in range(0, len(asked), 256):
        at = torch.as_tensor(asked[start : start + 256])
        squares = (points[at][:, None, :] - points[None, :, :]).square().sum(dim=2)
        squares[torch.arange(len(at)), at] = torch.inf
        nearest = squares.topk(k, largest=False).indices
        theirs = torch.as_tensor(true[start : start + 256])
        kept += int((nearest[:, :, None] == theirs[:, None, :]).sum())
    return Kept(kept / (len(asked) * k), k / max(1, len(places) - 1), k, len(asked))
