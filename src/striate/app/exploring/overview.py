"""The first page: what the run is and how it goes, curves that follow it, its filters, what was measured."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
from safetensors.torch import load_file
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from striate.app.exploring.crew import CrewPart
from striate.app.exploring.curves import new_lines
from striate.app.exploring.layers import levels
from striate.app.exploring.subject import NotYet, Subject
from striate.app.web.pictures import png, tiles
from striate.app.web.server import page
from striate.errors import BadInput
from striate.train.checkpoint import read_json

# A run that says it is running and wrote nothing for so long was perhaps killed.
_SILENT_S = 600
_SHEET = 100
_LONGEST_RECIPE = 20_000


class OverviewPage:
    """Routes of the overview."""

    def __init__(self, subject: Subject, environment: jinja2.Environment) -> None:
        self._subject, self._templates, self._crew = subject, environment, CrewPart(subject)

    def routes(self) -> list[Route]:
        """The page and what it asks for."""
        return [
            Route("/", self.overview),
            Route("/api/curves", self.curves),
            Route("/api/status", self.status_answer),
            Route("/api/jobs", self.jobs),
            Route("/sheet.png", self.sheet),
            *self._crew.routes(),
        ]

    def overview(self, request: Request) -> Response:
        """What the run is."""
        subject = self._subject
        values: dict[str, Any] = {
            "run": str(subject.run),
            "name": subject.run.name,
            "status": self._status(),
            "described": subject.described(),
            "recipe": _text(subject.run / "recipe.yaml"),
            "probe": _probe(subject.run),
            "store": str(subject.store.path) if subject.has_store else None,
            "pictures": len(subject.store) if subject.has_store else 0,
            "why_no_store": "" if subject.has_store else _reason(lambda: subject.store),
            "replicas": self._crew.shown(),
            "model": None,
            "why_no_model": "",
        }
        try:
            values["model"] = self._model()
        except BadInput as error:
            values["why_no_model"] = str(error)
        return page(self._templates, "overview.html.jinja", here="/", **values)

    def _model(self) -> dict[str, Any]:
        subject = self._subject
        layers = [asdict(one) | {"kind": one.kind, "filters": one.filters is not None} for one in subject.layers.values()]
        lowest = next((one for one in subject.layers.values() if one.filters is not None), None)
        if lowest is not None:
            subject.fits(lowest)
        return {
            "title": subject.model.description["name"],
            "shape": subject.encoder.image_shape,
            "layers": layers,
            "layer": subject.layer,
            "fits": lowest.name if lowest is not None else None,
        }

    def _status(self) -> dict[str, Any]:
        run = self._subject.run
        found = self._subject.described()
        status = str(found.get("status", "unknown"))
        quiet = None
        if status == "running":
            written = [file.stat().st_mtime for name in ("metrics.jsonl", "run.json") if (file := run / name).exists()]
            quiet = time.time() - max(written, default=0.0)
        silent = quiet is not None and quiet > _SILENT_S
        return {
            "status": status,
            "ended": str(found.get("ended", "")) if status != "running" else "",
            "silent_minutes": round(quiet / 60) if quiet is not None and silent else None,
            "model": self._subject.has_model,
        }

    def status_answer(self, request: Request) -> Response:
        """How the run goes."""
        return JSONResponse(self._status())

    def curves(self, request: Request) -> Response:
        """Lines of metrics from a byte on."""
        asked = request.query_params.get("from", "0")
        start = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 16 else 0
        return JSONResponse(asdict(new_lines(self._subject.run, start)) | self._status())

    def jobs(self, request: Request) -> Response:
        """What is being worked out, and the kinds of filters once they are known."""
        return JSONResponse({"jobs": self._subject.jobs.told()})

    def sheet(self, request: Request) -> Response:
        """A hundred filters, of the model or of the latest snapshot of a run that has none yet."""
        filters = None
        try:
            filters = next((one.filters for one in self._subject.layers.values() if one.filters is not None), None)
        except NotYet:
            kept = sorted((self._subject.run / "snapshots").glob("step-*.safetensors"))
            filters = load_file(kept[-1])["weights"] if kept else None
        if filters is None:
            return Response("There are no filters to show yet.", status_code=404)
        step = max(1, len(filters) // _SHEET)
        drawn = levels(filters[::step][:_SHEET])
        return Response(png(tiles(drawn, 20)), media_type="image/png", headers={"cache-control": "no-store"})


def _reason(ask: Any) -> str:
    try:
        ask()
    except BadInput as error:
        return str(error)
    return ""


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")[:_LONGEST_RECIPE]
    except OSError:
        return ""


def _probe(run: Path) -> list[dict[str, Any]]:
    """Rows of what `striate probe` left, if it was run."""
    file = run / "probe.json"
    try:
        found = read_json(file) if file.exists() else {}
    except (ValueError, OSError):
        return []
    names = (("pixels", "raw pixels"), ("features", f"features ({found.get('layer', '')})"), ("net", "the net itself"))
    return [{"from": name, **found[key]} for key, name in names if isinstance(found.get(key), dict)]
