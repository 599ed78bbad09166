"""The map page: points, colours and what they mean, as bytes that the page draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jinja2
import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from striate.app.exploring.answered import whole_number
from striate.app.exploring.mapping import Ground, Map, begins_itself, ground, map_of, methods
from striate.app.exploring.pictures import ATLAS_COLUMNS, ATLAS_MOST, atlas_side
from striate.app.exploring.subject import Subject
from striate.app.web.server import page
from striate.errors import BadInput

# Of a colour byte: nothing known, and the last that means something.
_NONE, _LAST = 255, 254
_TOP = (1 << 16) - 1
_BY = {"label": "label", "term": "search term", "cluster": "cluster", "unit": "a unit's answer"}


@dataclass(frozen=True)
class Colours:
    """A byte a picture.

    Attributes:
        bytes: uint8 (n,); 255 is none.
        names: of groups with their counts, most first, where bytes name groups.
        low, high: answers that 0 and 254 stand for, where they are answers.
    """

    bytes: np.ndarray
    names: tuple[tuple[str, int], ...] = ()
    low: float = 0.0
    high: float = 0.0


class MapPage:
    """Routes of the map."""

    def __init__(self, subject: Subject, environment: jinja2.Environment) -> None:
        self._subject, self._templates = subject, environment

    def routes(self) -> list[Route]:
        """The page and what it asks for."""
        return [
            Route("/map", self.map),
            Route("/api/map", self.state),
            Route("/map/points", self.points),
            Route("/map/colours", self.colours),
            Route("/api/legend", self.legend),
        ]

    def map(self, request: Request) -> Response:
        """The page; maps are begun by asking for it."""
        subject = self._subject
        values: dict[str, Any] = {"why": "", "job": None, "layers": [], "pictures": 0, "side": 0}
        try:
            values["pictures"], values["side"] = len(subject.store), atlas_side(subject.store.shape)
            job = map_of(subject, "pca")
            values["job"] = None if job.state == "done" else job.told()
            values["layers"] = list(subject.layers.values())
            if len(subject.store) > 3 and begins_itself(len(subject.store)):
                map_of(subject, "tsne")
        except BadInput as error:
            values["why"] = str(error)
        return page(
            self._templates, "map.html.jinja", here="/map", methods=methods(), by=self._ways(), columns=ATLAS_COLUMNS,
            at_once=ATLAS_MOST, layer=subject.layer if not values["why"] else "", **values,
        )  # fmt: skip

    def _ways(self) -> dict[str, str]:
        """What points can be coloured by here."""
        subject = self._subject
        if not subject.has_store:
            return {}
        there = {"label": bool(subject.store.labelled), "term": any(subject.terms)}
        return {name: title for name, title in _BY.items() if there.get(name, True)}

    def state(self, request: Request) -> Response:
        """Which maps are there, and how much of the truth each keeps."""
        found = {}
        for name in methods():
            job = self._subject.jobs.known(f"map/{name}")
            if job is not None:
                found[name] = job.told() | ({"kept": asdict(job.result.kept)} if job.state == "done" else {})
        waiting = [self._subject.jobs.known(name) for name in (f"features/{self._subject.layer}", "map")]
        return JSONResponse({"maps": found, "before": [job.told() for job in waiting if job is not None]})

    def _method(self, request: Request) -> str:
        method = request.query_params.get("method", "pca")
        if method not in methods():
            raise BadInput(f"no map {method[:20]!r} here: there are {', '.join(methods())}")
        return method

    def points(self, request: Request) -> Response:
        """uint16 (n, 2), little-endian: where each picture is in a square, x before y; 409 while the map is being made."""
        job = map_of(self._subject, self._method(request))
        if job.state != "done":
            return JSONResponse(job.told(), status_code=409 if job.state != "failed" else 500)
        found: Map = job.result
        return _bytes(in_square(found.points))

    def colours(self, request: Request) -> Response:
        """uint8 (n,)."""
        found = self._coloured(request)
        return _bytes(found.bytes) if isinstance(found, Colours) else JSONResponse(found, status_code=409)

    def legend(self, request: Request) -> Response:
        """What the bytes mean."""
        found = self._coloured(request)
        if not isinstance(found, Colours):
            return JSONResponse({"job": found})
        names = [{"name": name, "count": count} for name, count in found.names]
        return JSONResponse({"names": names, "low": found.low, "high": found.high})

    def _coloured(self, request: Request) -> Colours | dict[str, Any]:
        """Or the work that is waited for."""
        subject, by = self._subject, request.query_params.get("by", "label")
        if by == "label":
            labels = subject.store.labels
            return grouped(labels, [subject.class_name(label) for label in range(int(labels.max(initial=-1)) + 1)])
        if by == "term":
            names = sorted(set(subject.terms) - {""})
            at = {name: number for number, name in enumerate(names)}
            return grouped(np.array([at.get(term, -1) for term in subject.terms]), names)
        if by == "cluster":
            job = ground(subject)
            if job.state != "done":
                return job.told()
            made: Ground = job.result
            return grouped(made.clusters.astype(np.int64), [f"cluster {number + 1}" for number in range(256)])
        if by == "unit":
            return self._by_unit(request)
        raise BadInput(f"no colours by {by[:20]!r}: there are {', '.join(_BY)}")

    def _by_unit(self, request: Request) -> Colours | dict[str, Any]:
        layer = self._subject.a_layer(request.query_params.get("layer") or self._subject.layer)
        unit = whole_number(request.query_params.get("unit", "0"), "unit")
        if unit >= layer.units:
            raise BadInput(f"no {layer.kind} {unit} in {layer.name}: there are {layer.units:,}, counted from 0")
        job = self._subject.before_answers(layer)
        return in_levels(self._subject.answers_of(layer, unit)) if job.state == "done" else job.told()


def in_square(points: np.ndarray) -> np.ndarray:
    """Points (n, 2) in a square of 16 bits a side, both axes by one scale, centred: uint16 (n, 2), little-endian."""
    low, high = points.min(axis=0), points.max(axis=0)
    scale = max(float((high - low).max()), 1e-12)
    centred = (points - (low + high) / 2) / scale + 0.5
    return np.rint(centred.clip(0, 1) * _TOP).astype("<u2")


def grouped(groups: np.ndarray, names: Sequence[str]) -> Colours:
    """Groups (n,), negative for none, as bytes: the largest is 0; those beyond the 255th are none."""
    counts = np.bincount(groups[groups >= 0], minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0][: _LAST + 1]
    byte_of = np.full(len(counts) + 1, _NONE, np.uint8)
    byte_of[order] = np.arange(len(order))
    # The last entry stands for groups below zero.
    return Colours(byte_of[groups], tuple((names[group], int(counts[group])) for group in order))


def in_levels(answers: np.ndarray) -> Colours:
    """Answers (n,) as bytes 0 to 254; the strongest in a thousand share the last."""
    low, high = float(answers.min()), float(np.quantile(answers, 0.999))
    if high <= low:
        high = max(float(answers.max()), low + 1e-6)
    levels = ((answers - low) / (high - low)).clip(0, 1) * _LAST
    return Colours(np.rint(levels).astype(np.uint8), (), low, high)


def _bytes(array: np.ndarray) -> Response:
    return Response(array.tobytes(), media_type="application/octet-stream", headers={"cache-control": "no-store"})
