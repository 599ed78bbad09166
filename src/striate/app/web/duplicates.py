"""The page of near-duplicates that were set aside: groups side by side, the picture kept first."""

from __future__ import annotations

import math
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from striate.app.duplicates import members_of
from striate.app.web.pictures import data_uri
from striate.app.web.server import page
from striate.images import ImageStore

_GROUPS_A_PAGE = 50
_SHOWN = 40


class DuplicatesPage:
    """Routes on what `striate dedupe` found in a store."""

    def __init__(self, store: ImageStore, environment: jinja2.Environment) -> None:
        self._store, self._templates = store, environment
        self._positions: dict[str, int] | None = None

    def routes(self) -> list[Route]:
        """The one."""
        return [Route("/duplicates", self.duplicates)]

    def positions(self, keys: list[str]) -> list[int]:
        """Where pictures of these keys are; those that are not there are left out."""
        if self._positions is None:
            self._positions = {key: position for position, key in enumerate(self._store.keys)}
        return [self._positions[key] for key in keys if key in self._positions]

    def duplicates(self, request: Request) -> Response:
        """Fifty groups, nearest first."""
        groups = members_of(self._store)
        asked = request.query_params.get("page", "0")
        number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 0
        shown = groups[number * _GROUPS_A_PAGE : (number + 1) * _GROUPS_A_PAGE]
        rows = [self._row(one) for one in shown]
        pages = math.ceil(len(groups) / _GROUPS_A_PAGE)
        return page(
            self._templates,
            "duplicates.html.jinja",
            here="/duplicates",
            groups=rows,
            total=len(groups),
            number=number,
            pages=pages,
        )

    def _row(self, group: dict[str, Any]) -> dict[str, Any]:
        kept = self.positions([group["kept"]])
        return {
            "score": group["score"],
            "kept": data_uri(self._store, kept[0]) if kept else None,
            "kept_key": group["kept"],
            "aside": [
                {"key": each["key"], "image": data_uri(self._store, each["position"])} for each in group["aside"][:_SHOWN]
            ],
        }
