"""Pictures like one or several others: of the collection, or of a file that the visitor gives."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from typing import Any

import anyio.to_thread
import jinja2
import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from striate.app.exploring.answered import body_of, whole_number, whole_numbers
from striate.app.exploring.subject import Subject
from striate.app.searching import Found
from striate.app.web.pictures import data_address, data_uri
from striate.app.web.server import page
from striate.errors import BadInput
from striate.images.decode import Target, decode, own_limits
from striate.images.items import Rejected

_LARGEST_FILE = 30_000_000
_MOST_PIXELS = 50_000_000
_MOST_EXAMPLES = 24
_MOST_GIVEN = 64
_SHOWN = 60


class SimilarPage:
    """Routes of similar pictures. Files that visitors give stay in memory, the latest 64 of them, and go with the server."""

    def __init__(self, subject: Subject, environment: jinja2.Environment) -> None:
        self._subject, self._templates = subject, environment
        self._given: OrderedDict[str, np.ndarray] = OrderedDict()
        self._mutex = threading.Lock()
        # Pillow's limits are the process's: one file at a time changes them.
        self._decoding = threading.Lock()

    def routes(self) -> list[Route]:
        """The page and what it asks for."""
        return [
            Route("/similar", self.similar),
            Route("/api/given", self.give, methods=["POST"]),
            Route("/api/neighbours", self.neighbours),
        ]

    def similar(self, request: Request) -> Response:
        """Examples above, the nearest pictures below."""
        subject = self._subject
        given = [token for token in request.query_params.get("given", "").split(",") if token][:_MOST_EXAMPLES]
        at = whole_numbers(request.query_params.get("at", ""), "picture", _MOST_EXAMPLES)
        values: dict[str, Any] = {"examples": self._examples(at, given), "found": None, "job": None, "why": "", "some": []}
        try:
            job = subject.searcher()
            if job.state != "done":
                values["job"] = job.told()
            elif values["examples"]:
                values["found"] = self._shown(self._search(at, given, _SHOWN))
        except BadInput as error:
            values["why"] = str(error)
        if not values["examples"] and subject.has_store:
            spread = np.linspace(0, len(subject.store) - 1, min(24, len(subject.store))).astype(int)
            values["some"] = [self._one(int(position)) for position in spread]
        return page(
            self._templates, "similar.html.jinja", here="/similar", at=at, given=given, most=_MOST_EXAMPLES,
            layer=subject.layer if not values["why"] else "", **values,
        )  # fmt: skip

    def _examples(self, at: list[int], given: list[str]) -> list[dict[str, Any]]:
        examples = [{**self._one(position), "without": _address([p for p in at if p != position], given)} for position in at]
        for token in given:
            picture = self._picture(token)
            without = _address(at, [one for one in given if one != token])
            examples.append({"image": data_address(picture, 256), "key": "your picture", "without": without})
        return examples

    def _picture(self, token: str) -> np.ndarray:
        with self._mutex:
            if token not in self._given:
                raise BadInput(
                    "This picture is no longer here (the server was restarted, or many came after it): give it again."
                )
            return self._given[token]

    def _one(self, position: int) -> dict[str, Any]:
        return {**self._subject.about(position), "image": data_uri(self._subject.store, position)}

    def _shown(self, found: Found) -> list[dict[str, Any]]:
        pairs = zip(found.positions.tolist(), found.scores.tolist(), strict=True)
        return [{**self._one(position), "score": score} for position, score in pairs]

    def _search(self, at: list[int], given: list[str], k: int) -> Found:
        pictures = [self._picture(token) for token in given]
        return self._subject.nearest(at, np.stack(pictures) if pictures else None, k)

    def neighbours(self, request: Request) -> Response:
        """The nearest pictures to one, with what is known of them."""
        asked = request.query_params
        position = whole_number(asked.get("at"), "picture")
        count = min(whole_number(asked.get("count", "12"), "count"), 100)
        about = self._subject.about(position)
        job = self._subject.searcher()
        if job.state != "done":
            return JSONResponse({"job": job.told()})
        near = self._subject.nearest([position], None, count)
        pairs = zip(near.positions.tolist(), near.scores.tolist(), strict=True)
        found = [{**self._subject.about(at), "score": round(score, 4)} for at, score in pairs]
        return JSONResponse({"of": about, "found": found})

    async def give(self, request: Request) -> Response:
        """Take a file that the visitor chose; its name for later requests."""
        data = await body_of(request, _LARGEST_FILE)
        picture = await anyio.to_thread.run_sync(self._decoded, data)
        token = secrets.token_urlsafe(9)
        with self._mutex:
            self._given[token] = picture
            while len(self._given) > _MOST_GIVEN:
                self._given.popitem(last=False)
        return JSONResponse({"given": token})

    def _decoded(self, data: bytes) -> np.ndarray:
        """As an import would decode it, at the collection's size.

        Raises:
            BadInput: it is no picture that can be used.
        """
        try:
            with self._decoding, own_limits():
                return decode(data, Target(self._subject.store.shape, max_pixels=_MOST_PIXELS))
        except Rejected as error:
            raise BadInput(f"This file cannot be used as a picture: {error}") from None


def _address(at: list[int], given: list[str]) -> str:
    parts = [f"at={','.join(map(str, at))}" if at else "", f"given={','.join(given)}" if given else ""]
    return "/similar?" + "&".join(part for part in parts if part)
