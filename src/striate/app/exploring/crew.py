"""Replicas on the first page: who is there and how fast, how stale, what shards have to do, who came and went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from striate.app.crew_files import read_now
from striate.app.exploring.subject import Subject

# Of those who came and went, the last so many.
_MOST_VISITS = 200
_LOST = ("replicas_lost", "machines_left", "minibatches_redone", "lost", "refused")


class CrewPart:
    """What the page asks for while it is open.

    Args:
        subject: the run.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def routes(self) -> list[Route]:
        """One."""
        return [Route("/api/crew", self.crew)]

    def shown(self) -> bool:
        """Whether replicas train the run, or have."""
        return "replicas" in _cluster(self._subject)

    def crew(self, request: Request) -> Response:
        """As the driver last said it; of a run that has ended, as run.json keeps it."""
        return JSONResponse(standing(self._subject.run, _cluster(self._subject)))


def standing(run: Path, cluster: dict[str, Any]) -> dict[str, Any]:
    """How a run of replicas stands, with everybody who was ever there."""
    now = read_now(run)
    over = now.get("ended", True)
    told = cluster if over else now
    visits = cluster.get("crew", []) if over else [*cluster.get("crew", []), *now.get("crew", [])]
    return {
        "wanted": str(now.get("wanted", cluster.get("wanted", cluster.get("replicas", "")))),
        "replicas": [] if over else now.get("replicas", []),
        "shards": [] if over else now.get("shards", []),
        "staleness": told.get("staleness", {}),
        "lost": {name: told.get(name, 0) for name in _LOST},
        "visits": visits[-_MOST_VISITS:],
    }


def _cluster(subject: Subject) -> dict[str, Any]:
    found = subject.described().get("cluster")
    return found if isinstance(found, dict) else {}
