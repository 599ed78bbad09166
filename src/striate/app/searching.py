"""Search among the features of a store: like these pictures, like a picture from elsewhere, or what a unit answers to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from striate.app.feature_files import Features
from striate.errors import BadInput
from striate.images import ImageStore
from striate.measure.retrieval import Nearest, Rows, metric_named, nearest, row_norms
from striate.models.encoder import Encoder, check_layers

_COLUMN_ROWS = 4096

Engine = Callable[[np.ndarray, int], Nearest]
"""Queries (q, dim) and k to what is nearest; a quick one may miss some."""


@dataclass(frozen=True)
class Found:
    """Pictures of a store, nearest first.

    Attributes:
        positions: int64 (n,), in the store.
        scores: float64 (n,): cosine, inner product or distance to what was searched for, or a unit's activity.
    """

    positions: np.ndarray
    scores: np.ndarray


class Searcher:
    """Exact search among a store's features. The first answer takes the norms of all rows along; the next ones are quicker.

    Args:
        store: the pictures.
        features: of them, one layer's.
        metric: `cosine`, `l2` or `dot`.
        engine: what finds the nearest rows; by default exact search among all.
        device: where exact search multiplies.

    Raises:
        BadInput: the features are of another store, or there is no such metric.
    """

    def __init__(
        self,
        store: ImageStore,
        features: Features,
        metric: str = "cosine",
        engine: Engine | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        if features.about.get("store") != store.digest:
            raise BadInput(
                f"{features.path} holds features of {len(features):,} pictures of another store than {store.path} "
                f"({len(store):,} pictures), or it has changed since: encode it again"
            )
        self.store, self.features, self.metric = store, features, metric_named(metric).name
        self.rows = rows_of(features)
        self._engine, self._device = engine or self._exact, torch.device(device)

    def by_positions(self, positions: np.ndarray | list[int], k: int) -> Found:
        """The pictures nearest to some of the store, these left out.

        Raises:
            BadInput: a position or k is out of range.
        """
        chosen = np.asarray(positions, dtype=np.int64)
        if not chosen.size or chosen.min() < 0 or chosen.max() >= len(self.store):
            raise BadInput(
                f"positions {chosen.tolist()} in a store of {len(self.store):,}: expected 0 to {len(self.store) - 1:,}"
            )
        query = self.query(self.features.take(chosen))
        return self.by_query(query, k, without=chosen)

    def by_picture(self, pictures: np.ndarray, encoder: Encoder, k: int) -> Found:
        """The pictures nearest to one, uint8 (c, h, w), or to several, (n, c, h, w), of the store's shape.

        Raises:
            BadInput: their shape, or the model's layer, is another than the features'; k is out of range.
        """
        return self.by_query(self.query(self.encoded(pictures, encoder)), k)

    def by_unit(self, unit: int, k: int, least: bool = False) -> Found:
        """The pictures that a unit answers to most, or least.

        Raises:
            BadInput: there is no such unit, or k is out of range.
        """
        self.check_k(k)
        if not 0 <= unit < self.features.dim:
            layer = self.features.about["layer"]
            raise BadInput(f"no unit {unit}: layer {layer} has units 0 to {self.features.dim - 1:,}")
        activity = self._column(unit).astype(np.float64)
        order = np.argsort(activity if least else -activity, kind="stable")
        # What is no number comes last, and is left out.
        order = order[: min(k, int((~np.isnan(activity)).sum()))]
        return Found(order, activity[order])

    def encoded(self, pictures: np.ndarray, encoder: Encoder) -> np.ndarray:
        """Features float32 (n, dim) of one picture or several."""
        [layer] = check_layers([str(self.features.about["layer"])], encoder.layers)
        if encoder.dims[layer] != self.features.dim:
            raise BadInput(
                f"layer {layer} of this model has {encoder.dims[layer]:,} units, {self.features.path} holds "
                f"{self.features.dim:,}: they are of different models, encode again"
            )
        several = pictures if pictures.ndim == 4 else pictures[None]
        return encoder.encode(several, [layer])[layer].numpy()

    def query(self, rows: np.ndarray) -> np.ndarray:
        """One query (dim,) from rows (n, dim): the mean of their directions, or for `l2` the mean."""
        exact = rows.astype(np.float64)
        if self.metric != "l2" and len(rows) > 1:
            norms = np.linalg.norm(exact, axis=1, keepdims=True)
            exact = np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0)
        mean: np.ndarray = exact.mean(axis=0)
        if not np.isfinite(mean).all():
            raise BadInput("the features of what is searched for are not finite: nothing is near it")
        return mean

    def by_query(self, query: np.ndarray, k: int, without: np.ndarray | None = None) -> Found:
        """The pictures nearest to a row (dim,), some positions left out."""
        self.check_k(k)
        left_out = np.unique(without) if without is not None else np.empty(0, np.int64)
        asked = min(k + len(left_out), len(self.store))
        return _without(self._engine(query[None], asked), left_out, k)

    def check_k(self, k: int) -> None:
        """Raise `BadInput` unless there are as many pictures."""
        if not 1 <= k <= len(self.store):
            raise BadInput(
                f"{k} pictures asked for, {self.store.path} has {len(self.store):,}: expected 1 to {len(self.store):,}"
            )

    def _exact(self, queries: np.ndarray, k: int) -> Nearest:
        return nearest(queries, self.rows, k, self.metric, norms=self.norms, device=self._device)

    @functools.cached_property
    def norms(self) -> np.ndarray:
        """Norms of all rows, float32."""
        return row_norms(self.rows)

    def _column(self, unit: int) -> np.ndarray:
        if self.features.array is not None:
            return self.features.array[:, unit]
        starts = range(0, len(self.features), _COLUMN_ROWS)
        return np.concatenate([self.features.rows(start, start + _COLUMN_ROWS)[:, unit] for start in starts])


def rows_of(features: Features) -> Rows:
    """Features as rows to search: the memory map, or what reads the file range by range."""
    return features.array if features.array is not None else _ReadRows(features)


class _ReadRows:
    """Rows of a features file that is no memory map."""

    def __init__(self, features: Features) -> None:
        self._features = features

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, part: slice) -> Any:
        start, stop, _ = part.indices(len(self))
        return self._features.rows(start, stop)


def _without(found: Nearest, left_out: np.ndarray, k: int) -> Found:
    positions, scores = found.positions[0], found.scores[0]
    kept = (positions >= 0) & ~np.isin(positions, left_out)
    return Found(positions[kept][:k], scores[kept][:k])
