"""Finding near-duplicates: all pairs within a distance, exactly; with crops, all that the screens let through, aligned.

Without crops a pair's distance is that of its rows and nothing is missed. With crops it is the distance after the best
alignment, and the two screens (distance of short rows, distance of their tangent planes) have limits that `calibrate` sets so
that copies of the user's own pictures pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from striate.images.work import Each, one_by_one
from striate.measure.duplicates.align import aligned_distances, tangent_distances, tangents
from striate.measure.duplicates.rows import PictureRows, Projection, Rows, as_rows, fit_projection, shorten
from striate.measure.duplicates.search import Blocks, near_pairs

Found = Iterator[tuple[np.ndarray, np.ndarray]]
Neighbours = Callable[[Tensor, float, Tensor | None], Found]
_AT_ONCE = 4096
# About 1.3 kB a picture.
_PLANES_KEPT = 1_000_000


@dataclass(frozen=True)
class Search:
    """How near-duplicates are looked for.

    Attributes:
        threshold: the largest distance of a pair.
        crops: pixels (of the tiny picture) by which a side may have been cut off; 0: pictures are compared as they lie.
        mirrored: also against the mirrored pictures.
        reach: with crops, the largest distance of short rows that is looked at.
        screen: with crops, the largest distance of tangent planes that is aligned.
        device: where the products of all pairs run.
        seed: of the sample that the principal components are fitted on.
    """

    threshold: float
    crops: float = 2.0
    mirrored: bool = False
    reach: float = 0.6
    screen: float = 0.3
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class Pairs:
    """Pairs of positions, first < second, nearest first.

    Attributes:
        first, second: int64 (n,).
        distance: float32 (n,).
        mirrored: bool (n,), whether the second is so once mirrored.
    """

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    mirrored: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, chosen: np.ndarray) -> Pairs:
        return Pairs(self.first[chosen], self.second[chosen], self.distance[chosen], self.mirrored[chosen])

    def within(self, threshold: float) -> Pairs:
        """Those no further apart than this."""
        return self[self.distance <= threshold]

    @classmethod
    def joined(cls, parts: list[Pairs]) -> Pairs:
        """All of them, nearest first; a pair found twice keeps its smaller distance."""
        first, second, distance, mirrored = (
            np.concatenate([getattr(part, name) for part in parts] or [np.empty(0)])
            for name in ("first", "second", "distance", "mirrored")
        )
        order = np.lexsort((second, first, distance))
        found = cls(first[order].astype(np.int64), second[order].astype(np.int64), distance[order], mirrored[order] > 0)
        _, once = np.unique(np.stack([found.first, found.second]), axis=1, return_index=True)
        return found[np.sort(once)]


class Compared:
    """Rows with what searching needs of them, each made once, when it is first asked for.

    Args:
        rows: what is compared.
        projection: to short rows; by default principal components of a sample.
        seed: of that sample.
        each: has the work on all of them done, block by block.
    """

    def __init__(self, rows: Rows, projection: Projection | None = None, seed: int = 0, each: Each = one_by_one) -> None:
        self.rows, self.each = rows, each
        self.projection = projection or fit_projection(rows, seed)

    @functools.cached_property
    def short(self) -> Tensor:
        """Short rows, (n, components + 1)."""
        return shorten(self.rows, self.projection, self.each)

    @functools.cached_property
    def planes(self) -> Planes:
        """Tangent planes."""
        return Planes(self.pictures, self.projection, self.each)

    @property
    def pictures(self) -> PictureRows:
        """The rows, which are of pictures."""
        assert isinstance(self.rows, PictureRows)
        return self.rows

    @property
    def mirrored(self) -> Compared:
        """The same pictures, left and right exchanged."""
        return Compared(replace(self.pictures, mirrored=not self.pictures.mirrored), self.projection, each=self.each)


def find_pairs(
    compared: Compared,
    search: Search,
    progress: Callable[[float], None] = lambda share: None,
    neighbours: Neighbours | None = None,
) -> Pairs:
    """All near-duplicates.

    Args:
        compared: what is compared; crops and mirrors need pictures.
        search: how.
        progress: called with the share of the work done since the last call.
        neighbours: finds pairs of short rows within a distance; by default all of them.
    """
    passes = 2 if search.mirrored else 1

    def every(short: Tensor, reach: float, other: Tensor | None) -> Found:
        if compared.each is one_by_one:
            return near_pairs(short, reach, other, search.device, lambda share: progress(share / passes))
        return _near_pairs_elsewhere(Blocks.of(short, reach, other, search.device), compared.each, passes, progress)

    neighbours = neighbours or every
    parts = [_find(compared, None, search, neighbours)]
    if search.mirrored:
        found = _find(compared, compared.mirrored, search, neighbours)
        # A pair comes up from both sides, a symmetric picture with itself.
        found = found[found.first < found.second]
        parts.append(replace(found, mirrored=np.ones(len(found), dtype=bool)))
    return Pairs.joined(parts)


def _near_pairs_elsewhere(blocks: Blocks, each: Each, passes: int, progress: Callable[[float], None]) -> Found:
    for top, pieces in each(blocks, blocks.tops):
        progress(blocks.pairs_of(top) / blocks.pairs / passes)
        yield from pieces


def _find(compared: Compared, other: Compared | None, search: Search, neighbours: Neighbours) -> Pairs:
    """Pairs within one collection, or between two."""
    aligned = search.crops > 0 and isinstance(compared.rows, PictureRows)
    second = other or compared
    judge = _Judge(compared.rows, second.rows, (compared.planes, second.planes) if aligned else None, search)
    reach = search.reach if aligned else search.threshold
    near = _collected(neighbours(compared.short, reach, None if other is None else other.short))
    return Pairs.joined([found for _, found in compared.each(judge, near)])


@dataclass(frozen=True)
class _Judge:
    """From pairs whose short rows are near to those that are near-duplicates.

    Attributes:
        rows, others: of the first and of the second of a pair.
        planes: theirs, where pairs are to be aligned.
        search: how.
    """

    rows: Rows
    others: Rows
    planes: tuple[Planes, Planes] | None
    search: Search

    def __call__(self, pairs: tuple[np.ndarray, np.ndarray]) -> Pairs:
        first, second = pairs
        if self.planes is not None:
            assert isinstance(self.rows, PictureRows) and isinstance(self.others, PictureRows)
            first, second = screened(*self.planes, first, second, self.search.screen)
            distances = _align(self.rows, self.others, first, second, self.search)
        else:
            distances = row_distances(self.rows, self.others, first, second)
        near = distances <= self.search.threshold
        return Pairs(first[near], second[near], distances[near], np.zeros(int(near.sum()), dtype=bool))


def _collected(pairs: Found, least: int = 1 << 16) -> Found:
    """The same pairs in larger pieces."""
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    count = 0
    for pair in pairs:
        waiting.append(pair)
        count += len(pair[0])
        if count >= least:
            yield np.concatenate([a for a, _ in waiting]), np.concatenate([b for _, b in waiting])
            waiting, count = [], 0
    if waiting:
        yield np.concatenate([a for a, _ in waiting]), np.concatenate([b for _, b in waiting])


def row_distances(rows: Rows, others: Rows, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distances (n,) between whole rows, in float64."""
    parts = []
    for start in range(0, len(first), _AT_ONCE):
        a, b = rows(first[start : start + _AT_ONCE]), others(second[start : start + _AT_ONCE])
        parts.append((a.double() - b.double()).norm(dim=1).float().numpy())
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


