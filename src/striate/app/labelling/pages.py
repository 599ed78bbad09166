"""The pages of labelling: classes, a grid to keep or reject, the instruction sheet, the review, near-duplicates."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from striate.app.labelling.ledger import STAGES
from striate.app.labelling.ranking import ORDERS
from striate.app.labelling.review import Review, review
from striate.app.labelling.session import Changed, Given, Session
from striate.app.web.duplicates import DuplicatesPage
from striate.app.web.pictures import data_uri, picture_response
from striate.app.web.server import Link, page, templates
from striate.errors import BadInput

_LARGEST_BODY = 1 << 20
LINKS = (Link("/", "Classes"), Link("/review", "Review"), Link("/duplicates", "Duplicates"), Link("/sheet", "Instructions"))


class Pages:
    """Routes on a session.

    Args:
        session: what is being labelled.
        sheet: the instructions, Markdown.
        links: of the navigation.
        below: a second line of links, where these pages are part of a larger site.
    """

    def __init__(self, session: Session, sheet: str, links: Sequence[Link] = LINKS, below: Sequence[Link] = ()) -> None:
        self._session, self._sheet = session, sheet
        self._templates = templates(links, below)
        self._duplicates = DuplicatesPage(session.store, self._templates)
        self._review: tuple[int, Review] | None = None

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/", self.home),
            *self._duplicates.routes(),
            *self.labelling_routes(),
            Route("/picture/{position:int}", self.picture),
        ]

    def labelling_routes(self) -> list[Route]:
        """Those that are about labels alone."""
        return [
            Route("/label", self.label),
            Route("/sheet", self.sheet),
            Route("/review", self.review),
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
        return page(
            self._templates,
            "home.html.jinja",
            here=request.url.path,
            classes=classes,
            store=store,
            ranked=session.ranker is not None,
        )

    def label(self, request: Request) -> Response:
        """The grid; which class, stage and order is in the address."""
        name, stage = request.query_params.get("class", ""), request.query_params.get("stage", "first")
        entry = self._session.known(name)
        if stage not in STAGES:
            raise BadInput(f"no stage {stage[:20]!r}: there are {', '.join(STAGES)}")
        ranked = self._session.ranker is not None
        values = {"name": name, "stage": stage, "terms": entry.terms, "orders": ORDERS if ranked else ("found",)}
        return page(self._templates, "label.html.jinja", here="/label", **values, sheet=self._sheet_of(name))

    def sheet(self, request: Request) -> Response:
        """The instructions, of one class or of all."""
        name = request.query_params.get("class")
        names = [name] if name is not None else list(self._session.classes)
        sheets = [self._sheet_of(one) for one in names]
        return page(self._templates, "sheet.html.jinja", here="/sheet", sheets=sheets, general=self._markdown(self._sheet))

    def _sheet_of(self, name: str) -> dict[str, Any]:
        entry = self._session.known(name).entry
        examples = {
            side: [self._data_uri(position) for position in self._duplicates.positions(keys)]
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
        return page(self._templates, "review.html.jinja", here="/review", review=found, disputed=shown, suspects=suspects)

    def picture(self, request: Request) -> Response:
        """One picture as PNG, at its own size."""
        return picture_response(self._session.store, int(request.path_params["position"]))

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
        return data_uri(self._session.store, position)


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
