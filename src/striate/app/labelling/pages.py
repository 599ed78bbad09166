"""The pages of labelling: classes, a grid to keep or reject, the instruction sheet, the review, near-duplicates."""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markdown_it import MarkdownIt
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from striate.app.duplicates import members_of
from striate.app.labelling.ledger import STAGES
from striate.app.labelling.ranking import ORDERS
from striate.app.labelling.review import Review, review
from striate.app.labelling.session import Changed, Given, Session
from striate.app.web.server import page, templates
from striate.errors import BadInput

_LARGEST_BODY = 1 << 20
_THUMB_SIDE = 256
_GROUPS_A_PAGE = 50


class Pages:
    """Routes on a session.

    Args:
        session: what is being labelled.
        sheet: the instructions, Markdown.
    """

    def __init__(self, session: Session, sheet: str) -> None:
        self._session, self._sheet = session, sheet
        self._templates = templates()
        self._positions: dict[str, int] | None = None
        self._review: tuple[int, Review] | None = None

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/", self.home),
            Route("/label", self.label),
            Route("/sheet", self.sheet),
            Route("/review", self.review),
            Route("/duplicates", self.duplicates),
            Route("/picture/{position:int}", self.picture),
            Route("/api/page", self.api_page),
            Route("/api/decide", self.api_decide, methods=["POST"]),
            Route("/api/last", self.api_last),
        ]

    # Pages ---------------------------------------------------------------------------------------------------------

    def home(self, request: Request) -> Response:
        """The classes and how far each is."""
        session = self._session
        classes = [{"name": name, **session.progress(name)} for name in session.classes]
        store = {"path": str(session.store.path), "pictures": len(session.store), "aside": session.aside}
        return page(self._templates, "home.html.jinja", classes=classes, store=store, ranked=session.ranker is not None)

    def label(self, request: Request) -> Response:
        """The grid; which class, stage and order is in the address."""
        name, stage = request.query_params.get("class", ""), request.query_params.get("stage", "first")
        entry = self._session.known(name)
        if stage not in STAGES:
            raise BadInput(f"no stage {stage[:20]!r}: there are {', '.join(STAGES)}")
        ranked = self._session.ranker is not None
        values = {"name": name, "stage": stage, "terms": entry.terms, "orders": ORDERS if ranked else ("found",)}
        return page(self._templates, "label.html.jinja", **values, sheet=self._sheet_of(name))

    def sheet(self, request: Request) -> Response:
        """The instructions, of one class or of all."""
        name = request.query_params.get("class")
        names = [name] if name is not None else list(self._session.classes)
        sheets = [self._sheet_of(one) for one in names]
        return page(self._templates, "sheet.html.jinja", sheets=sheets, general=self._markdown(self._sheet))

    def _sheet_of(self, name: str) -> dict[str, Any]:
        entry = self._session.known(name).entry
        examples = {
            side: [self._data_uri(position) for position in self._found(keys)]
            for side, keys in (("include", entry.examples.include), ("exclude", entry.examples.exclude))
        }
        return {
            "name": name,
            "plural": entry.plural,
            "general": self._markdown(self._sheet),
            "include": self._markdown(entry.include),
            "exclude": self._markdown(entry.exclude),
            "examples": examples,
        }

    @staticmethod
    def _markdown(text: str) -> str:
        # HTML in it is shown, not obeyed.
        return str(MarkdownIt("commonmark", {"html": False}).render(text))

    def _found(self, keys: Sequence[str]) -> list[int]:
        if self._positions is None:
            self._positions = {key: position for position, key in enumerate(self._session.store.keys)}
        return [self._positions[key] for key in keys if key in self._positions]

    def review(self, request: Request) -> Response:
        """Agreement, error rates, disagreements, suspects."""
        session = self._session
        if self._review is None or self._review[0] != session.ledger.count:
            self._review = session.ledger.count, review(session)
        found = self._review[1]
        shown = {
            name: [
                {"image": self._data_uri(position), "answers": answers, "position": position}
                for position, answers in session.disputed(name)[:60]
            ]
            for name in session.classes
        }
        suspects = [{**one, "image": self._data_uri(one["position"])} for one in found.suspects[:60]]
        return page(self._templates, "review.html.jinja", review=found, disputed=shown, suspects=suspects)

    def duplicates(self, request: Request) -> Response:
        """Groups of near-duplicates side by side, the picture kept first."""
        groups = members_of(self._session.store)
        number = max(0, int(request.query_params.get("page", "0") if request.query_params.get("page", "0").isdigit() else 0))
        shown = groups[number * _GROUPS_A_PAGE : (number + 1) * _GROUPS_A_PAGE]
        rows = [
            {
                "score": one["score"],
                "kept": next(iter(map(self._data_uri, self._found([one["kept"]]))), None),
                "kept_key": one["kept"],
                "aside": [{"key": each["key"], "image": self._data_uri(each["position"])} for each in one["aside"][:40]],
            }
            for one in shown
        ]
        pages = math.ceil(len(groups) / _GROUPS_A_PAGE)
        return page(self._templates, "duplicates.html.jinja", groups=rows, total=len(groups), number=number, pages=pages)

    def picture(self, request: Request) -> Response:
        """One picture as PNG, at its own size."""
        position = int(request.path_params["position"])
        if not 0 <= position < len(self._session.store):
            return Response("There is no such picture.", status_code=404)
        try:
            data = png(self._session.store[position])
        except BadInput as error:
            return Response(f"This picture cannot be shown: {error}", status_code=500)
        return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=3600"})

    # What the grid asks for ----------------------------------------------------------------------------------------

    def api_page(self, request: Request) -> Response:
        """The next pictures of a class for a labeller, pixels included: a key press then waits for nothing."""
        asked = request.query_params
        session, name = self._session, asked.get("class", "")
        stage: Any = asked.get("stage", "first")
        order: Any = asked.get("order", "found")
        beside = [int(part) for part in asked.get("beside", "").split(",") if part.isdigit()]
        count = int(asked["count"]) if asked.get("count", "").isdigit() else 40
        wide, fresh = asked.get("wide") == "1", asked.get("fresh") == "1"
        try:
            found = session.page(asked.get("labeller", ""), name, stage, order, count, wide, beside, fresh)
        except Changed as error:
            return JSONResponse({"error": str(error)}, status_code=409)
        said = dict(session.disputed(name)) if stage == "settle" else {}
        pictures = [
            {
                "position": position,
                "term": session.term(position),
                "image": self._data_uri(position),
                # Who settles a dispute sees what was said; who verifies does not.
                "said": [f"{one.labeller}: {one.answer}" for one in said.get(position, [])],
            }
            for position in found
        ]
        return JSONResponse({"pictures": pictures, "tally": session.tally(name, stage)})

    async def api_decide(self, request: Request) -> Response:
        """Answers, which are on disk when this returns."""
        body = await request.body()
        if len(body) > _LARGEST_BODY:
            return JSONResponse({"error": "too many answers at once"}, status_code=413)
        try:
            sent = json.loads(body)
            given = [
                Given(str(one["token"]), int(one["position"]), str(one["answer"]), float(one["seconds"]))
                for one in sent["decisions"]
            ]
            labeller, name, stage = str(sent["labeller"]), str(sent["class"]), sent["stage"]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            return JSONResponse({"error": f"not a list of answers: {type(error).__name__} {error}"}, status_code=400)
        try:
            # In a thread: the disk is waited for, other labellers are not.
            added = await asyncio.to_thread(self._session.decide, labeller, name, stage, given)
        except Changed as error:
            return JSONResponse({"error": str(error)}, status_code=409)
        return JSONResponse({"saved": len(given), "new": added, "tally": self._session.tally(name, stage)})

    def api_last(self, request: Request) -> Response:
        """The picture a labeller answered on last, to go back to."""
        asked = request.query_params
        stage: Any = asked.get("stage", "first")
        self._session.known(asked.get("class", ""))
        position = self._session.last(asked.get("labeller", ""), asked.get("class", ""), stage)
        if position is None:
            return JSONResponse({"picture": None})
        picture = {"position": position, "term": self._session.term(position), "image": self._data_uri(position)}
        return JSONResponse({"picture": picture})

    def _data_uri(self, position: int) -> str | None:
        """A picture for a page; None where it cannot be shown."""
        return _data_uri(self._session.store, position)


@functools.lru_cache(maxsize=20_000)
def _data_uri(store: Any, position: int) -> str | None:
    try:
        return "data:image/png;base64," + base64.b64encode(png(store[position], _THUMB_SIDE)).decode("ascii")
    except BadInput:
        return None


def png(picture: np.ndarray, side: int | None = None) -> bytes:
    """uint8 (c, h, w) as PNG, no side longer than this."""
    image = Image.fromarray(picture[0] if len(picture) == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0)))
    if side is not None and max(image.size) > side:
        image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def read_sheet(file: Path | None) -> str:
    """The instructions: the user's own, or those that come with Striate.

    Raises:
        BadInput: the file cannot be read.
    """
    if file is None:
        from importlib import resources

        return resources.files("striate.app.web").joinpath("sheet.md").read_text(encoding="utf-8")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the instruction sheet {file} cannot be read: {error}") from None
