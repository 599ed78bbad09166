"""The wall: every unit of a layer as one small picture, of its filter or of the picture that excites it most."""

from __future__ import annotations

import math
from typing import Any

import jinja2
import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from striate.app.exploring.layers import Layer, levels
from striate.app.exploring.subject import MOST_FILTERS, Subject
from striate.app.web.pictures import png, readable, tiles
from striate.app.web.server import page
from striate.errors import BadInput
from striate.measure.filters import KINDS

# Pictures that stand for units are no larger.
_SIDE = 48


class FiltersPage:
    """Routes of the wall."""

    def __init__(self, subject: Subject, environment: jinja2.Environment) -> None:
        self._subject, self._templates = subject, environment

    def routes(self) -> list[Route]:
        """The page and what it asks for."""
        return [
            Route("/filters", self.wall),
            Route("/api/units", self.units),
            Route("/wall.png", self.sheet),
        ]

    def wall(self, request: Request) -> Response:
        """The page; its pictures come in one sheet."""
        subject = self._subject
        layer = subject.a_layer(request.query_params.get("layer"))
        if layer.filters is not None:
            subject.fits(layer)
        why = ""
        try:
            subject.answers(layer)
        except BadInput as error:
            why = str(error)
        return page(
            self._templates, "filters.html.jinja", here="/filters", layers=list(subject.layers.values()), layer=layer,
            dewhitened=self._whitened(layer), why=why, most=MOST_FILTERS,
        )  # fmt: skip

    def _whitened(self, layer: Layer) -> bool:
        model = self._subject.model
        return layer.filters is not None and model.preprocessor.settings.kind == "whiten" and model.parts.sparse is None

    def units(self, request: Request) -> Response:
        """Everything known of each unit, as columns, and where on the sheet it is."""
        subject = self._subject
        layer = subject.a_layer(request.query_params.get("layer"))
        count = min(layer.units, MOST_FILTERS)
        found: dict[str, Any] = {"units": count, "columns": sheet_columns(count), "kinds": list(KINDS)}
        if layer.filters is not None:
            height, width = layer.filters.shape[2:]
            found |= {"sheet": "filters", "side": [height, width]}
            fits = subject.jobs.known(f"fits/{layer.name}")
            if fits is not None and fits.state == "done":
                for name in ("kind", "orientation", "frequency", "localisation", "saturation", "gabor_r2"):
                    found[name] = _column(getattr(fits.result, name))
        answers = subject.jobs.known(f"answers/{layer.name}")
        if answers is not None and answers.state == "done":
            statistics = answers.result.statistics
            for name in ("mean", "sparseness", "largest", "silent"):
                found[name] = _column(getattr(statistics, name)[:count])
            if layer.filters is None:
                found |= {"sheet": "best", "side": [_SIDE, _SIDE]}
        waiting = [job for job in (subject.jobs.known(f"fits/{layer.name}"), answers) if job is not None]
        return JSONResponse(found | {"jobs": [job.told() for job in waiting]})

    def sheet(self, request: Request) -> Response:
        """All units' pictures on one PNG, in their order."""
        asked = request.query_params
        layer = self._subject.a_layer(asked.get("layer"))
        if layer.filters is not None:
            filters = layer.filters[:MOST_FILTERS]
            if asked.get("space") == "pixels" and self._whitened(layer):
                filters = self._subject.model.preprocessor.filters_to_pixels(filters.flatten(1))
            drawn = levels(filters)
        else:
            drawn = self._best(layer)
        data = png(tiles(drawn, sheet_columns(len(drawn))))
        return Response(data, media_type="image/png", headers={"cache-control": "no-store"})

    def _best(self, layer: Layer) -> np.ndarray:
        """Each unit's favourite picture, shrunk."""
        job = self._subject.answers(layer)
        if job.state != "done":
            raise BadInput(f"not known yet: {job.says}")
        pictures = readable(self._subject.store, job.result.statistics.best[:MOST_FILTERS])
        return shrunk(pictures, _SIDE)


def sheet_columns(count: int) -> int:
    """Of a sheet that is about square."""
    return max(1, math.ceil(math.sqrt(count)))


def shrunk(pictures: np.ndarray, side: int) -> np.ndarray:
    """Pictures uint8 (n, c, h, w) as (n, c, side, side): smaller ones repeated by the nearest pixel, larger ones averaged."""
    height, width = pictures.shape[2:]
    if height > side or width > side:
        import torch
        import torch.nn.functional as F

        parts = [
            F.interpolate(torch.from_numpy(pictures[start : start + 1024]).float(), size=(side, side), mode="area")
            .round()
            .byte()
            for start in range(0, len(pictures), 1024)
        ]
        return torch.cat(parts).numpy() if parts else np.zeros((0, pictures.shape[1], side, side), np.uint8)
    rows, columns = (np.arange(side) * size // side for size in (height, width))
    return pictures[:, :, rows][:, :, :, columns]


def _column(values: np.ndarray) -> list[Any]:
    """Numbers for JSON, four digits of them, None where one is not finite."""
    if values.dtype == bool or np.issubdtype(values.dtype, np.integer):
        return [int(value) for value in values]
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values.tolist()]
