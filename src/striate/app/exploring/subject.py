"""What the pages show: a run (perhaps still training) and a store, with all that is worked out of them once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from striate.app.exploring.jobs import Job, Jobs
from striate.app.exploring.layers import Layer, layers_of
from striate.app.features import Features, default_layer, kept_features
from striate.app.load import TrainedModel, encoder_file, load_model
from striate.app.screen import Screen
from striate.app.searching import Found, Searcher
from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.aside import aside_reasons
from striate.images.store import read_rows
from striate.measure import FilterFits, fit_filters
from striate.measure.units import UnitStatistics, UnitSums
from striate.models.encoder import Encoder

_AT_ONCE = 1024
_FITTED_AT_ONCE = 128
# Filters beyond these are neither drawn nor fitted.
MOST_FILTERS = 20_000


class NotYet(BadInput):
    """There is no model, or no collection, to show."""


@dataclass(frozen=True)
class Answers:
    """What a layer's units answer to every picture of the store; maps by their largest answer anywhere in the picture.

    Attributes:
        rows: float16 (pictures, units), or a memory map of such.
        statistics: of each unit.
    """

    rows: np.ndarray
    statistics: UnitStatistics


@dataclass(frozen=True)
class _Loaded:
    stamp: tuple[int, int]
    model: TrainedModel
    encoder: Encoder
    layers: dict[str, Layer]


class Subject:
    """A run and a store.

    Args:
        run: a run directory, or an encoder file.
        store: the collection; None: the pages about pictures say why there is none.
        why_no_store: what they say.
        layer: whose features the map and the search stand on; by default the model's last.
    """

    def __init__(self, run: Path, store: ImageStore | None, why_no_store: str = "", layer: str | None = None) -> None:
        self.run, self.jobs = run, Jobs()
        self._store, self._why_no_store, self._layer = store, why_no_store, layer
        self._mutex = threading.RLock()
        self._loaded: _Loaded | None = None
        self._keys: list[str] | None = None
        self._terms: list[str] | None = None

    # The run -------------------------------------------------------------------------------------------------------

    def _load(self) -> _Loaded:
        """The model as it is on disk now: a run that trains saves one when it ends, and another when it is resumed."""
        with self._mutex:
            file = encoder_file(self.run)
            try:
                found = file.stat()
            except OSError:
                raise NotYet("This run has not saved a model yet: it saves one when training ends.") from None
            stamp = found.st_mtime_ns, found.st_size
            if self._loaded is None or self._loaded.stamp != stamp:
                model = load_model(self.run)
                encoder = model.encoder(self._shape_for(model))
                if self._loaded is not None:
                    self.jobs.forget()
                self._loaded = _Loaded(stamp, model, encoder, layers_of(model, encoder))
            return self._loaded

    def _shape_for(self, model: TrainedModel) -> tuple[int, int, int]:
        """Patch models read pictures of any size."""
        fits = self._store is not None and model.preprocessor.settings.patch is not None
        return self._store.shape if self._store is not None and fits else model.image_shape

    @property
    def model(self) -> TrainedModel:
        """The trained model.

        Raises:
            NotYet: the run has not saved one.
        """
        return self._load().model

    @property
    def encoder(self) -> Encoder:
        """The same as an encoder of the store's pictures."""
        return self._load().encoder

    @property
    def layers(self) -> dict[str, Layer]:
        """Its layers by name, lowest first."""
        return self._load().layers

    @property
    def has_model(self) -> bool:
        """Whether the run has saved a model."""
        try:
            self._load()
        except NotYet:
            return False
        return True

    def check_layer(self) -> None:
        """Make sure that the layer asked for is there.

        Raises:
            BadInput: it is not.
        """
        self.a_layer(self.layer)

    @property
    def layer(self) -> str:
        """The one that map and search stand on."""
        return self._layer or default_layer(self.encoder)

    def a_layer(self, name: str | None) -> Layer:
        """One by name, by default the lowest.

        Raises:
            BadInput: there is none of this name.
        """
        layers = self.layers
        if name is None:
            return next(iter(layers.values()))
        if name not in layers:
            raise BadInput(f"no layer {name[:40]!r}: this model has {', '.join(layers)}")
        return layers[name]

    def described(self) -> dict[str, Any]:
        """run.json, as far as it can be read."""
        try:
            found = json.loads((self.run / "run.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    # The collection ------------------------------------------------------------------------------------------------

    @property
    def has_store(self) -> bool:
        """Whether there is a collection."""
        return self._store is not None

    @property
    def store(self) -> ImageStore:
        """The collection.

        Raises:
            NotYet: there is none.
        """
        if self._store is None:
            raise NotYet(self._why_no_store or "No collection was given.")
        return self._store

    @property
    def keys(self) -> list[str]:
        """Every picture's name."""
        if self._keys is None:
            self._keys = self.store.keys
        return self._keys

    @property
    def terms(self) -> list[str]:
        """Every picture's search term, empty where it has none."""
        if self._terms is None:
            self._terms = [term or "" for term in read_rows(self.store.path, "meta", ["term"])["term"].to_pylist()]
        return self._terms

    def class_name(self, label: int) -> str:
        """What a label is called."""
        names = self.store.class_names
        return names[label] if 0 <= label < len(names) else f"class {label}"

    def about(self, position: int) -> dict[str, Any]:
        """A picture in words.

        Raises:
            BadInput: there is none.
        """
        if not 0 <= position < len(self.store):
            raise BadInput(f"no picture {position}: there are {len(self.store):,}")
        label = int(self.store.labels[position])
        found: dict[str, Any] = {"position": position, "key": self.keys[position]}
        if label >= 0:
            found["label"] = self.class_name(label)
        if self.terms[position]:
            found["term"] = self.terms[position]
        if reason := aside_reasons(self.store).get(position):
            found["aside"] = reason
        return found

    def check_fit(self) -> None:
        """Make sure that the model reads the store's pictures.

        Raises:
            BadInput: it does not.
        """
        if self.encoder.image_shape != self.store.shape:
            channels, height, width = self.encoder.image_shape
            mode = "grey" if channels == 1 else "colour"
            raise BadInput(
                f"This model takes {mode} pictures of {width}x{height}; {self.store.path} holds {_sized(self.store.shape)}: "
                "import them at that size (--size, --mode), or give another store."
            )

    # Worked out in the background ----------------------------------------------------------------------------------

    def features(self, layer: str | None = None) -> Job:
        """Features of a layer of every picture, encoded once and kept beside the store."""
        self.check_fit()
        name = layer or self.layer

        def work(screen: Screen) -> Features:
            return kept_features(self.run, self.store, name, screen)

        return self.jobs.start(f"features/{name}", f"encoding {len(self.store):,} pictures ({name})", work)

    def searcher(self) -> Job:
        """Search among those features, ready to answer."""
        begun = self.features()

        def work(screen: Screen) -> Searcher:
            made = Searcher(self.store, begun.result)
            # Before somebody waits for an answer.
            screen.check()
            _ = made.norms
            return made

        return self.jobs.start("search", "making search ready", work, begun)

    def nearest(self, at: list[int], pictures: np.ndarray | None, k: int) -> Found:
        """The collection's pictures nearest to the mean direction of examples, these left out, and their cosines.

        Args:
            at: positions of examples in the collection.
            pictures: examples from elsewhere, uint8 (m, c, h, w), or None.
            k: how many to find; fewer where there are fewer.

        Raises:
            BadInput: search is not ready, or there are no such positions.
        """
        job = self.searcher()
        if job.state != "done":
            raise BadInput(f"not ready yet: {job.says}")
        searcher: Searcher = job.result
        k = min(k, len(self.store))
        if pictures is None:
            return searcher.by_positions(at, k)
        examples = [searcher.encoded(pictures, self.encoder)]
        if at:
            examples.append(searcher.features.take(np.array(at)))
        return searcher.by_query(searcher.query(np.concatenate(examples)), k, without=np.array(at, dtype=np.int64))

    def fits(self, layer: Layer) -> Job:
        """Which of a layer's filters are edges, points, noise."""

        def work(screen: Screen) -> FilterFits:
            assert layer.filters is not None
            filters, parts = layer.filters[:MOST_FILTERS], []
            with screen.progress("fitting", len(filters), "filters") as task:
                for some in filters.split(_FITTED_AT_ONCE):
                    parts.append(fit_filters(some))
                    task.advance(len(some))
            names = [one.name for one in fields(FilterFits)]
            return FilterFits(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

        return self.jobs.start(f"fits/{layer.name}", f"fitting filters ({layer.name})", work, line="filters")

    def before_answers(self, layer: Layer) -> Job:
        """What has to be done before a single unit's answers can be told: features on disk, or all units' answers."""
        self.check_fit()
        return self.features(layer.name) if self._kept(layer) else self.answers(layer)

    def answers_of(self, layer: Layer, unit: int) -> np.ndarray:
        """One unit's answers to every picture, float32 (pictures,), once `before_answers` is done."""
        result = self.before_answers(layer).result
        if isinstance(result, Answers):
            return result.rows[:, unit].astype(np.float32)
        assert isinstance(result, Features) and result.array is not None
        places = result.array[:, unit * layer.places : (unit + 1) * layer.places]
        return np.asarray(places.max(axis=1)).astype(np.float32)

    def _kept(self, layer: Layer) -> bool:
        """Whether a layer's features are kept on disk: not those of many maps, which would be gigabytes."""
        return layer.places == 1 or layer.name == self.layer

    def answers(self, layer: Layer) -> Job:
        """Answers of all of a layer's units to every picture, and their statistics."""
        self.check_fit()
        begun = self.features(layer.name) if self._kept(layer) else None

        def work(screen: Screen) -> Answers:
            return self._answers(layer, begun.result if begun is not None else None, screen)

        return self.jobs.start(f"answers/{layer.name}", f"looking at every unit ({layer.name})", work, begun, "units")

    def _answers(self, layer: Layer, features: Features | None, screen: Screen) -> Answers:
        sums = UnitSums(layer.units)
        # Features are not copied where each is a unit of its own.
        mapped = features.array if features is not None and layer.places == 1 else None
        rows = np.empty((len(self.store), layer.units), np.float16) if mapped is None else mapped
        with screen.progress("units", len(self.store), "pictures") as task:
            for start, block in self._blocks(layer, features):
                strongest = block.reshape(len(block), layer.units, layer.places).max(axis=2)
                sums.update(strongest)
                if mapped is None:
                    rows[start : start + len(block)] = strongest
                task.advance(len(block))
        return Answers(rows, sums.statistics())

    def _blocks(self, layer: Layer, features: Features | None) -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, len(self.store), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(self.store))
            if features is not None:
                yield start, features.rows(start, stop)
            else:
                yield start, self.encoder.encode(self.store[start:stop], [layer.name])[layer.name].numpy()


def _sized(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{'grey' if channels == 1 else 'colour'} ones of {width}x{height}"
