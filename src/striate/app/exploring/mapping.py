"""The collection as points on a map, by several methods, made in the background and kept beside the store."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from striate.app.exploring.jobs import Job
from striate.app.exploring.subject import Subject
from striate.app.screen import Screen
from striate.app.searching import Searcher
from striate.errors import StriateError
from striate.files import write_whole
from striate.measure.embedding import (
    Kept,
    clusters,
    find_components,
    neighbours_kept,
    project,
    sample_positions,
    tsne,
    umap,
)
from striate.measure.retrieval import nearest

METHODS = {"pca": "principal components", "tsne": "t-SNE", "umap": "UMAP"}
_COMPONENTS = 50
_CLUSTERS = 20
# Points whose true neighbours are held against those on the map, and how many of each.
_JUDGED, _NEIGHBOURS = 256, 10
_FEW = 5000
_LOOK_EVERY_S = 0.3
# Niceness of what takes minutes: whoever looks at pages comes first.
_NICE = 10


@dataclass(frozen=True)
class Ground:
    """What every map of a collection starts from.

    Attributes:
        rows: principal components of the directions of features, float32 (n, 50).
        clusters: k-means of those, uint8 (n,), the largest is 0.
        asked: positions of points that maps are judged at.
        true: their nearest others by cosine of the features, (asked, 10).
        stem: files of maps are named after it.
    """

    rows: np.ndarray
    clusters: np.ndarray
    asked: np.ndarray
    true: np.ndarray
    stem: Path


@dataclass(frozen=True)
class Map:
    """Points and how much to trust them.

    Attributes:
        points: float32 (n, 2).
        kept: neighbourhoods kept.
    """

    points: np.ndarray
    kept: Kept


def ground(subject: Subject) -> Job:
    """Components, clusters and true neighbours, after the features."""
    begun = subject.searcher()

    def work(screen: Screen) -> Ground:
        return _ground(begun.result, screen)

    return subject.jobs.start("map", "finding principal components", work, begun)


def _ground(searcher: Searcher, screen: Screen) -> Ground:
    features = searcher.features
    stem = features.path.with_suffix("")
    file = stem.with_name(stem.name + ".components.npz")
    kept = _kept_ground(file, len(features))
    if kept is None:
        components = find_components(_directions(features.take(sample_positions(len(features)))), _COMPONENTS)
        parts = []
        with screen.progress("components", len(features), "pictures") as task:
            for part in project(components, lambda start, stop: _directions(features.rows(start, stop)), len(features)):
                parts.append(part)
                task.advance(len(part))
        rows = np.concatenate(parts)
        asked = sample_positions(len(features), 1, _JUDGED)
        kept = {
            "rows": rows,
            "clusters": clusters(rows, _CLUSTERS).astype(np.uint8),
            "asked": asked,
            "true": _true(searcher, asked),
        }
        write_whole(file, lambda temporary: _save_all(temporary, kept))
    return Ground(kept["rows"], kept["clusters"], kept["asked"], kept["true"], stem)


def _directions(rows: np.ndarray) -> np.ndarray:
    """Rows of length one: likeness is the cosine everywhere on these pages."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _kept_ground(file: Path, count: int) -> dict[str, np.ndarray] | None:
    try:
        with np.load(file, allow_pickle=False) as found:
            kept = {name: found[name] for name in ("rows", "clusters", "asked", "true")}
    except (OSError, ValueError, KeyError):
        return None
    return kept if len(kept["rows"]) == count else None


def _true(searcher: Searcher, asked: np.ndarray) -> np.ndarray:
    """Nearest others of some pictures by cosine, (asked, 10)."""
    k = min(_NEIGHBOURS, len(searcher.store) - 1)
    found = nearest(searcher.features.take(asked), searcher.rows, k + 1, "cosine", norms=searcher.norms).positions
    # A picture is among its own nearest, but for copies of it.
    others = found != asked[:, None]
    others[others.all(axis=1), -1] = False
    return found[others].reshape(len(asked), k)


def map_of(subject: Subject, method: str) -> Job:
    """The map by a method, after the ground; t-SNE and UMAP take minutes."""
    begun = ground(subject)

    def work(screen: Screen) -> Map:
        found: Ground = begun.result
        points = _two(found.rows) if method == "pca" else _drawn(found, method, screen)
        return Map(points, neighbours_kept(found.true, points, found.asked))

    return subject.jobs.start(
        f"map/{method}", f"drawing the map ({METHODS[method]})", work, begun, "pictures" if method == "pca" else "slow"
    )


def _drawn(found: Ground, method: str, screen: Screen) -> np.ndarray:
    """By a process of its own, made once and kept: it takes minutes, and must neither hold up the pages nor outlive them."""
    file = found.stem.with_name(f"{found.stem.name}.{method}.npy")
    kept = _kept_points(file, len(found.rows))
    if kept is None:
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "rows.npy", found.rows)
            process = multiprocessing.get_context("spawn").Process(target=_draw, args=(method, Path(folder)), daemon=True)
            process.start()
            try:
                while process.is_alive():
                    screen.check()
                    process.join(_LOOK_EVERY_S)
            finally:
                process.kill()
            kept = _kept_points(Path(folder) / "points.npy", len(found.rows))
            error = Path(folder) / "error.txt"
            if kept is None:
                raise StriateError(
                    error.read_text() if error.exists() else f"drawing {METHODS[method]} failed: is memory short?"
                )
        made = _two(kept)
        write_whole(file, lambda temporary: _save(temporary, made))
        return made
    return kept


def _draw(method: str, folder: Path) -> None:
    """In a process of its own: rows.npy to points.npy, or to error.txt."""
    os.nice(_NICE)
    try:
        made = {"tsne": tsne, "umap": umap}[method](np.load(folder / "rows.npy"))
        np.save(folder / "points.npy", made)
    except Exception as error:
        (folder / "error.txt").write_text(f"{type(error).__name__}: {error}")


def _save(file: Path, points: np.ndarray) -> None:
    with file.open("wb") as opened:
        np.save(opened, points)


def _save_all(file: Path, arrays: dict[str, np.ndarray]) -> None:
    with file.open("wb") as opened:
        np.savez(opened, allow_pickle=False, **arrays)


def _two(points: np.ndarray) -> np.ndarray:
    """As float32 (n, 2), also of features with a single direction."""
    flat = np.zeros((len(points), 2), np.float32)
    flat[:, : points.shape[1]] = points[:, :2]
    return flat


def _kept_points(file: Path, count: int) -> np.ndarray | None:
    try:
        points = np.load(file, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return points if points.shape == (count, 2) and points.dtype == np.float32 else None


def begins_itself(count: int) -> bool:
    """Whether t-SNE of so many pictures is drawn without being asked for: not where it would keep the processor for long."""
    return count <= _FEW or importlib.util.find_spec("openTSNE") is not None


def methods() -> dict[str, str]:
    """Those that can be drawn here, and what they are called."""
    there = importlib.util.find_spec("umap") is not None
    return {name: title for name, title in METHODS.items() if name != "umap" or there}
