"""One unit: its weights large, its numbers, the pictures that excite it most and least, its answers, its optimal stimulus."""

from __future__ import annotations

import math
from typing import Any

import jinja2
import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from striate.app.exploring.answered import whole_number
from striate.app.exploring.layers import Layer, levels
from striate.app.exploring.subject import Subject
from striate.app.exploring.wanted import is_climbed, wanted
from striate.app.screen import Screen
from striate.app.web.pictures import data_address, data_uri
from striate.app.web.server import page
from striate.errors import BadInput
from striate.measure import FilterFits, fit_filters
from striate.measure.filters import KINDS
from striate.measure.units import UnitSums

_MOST, _LEAST = 48, 24
_BINS = 40


class UnitPage:
    """Routes of a unit's page."""

    def __init__(self, subject: Subject, environment: jinja2.Environment) -> None:
        self._subject, self._templates = subject, environment

    def routes(self) -> list[Route]:
        """The page and what it asks for."""
        return [Route("/unit", self.unit), Route("/api/stimulus", self.stimulus)]

    def _asked(self, request: Request) -> tuple[Layer, int]:
        layer = self._subject.a_layer(request.query_params.get("layer"))
        unit = whole_number(request.query_params.get("unit"), "unit")
        if unit >= layer.units:
            raise BadInput(f"no {layer.kind} {unit} in {layer.name}: there are {layer.units:,}, counted from 0")
        return layer, unit

    def unit(self, request: Request) -> Response:
        """The page; what is not known yet is filled in when it is."""
        layer, unit = self._asked(request)
        subject = self._subject
        values: dict[str, Any] = {"layer": layer, "unit": unit, "answers": None, "why": "", "job": None}
        try:
            job = subject.before_answers(layer)
            if job.state == "done":
                values["answers"] = self._answers(subject.answers_of(layer, unit))
            else:
                values["job"] = job.told()
        except BadInput as error:
            values["why"] = str(error)
        climbed = is_climbed(subject.model) and subject.has_store and not values["why"]
        return page(
            self._templates, "unit.html.jinja", here="/filters", weights=self._weights(layer, unit), climbed=climbed, **values
        )  # fmt: skip

    def _weights(self, layer: Layer, unit: int) -> dict[str, Any] | None:
        if layer.filters is None:
            return None
        one = layer.filters[unit : unit + 1]
        model = self._subject.model
        found: dict[str, Any] = {"picture": data_address(levels(one)[0]), "fit": self._fit(layer, unit), "pixels": None}
        if model.preprocessor.settings.kind == "whiten" and model.parts.sparse is None:
            found["pixels"] = data_address(levels(model.preprocessor.filters_to_pixels(one.flatten(1)))[0])
        return found

    def _fit(self, layer: Layer, unit: int) -> dict[str, Any]:
        assert layer.filters is not None
        job = self._subject.jobs.known(f"fits/{layer.name}")
        fits, at = (job.result, unit) if job is not None and job.state == "done" else (None, 0)
        if fits is None or at >= len(fits.kind):
            fits, at = fit_filters(layer.filters[unit : unit + 1]), 0
        return _in_words(fits, at)

    def _answers(self, given: np.ndarray) -> dict[str, Any]:
        sums = UnitSums(1)
        sums.update(given[:, None])
        statistics = sums.statistics()
        order = np.argsort(-given, kind="stable")
        counts, edges = np.histogram(given, bins=_BINS)
        return {
            "mean": float(statistics.mean[0]),
            "deviation": float(statistics.deviation[0]),
            "largest": float(statistics.largest[0]),
            "sparseness": _finite(statistics.sparseness[0]),
            "silent": bool(statistics.silent[0]),
            "most": [self._shown(int(position), given) for position in order[:_MOST]],
            "least": [self._shown(int(position), given) for position in order[::-1][:_LEAST]],
            "histogram": _bars(counts, edges),
        }

    def _shown(self, position: int, given: np.ndarray) -> dict[str, Any]:
        subject = self._subject
        return {
            "position": position,
            "image": data_uri(subject.store, position),
            "answer": float(given[position]),
            "key": subject.keys[position],
        }

    def stimulus(self, request: Request) -> Response:
        """The picture of a given contrast that the unit answers most, climbed to in the background."""
        layer, unit = self._asked(request)
        if not is_climbed(self._subject.model):
            raise BadInput("of patches, the filter itself is the optimal stimulus")

        def work(screen: Screen) -> str:
            subject = self._subject
            subject.check_fit()
            return data_address(wanted(subject.model, subject.encoder, layer, unit, subject.store, screen))

        name, says = f"stimulus/{layer.name}/{unit}", f"looking for what {layer.kind} {unit} wants"
        job = self._subject.jobs.start(name, says, work, line="units")
        return JSONResponse(job.told() | ({"picture": job.result} if job.state == "done" else {}))


def _in_words(fits: FilterFits, at: int) -> dict[str, Any]:
    kind = KINDS[int(fits.kind[at])]
    return {
        "kind": kind,
        "explained": float(fits.gabor_r2[at]),
        "orientation": math.degrees(float(fits.orientation[at])),
        "wavelength": 1 / max(float(fits.frequency[at]), 1e-6),
        "localisation": float(fits.localisation[at]),
        "saturation": float(fits.saturation[at]),
    }


def _bars(counts: np.ndarray, edges: np.ndarray) -> dict[str, Any]:
    """A histogram in a box of 400 by 120; heights by the logarithm, as most units are silent most of the time."""
    heights = np.log1p(counts) / max(float(np.log1p(counts).max()), 1e-12)
    width = 400 / len(counts)
    bars = [
        {
            "x": round(number * width, 2),
            "width": round(width - 1, 2),
            "height": round(110 * float(height), 2),
            "count": int(count),
        }
        for number, (height, count) in enumerate(zip(heights, counts, strict=True))
    ]
    return {"bars": bars, "low": float(edges[0]), "high": float(edges[-1])}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
