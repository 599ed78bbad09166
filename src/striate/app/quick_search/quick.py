"""Something quick names candidates, the features themselves judge them, and a sample says what is missed.

What is needed for it is made once and kept beside the features; it is made again when those are others. Effort (how many
candidates, how many cells) is doubled until, of a hundred pictures' ten true neighbours, 95% are found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from striate.app.feature_files import Features
from striate.app.screen import Screen
from striate.app.searching import Engine, rows_of
from striate.draws import generator
from striate.errors import BadInput
from striate.files import write_whole
from striate.measure.embedding import sample_positions
from striate.measure.retrieval import Nearest, judged, nearest, share_found

FORMAT, VERSION = "striate-index", 1
METRICS = ("cosine", "l2")
_BLOCK = 4096
_QUERIES, _NEIGHBOURS, _WANTED = 100, 10, 0.95

Finder = Callable[[np.ndarray, int, int], np.ndarray]
"""Queries (q, dim) as `prepared` gives them, k and effort to positions of candidates (q, any); -1: none."""


class Method(Protocol):
    """A way to find candidates quickly.

    Attributes:
        kind: for people.
        suffix: of the file where it keeps what it needs, after a metric's name.
        efforts: to be tried, least first.
    """

    kind: str
    suffix: str
    efforts: Sequence[int]

    def make(self, sample: np.ndarray, blocks: Iterator[np.ndarray], count: int, file: Path) -> None:
        """Write a file for so many rows, which come block by block; a sample of them is there to learn from."""
        ...

    def open(self, file: Path) -> Finder:
        """What such a file is searched with."""
        ...


@dataclass(frozen=True)
class Quick:
    """A quick search, ready.

    Attributes:
        engine: for a `Searcher`.
        file: where what it needs is kept.
        about: kind, metric, features (of what they are), effort, recall, queries, neighbours.
    """

    engine: Engine
    file: Path
    about: dict[str, Any]


def quick_search(features: Features, method: Method, metric: str, screen: Screen) -> Quick:
    """Open what is kept beside the features, or make it and measure what it misses.

    Raises:
        BadInput: the metric is not served (`dot` has no neighbourhoods), or the folder cannot be written.
    """
    if metric not in METRICS:
        raise BadInput(f"metric {metric!r} has exact search only: quick search serves {' and '.join(METRICS)}")
    file = features.path.with_name(f"{features.path.name}.{metric}.{method.suffix}")
    wanted = {
        "format": FORMAT,
        "version": VERSION,
        "kind": method.kind,
        "metric": metric,
        "features": {name: features.about[name] for name in ("model", "layer", "store", "count", "dim")},
    }
    kept = _read(_about_file(file)) if file.exists() else None
    if kept is None or any(kept.get(name) != value for name, value in wanted.items()):
        if kept is not None:
            screen.say(f"{file} was made of other features: making it again")
        kept = _made(features, method, metric, file, wanted, screen)
    return Quick(_engine(features, method.open(file), metric, int(kept["effort"])), file, kept)


def _made(features: Features, method: Method, metric: str, file: Path, about: dict[str, Any], screen: Screen) -> dict[str, Any]:
    sample = _prepared(features.take(sample_positions(len(features))), metric)
    sample = sample[np.isfinite(sample).all(axis=1)]
    _about_file(file).unlink(missing_ok=True)
    try:
        blocks = _blocks(features, metric, screen)
        write_whole(file, lambda temporary: method.make(sample, blocks, len(features), temporary))
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror or error}") from None
    about = about | _tuned(features, method, metric, file)
    write_whole(_about_file(file), lambda temporary: temporary.write_text(json.dumps(about, indent=1) + "\n"))
    return about


def _tuned(features: Features, method: Method, metric: str, file: Path) -> dict[str, Any]:
    """The least effort whose recall will do, and that recall, on pictures of the collection itself."""
    count = min(_QUERIES, len(features))
    chosen = np.sort(generator(0, "recall").choice(len(features), count, replace=False))
    queries = features.take(chosen)
    usable = np.isfinite(queries).all(axis=1) & queries.any(axis=1)
    queries = queries[usable]
    neighbours = min(_NEIGHBOURS + 1, len(features))
    # A picture is its own nearest: it counts for neither side.
    own = chosen[usable, None]
    truth = nearest(queries, rows_of(features), neighbours, metric).positions
    finder, recall, effort = method.open(file), 0.0, method.efforts[0]
    for effort in method.efforts:
        found = _engine(features, finder, metric, effort)(queries, neighbours).positions
        recall = share_found(np.where(truth == own, -1, truth), found)
        if recall >= _WANTED:
            break
    return {"effort": effort, "recall": recall, "queries": len(queries), "neighbours": neighbours - 1}


def _engine(features: Features, finder: Finder, metric: str, effort: int) -> Engine:
    def search(queries: np.ndarray, k: int) -> Nearest:
        candidates = finder(_prepared(queries, metric), k, effort)
        return judged(queries, features.take, candidates, k, metric)

    return search


def _prepared(rows: np.ndarray, metric: str) -> np.ndarray:
    """Rows whose plain distances order them as the metric does, float32."""
    rows = np.asarray(rows, dtype=np.float32)
    if metric == "l2":
        return rows
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms != 0)


def _blocks(features: Features, metric: str, screen: Screen) -> Iterator[np.ndarray]:
    with screen.progress("indexing", len(features), "pictures") as task:
        for start in range(0, len(features), _BLOCK):
            rows = _prepared(features.rows(start, start + _BLOCK), metric)
            yield rows
            task.advance(len(rows))


def _about_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _read(file: Path) -> dict[str, Any] | None:
    try:
        about = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) else None
