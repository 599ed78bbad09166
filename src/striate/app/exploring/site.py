"""All pages of `striate serve` under one navigation."""

from __future__ import annotations

from starlette.routing import Route

from striate.app.exploring.confusions import ConfusionsPage
from striate.app.exploring.filters import FiltersPage
from striate.app.exploring.labels import HOME, LabelPages
from striate.app.exploring.map import MapPage
from striate.app.exploring.overview import OverviewPage
from striate.app.exploring.pictures import PictureRoutes
from striate.app.exploring.similar import SimilarPage
from striate.app.exploring.subject import Subject
from striate.app.exploring.unit import UnitPage
from striate.app.web.duplicates import DuplicatesPage
from striate.app.web.server import Link, templates

_RUN = (Link("/", "Overview"), Link("/filters", "Filters"))
_COLLECTION = (
    Link("/map", "Map"),
    Link("/similar", "Similar"),
    Link("/confusions", "Confusions"),
    Link("/duplicates", "Duplicates"),
    Link(HOME, "Labels"),
)


class Site:
    """Routes on a run and a store.

    Args:
        subject: what is shown.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._links = (*_RUN, *(_COLLECTION if subject.has_store else ()))
        environment = templates(self._links)
        self._labels = LabelPages(subject, environment, self._links)
        self._pages = [
            one(subject, environment)
            for one in (OverviewPage, FiltersPage, UnitPage, MapPage, SimilarPage, ConfusionsPage)
        ]  # fmt: skip
        self._environment = environment

    def routes(self) -> list[Route]:
        """All of them; without a store, those about the run alone, and the rest say why."""
        found = [route for one in self._pages for route in one.routes()]
        found += PictureRoutes(self._subject).routes()
        if self._subject.has_store:
            found += DuplicatesPage(self._subject.store, self._environment).routes() + self._labels.routes()
        return found

    def close(self) -> None:
        """End the work behind the pages, and give the store back."""
        self._subject.jobs.stop()
        self._labels.close()
