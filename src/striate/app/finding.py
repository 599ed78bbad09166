"""What `search` does: opens features and a way to search them, asks, names what was found, draws it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from striate.app.asking import Asked, ask
from striate.app.feature_files import SUFFIXES, Features, read_features
from striate.app.features import kept_features, source_of
from striate.app.quick_search import InvertedLists, Quick, SignCodes, quick_search
from striate.app.screen import Screen
from striate.app.searching import Found, Searcher
from striate.compute import choose_device
from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.items import UNLABELLED
from striate.measure.retrieval import metric_named
from striate.models.encoder import Encoder
from striate.show import save_png
from striate.show.captions import captioned_sheet

_SCORES = {"cosine": "cosine", "l2": "distance", "dot": "product"}


@dataclass(frozen=True)
class Search:
    """Everything that a question needs.

    Attributes:
        searcher: of the store.
        run: the model's, if it is known.
        quick: what the searcher goes through, if not through everything.
        source: as it was given, a run or a features file.
    """

    searcher: Searcher
    run: str | None
    quick: Quick | None
    source: str

    def encoder(self) -> Encoder:
        """The model that the features are of.

        Raises:
            BadInput: the run is not known, or it is another.
        """
        features, store = self.searcher.features, self.searcher.store
        if self.run is None:
            raise BadInput(
                f"{self.source} holds features only: to search for a picture file give the run they came from, --run"
            )
        found = source_of(self.run, store.shape)
        if found.digest != features.about["model"]:
            raise BadInput(
                f"{features.path} holds features of another model ({features.about['name']}) than {self.run} ({found.name}): "
                "give the run they came from, or encode the store again"
            )
        return found.encoder


def opened(
    source: str,
    store_path: Path,
    screen: Screen,
    layer: str | None = None,
    metric: str = "cosine",
    run: str | None = None,
    bits: int | None = None,
    index: bool = False,
    device: str = "auto",
) -> Search:
    """A store's features, of a run (encoded if need be) or in a file, and a way to search them.

    Raises:
        BadInput: they do not belong together, or something asked for is not there.
    """
    metric_named(metric)
    place, store = choose_device(device), ImageStore(store_path)
    if not len(store):
        raise BadInput(f"{store_path} is empty: there is nothing to search")
    features, run = _features(source, store, layer, run, screen)
    searcher = Searcher(store, features, metric, device=place)
    if bits is None and not index:
        return Search(searcher, run, None, source)
    quick = quick_search(features, InvertedLists() if bits is None else SignCodes(bits), metric, screen)
    return Search(Searcher(store, features, metric, quick.engine), run, quick, source)


def _features(
    source: str, store: ImageStore, layer: str | None, run: str | None, screen: Screen
) -> tuple[Features, str | None]:
    if not source.endswith(SUFFIXES) or Path(source).name == "encoder.safetensors":
        if run is not None:
            raise BadInput(f"--run {run} goes with a features file, and {source} is a run itself: leave it out")
        return kept_features(source, store, layer, screen), source
    features = read_features(Path(source))
    if layer not in (None, features.about["layer"]):
        raise BadInput(f"{source} holds features of layer {features.about['layer']}, not {layer}: encode that one")
    return features, run


def find(
    search: Search, files: Sequence[str], keys: Sequence[str], k: int, sheet: Path | None, allow_urls: bool = False
) -> dict[str, Any]:
    """Pictures like some files and pictures of the store."""
    searcher = search.searcher
    searcher.check_k(k)
    asked = ask(searcher, files, keys, search.encoder, allow_urls)
    found = searcher.by_query(asked.row, k, without=asked.positions)
    result = _described(search, _SCORES[searcher.metric], found) | {"asked": list(asked.names), "metric": searcher.metric}
    if sheet is not None:
        _draw(sheet, searcher.store, asked, [found])
    return result | {"sheet": None if sheet is None else str(sheet), "next": _next(search, result)}


def find_unit(search: Search, unit: int, k: int, sheet: Path | None) -> dict[str, Any]:
    """Pictures that a unit answers to most, and least."""
    searcher = search.searcher
    most, least = searcher.by_unit(unit, k), searcher.by_unit(unit, k, least=True)
    result = _described(search, "activity", most) | {"unit": unit, "least": _named(searcher.store, least)}
    if sheet is not None:
        _draw(sheet, searcher.store, None, [most, least])
    return result | {"sheet": None if sheet is None else str(sheet), "next": _next(search, result)}


def _described(search: Search, score: str, found: Found) -> dict[str, Any]:
    about = search.searcher.features.about
    described = {
        "score": score,
        "found": _named(search.searcher.store, found),
        "searched": len(search.searcher.store),
        "layer": about["layer"],
        "name": about["name"],
        "features": str(search.searcher.features.path),
    }
    if search.quick is not None:
        described |= {"through": search.quick.about["kind"], "recall": search.quick.about["recall"]}
    return described


def _named(store: ImageStore, found: Found) -> list[dict[str, Any]]:
    table = store.table.select(["key", "source"]).take(found.positions)
    rows = zip(table["key"].to_pylist(), table["source"].to_pylist(), found.positions.tolist(), found.scores.tolist())
    return [
        {"key": key, "source": source, "position": position, "score": score, "label": _label(store, position)}
        for key, source, position, score in rows
    ]


def _label(store: ImageStore, position: int) -> str | None:
    label = int(store.labels[position])
    if label == UNLABELLED:
        return None
    return store.class_names[label] if label < len(store.class_names) else f"class {label}"


def _draw(sheet: Path, store: ImageStore, asked: Asked | None, groups: Sequence[Found]) -> None:
    pictures, captions = [store[one.positions] for one in groups], []
    for one in groups:
        labels = [_label(store, position) for position in one.positions.tolist()]
        captions += [f"{score:.3f}  {label or ''}" for score, label in zip(one.scores.tolist(), labels)]
    if asked is not None:
        pictures.insert(0, asked.pictures)
        captions = [*(Path(name).name or name for name in asked.names), *captions]
    made = captioned_sheet(np.concatenate(pictures), captions, [len(one) for one in pictures], framed=asked is not None)
    try:
        save_png(made, sheet)
    except (OSError, ValueError) as error:
        raise BadInput(f"{sheet} cannot be written as PNG: {error}") from None


def _next(search: Search, result: dict[str, Any]) -> str:
    """The command that usually follows: search on from the best, or look at the model's page."""
    found = result["found"]
    store = shlex.quote(str(search.searcher.store.path))
    if "unit" in result and search.run is not None:
        return f"striate serve {shlex.quote(search.run)} {store}"
    key = found[0]["key"] if found else "KEY"
    return f"striate search {shlex.quote(search.source)} {store} --key {shlex.quote(key)}"
