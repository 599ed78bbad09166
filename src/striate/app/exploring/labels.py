"""The labelling pages within this site: opened when somebody first asks for them, as they write into the store."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio.to_thread
import jinja2
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from striate.app.exploring.subject import Subject
from striate.app.labelling.classes import classes_of
from striate.app.labelling.ledger import Ledger
from striate.app.labelling.pages import Pages, read_sheet
from striate.app.labelling.ranking import Ranker
from striate.app.labelling.session import Session
from striate.app.web.server import Link, page
from striate.errors import BadInput

HOME = "/classes"
BELOW = (Link(HOME, "Classes"), Link("/review", "Review"), Link("/sheet", "Instructions"))
_ADDRESSES = ("/label", "/sheet", "/review", "/api/page", "/api/decide", "/api/last")


class LabelPages:
    """Routes of labelling, on a session that the first visit opens."""

    def __init__(self, subject: Subject, environment: jinja2.Environment, links: Sequence[Link]) -> None:
        self._subject, self._templates, self._links = subject, environment, links
        self._mutex = threading.Lock()
        self._ledger: Ledger | None = None
        self._session: Session | None = None
        self._handlers: dict[str, Any] = {}

    def routes(self) -> list[Route]:
        """The same as of `striate label`, classes at an address of their own."""
        return [
            Route(HOME, partial(self._answer, HOME)),
            *(Route(each, partial(self._answer, each), methods=_methods(each)) for each in _ADDRESSES),
        ]

    async def _answer(self, address: str, request: Request) -> Response:
        try:
            handlers = await anyio.to_thread.run_sync(self._open)
        except BadInput as error:
            if address.startswith("/api/"):
                return JSONResponse({"error": str(error)}, status_code=400)
            return page(self._templates, "none.html.jinja", here=HOME, title="Labels", why=str(error))
        handler = handlers[address]
        if inspect.iscoroutinefunction(handler):
            return await handler(request)
        return await anyio.to_thread.run_sync(handler, request)

    def _open(self) -> dict[str, Any]:
        """The pages' handlers by address.

        Raises:
            BadInput: nothing to label, or another server labels this store.
        """
        with self._mutex:
            if not self._handlers:
                store = self._subject.store
                classes = classes_of(store)
                self._ledger = Ledger(store.path)
                self._session = Session(store, classes, self._ledger)
                pages = Pages(self._session, read_sheet(None), self._links, BELOW)
                self._handlers = {route.path: route.endpoint for route in pages.labelling_routes()} | {HOME: pages.home}
            self._rank()
            return self._handlers

    def _rank(self) -> None:
        """Features order the pictures as soon as they are there; until then they come as they were found."""
        session = self._session
        assert session is not None
        if session.ranker is not None:
            session.refit()
            return
        with suppress(BadInput):
            begun = self._subject.features()
            job = self._subject.jobs.start(
                "ranker", "making the order of pictures ready", lambda screen: Ranker(begun.result.array), begun, "classifier"
            )
            session.ranker = job.result if job.state == "done" else None

    def close(self) -> None:
        """Give the store back."""
        if self._ledger is not None:
            self._ledger.close()


def _methods(address: str) -> list[str]:
    return ["POST"] if address == "/api/decide" else ["GET"]
