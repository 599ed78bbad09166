"""Pictures for the pages: one by itself, what is known of it, and many on one sheet."""

from __future__ import annotations

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from striate.app.exploring.answered import whole_numbers
from striate.app.exploring.filters import shrunk
from striate.app.exploring.subject import Subject
from striate.app.web.pictures import picture_response, png, readable, tiles
from striate.errors import BadInput

# Pictures of one sheet, and the side of each.
ATLAS_MOST, ATLAS_COLUMNS = 256, 16
_SIDE = 64


class PictureRoutes:
    """Routes of pictures."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/picture/{position:int}", self.picture),
            Route("/api/about", self.about),
            Route("/atlas.png", self.atlas),
        ]

    def picture(self, request: Request) -> Response:
        """One as PNG, at its own size."""
        return picture_response(self._subject.store, int(request.path_params["position"]))

    def about(self, request: Request) -> Response:
        """Key, label, search term, and why it was set aside."""
        asked = whole_numbers(request.query_params.get("at", ""), "picture", ATLAS_MOST)
        return JSONResponse([self._subject.about(position) for position in asked])

    def atlas(self, request: Request) -> Response:
        """Up to 256 pictures on one sheet, 16 a row, in the order asked for."""
        store = self._subject.store
        asked = whole_numbers(request.query_params.get("at", ""), "picture", ATLAS_MOST)
        if not asked or max(asked) >= len(store):
            raise BadInput(f"expected 1 to {ATLAS_MOST} pictures from 0 to {len(store) - 1}")
        pictures = shrunk(readable(store, np.array(asked)), atlas_side(store.shape))
        data = png(tiles(pictures, ATLAS_COLUMNS))
        return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=3600"})


def atlas_side(shape: tuple[int, int, int]) -> int:
    """Pixels of a picture's side on a sheet."""
    return min(_SIDE, max(shape[1:]))