class Planes:
    """Short contrast rows and tangent planes of pictures: kept where there are few enough, made on call where not."""

    def __init__(self, rows: PictureRows, projection: Projection, each: Each = one_by_one) -> None:
        self._of = _PlanesOf(rows, projection)
        self._kept: tuple[np.ndarray, np.ndarray] | None = None
        if len(rows) <= _PLANES_KEPT:
            self._kept = self._gathered(len(rows), each)

    def _gathered(self, count: int, each: Each) -> tuple[np.ndarray, np.ndarray]:
        starts = range(0, count, _AT_ONCE)
        parts = [part for _, part in each(_PlanesFrom(self._of, count), starts)]
        return np.concatenate([short for short, _ in parts]), np.concatenate([planes for _, planes in parts])

    def __call__(self, positions: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rows (n, k) and tangents (n, 4, k)."""
        if self._kept is not None:
            return torch.from_numpy(self._kept[0][positions]), torch.from_numpy(self._kept[1][positions])
        unique, back = np.unique(positions, return_inverse=True)
        short, planes = self._of(unique)
        return short[back], planes[back]


@dataclass(frozen=True)
class _PlanesOf:
    """From positions to rows and planes."""

    rows: PictureRows
    projection: Projection

    def __call__(self, positions: np.ndarray) -> tuple[Tensor, Tensor]:
        return planes_of(self.rows.pictures(positions), self.projection)


@dataclass(frozen=True)
class _PlanesFrom:
    """From a block's start to its rows and planes, as arrays."""

    made: _PlanesOf
    count: int

    def __call__(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        short, planes = self.made(np.arange(start, min(start + _AT_ONCE, self.count)))
        return short.numpy(), planes.numpy()


def screened(
    planes: Planes, others: Planes, first: np.ndarray, second: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs whose tangent planes pass within a limit."""
    near = np.empty(len(first), dtype=bool)
    for start in range(0, len(first), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        near[part] = tangent_distances(*planes(first[part]), *others(second[part])).numpy() <= limit
    return first[near], second[near]


def planes_of(pictures: Tensor, projection: Projection) -> tuple[Tensor, Tensor]:
    """Contrast rows' first components (n, k) and tangents (n, 4, k) of tiny pictures."""
    rows = as_rows(pictures, "contrast")
    slopes = tangents(rows.view_as(pictures))
    return rows @ projection.basis, slopes @ projection.basis


def _align(rows: PictureRows, others: PictureRows, first: np.ndarray, second: np.ndarray, search: Search) -> np.ndarray:
    parts = [np.empty(0, np.float32)]
    for start in range(0, len(first), _AT_ONCE):
        a, b = rows.pictures(first[start : start + _AT_ONCE]), others.pictures(second[start : start + _AT_ONCE])
        parts.append(aligned_distances(a, b, search.crops * 1.3, search.threshold).numpy())
    return np.concatenate(parts)
