"""report.html: one self-contained file that opens offline, in light and dark, on a laptop and a phone."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

from jinja2 import Environment


@dataclass(frozen=True)
class Figure:
    """One picture with what it shows. `pixelated` keeps enlarged pixels sharp."""

    caption: str
    png: bytes
    pixelated: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two, figures and tables."""

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    preformatted: str = ""


@dataclass(frozen=True)
class Report:
    """What the page shows, top to bottom.

    Attributes:
        title: of the page.
        subtitle: what was trained on what.
        headline: (number, what it is) shown large.
    """

    title: str
    subtitle: str
    headline: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    credits: Sequence[str] = field(default_factory=tuple)


def render(report: Report) -> str:
    """The page as HTML; everything that came from outside is escaped."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    template = resources.files("striate.show").joinpath("report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(report=report)
