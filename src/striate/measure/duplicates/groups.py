"""Groups of near-duplicates, and which picture of each to keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from striate.measure.duplicates.finding import Pairs


@dataclass(frozen=True)
class Group:
    """Pictures that are one.

    Attributes:
        members: positions, the one to keep first.
        nearest: smallest distance within the group.
        furthest: largest of the distances that hold it together.
    """

    members: tuple[int, ...]
    nearest: float
    furthest: float

    @property
    def kept(self) -> int:
        """The one to keep."""
        return self.members[0]


def group(pairs: Pairs, count: int, quality: np.ndarray) -> list[Group]:
    """Connected pictures, groups in the order of their nearest pair.

    Args:
        pairs: near-duplicates.
        count: of all pictures.
        quality: (count,); of each group the highest is kept, the earliest of equals.
    """
    if len(pairs) == 0:
        return []
    graph = coo_matrix((np.ones(len(pairs)), (pairs.first, pairs.second)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    of_pair = labels[pairs.first]
    names, where = np.unique(of_pair, return_inverse=True)
    nearest, furthest = np.full(len(names), np.inf), np.zeros(len(names))
    np.minimum.at(nearest, where, pairs.distance)
    np.maximum.at(furthest, where, pairs.distance)
    positions = np.unique(np.concatenate([pairs.first, pairs.second]))
    members: dict[int, list[int]] = {int(name): [] for name in names}
    for position in positions:
        members[int(labels[position])].append(int(position))
    return [
        Group(tuple(sorted(members[int(names[i])], key=lambda p: (-quality[p], p))), float(nearest[i]), float(furthest[i]))
        for i in np.lexsort((names, nearest))
    ]


def sharpness(pictures: np.ndarray) -> np.ndarray:
    """Mean squared slope (n,) of uint8 pictures (n, c, h, w): what re-saving, enlarging and blurring take away."""
    levels = pictures.astype(np.float32)
    across, down = np.diff(levels, axis=-1), np.diff(levels, axis=-2)
    return np.square(across).mean(axis=(1, 2, 3)) + np.square(down).mean(axis=(1, 2, 3))
