"""Sheets and the report: every picture where it belongs, every outside word escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from striate.show import Figure, Report, Section, Table, contact_sheet, filter_sheet, pair_sheet, png_bytes, render
from striate.show import figures as draw

PNG = b"\x89PNG\r\n\x1a\n"


def test_every_picture_lies_whole_in_its_cell() -> None:
    """Constant pictures of level 10 k: cell k of the sheet, borders left out, holds 10 k only."""
    pictures = np.stack([np.full((3, 5, 4), 10 * k, np.uint8) for k in range(7)])
    sheet = contact_sheet(pictures, columns=3)
    enlarge = sheet.shape[1] // (3 * 5 + 1)
    assert sheet.shape == ((3 * 6 + 1) * enlarge, (3 * 5 + 1) * enlarge, 3)
    small = sheet[::enlarge, ::enlarge]
    for k in range(7):
        row, column = divmod(k, 3)
        cell = small[1 + row * 6 : 6 + row * 6, 1 + column * 5 : 5 + column * 5]
        assert (cell == 10 * k).all()


def test_filters_lie_around_mid_grey_each_by_its_own_largest_weight() -> None:
    filters = np.zeros((2, 1, 4, 4), np.float32)
    filters[0, 0, 0, 0], filters[1, 0, 1, 1] = 5.0, -0.01
    sheet = filter_sheet(filters, columns=2)
    levels = set(np.unique(sheet)) - {24}
    assert levels == {0, 128, 255}
    joint = filter_sheet(filters, columns=2, scale="joint")
    assert 0 not in np.unique(joint)


def test_more_filters_than_the_limit_are_picked_evenly() -> None:
    filters = np.random.default_rng(0).standard_normal((1000, 3, 8, 8))
    assert filter_sheet(filters, limit=100).shape == filter_sheet(filters[:100]).shape


def test_pairs_stand_one_above_the_other() -> None:
    originals, others = np.full((3, 3, 4, 4), 200.0), np.full((3, 3, 4, 4), 300.0)
    sheet = pair_sheet(originals, others, columns=3)
    enlarge = sheet.shape[1] // (3 * 5 + 1)
    small = sheet[::enlarge, ::enlarge]
    assert (small[1:5, 1:5] == 200).all()
    assert (small[6:10, 1:5] == 255).all()


@pytest.mark.parametrize(
    "data",
    [
        draw.curve([1, 2, 3], [3.0, 2.0, 1.0], "step", "error"),
        draw.stacked_shares([0, 1], {"edge": [0.1, 0.9], "point": [0.0, 0.0], "noise": [0.9, 0.1]}, "step"),
        draw.histogram(np.arange(10.0), "x"),
        draw.orientations(np.linspace(0, 3, 50)),
        draw.matrix(np.eye(3, dtype=int) * 5, ["a", "b", "c"]),
        draw.spectrum(np.geomspace(1e6, 1e-1, 50), 10),
        draw.image(np.eye(4)),
        png_bytes(np.zeros((4, 4, 3), np.uint8)),
    ],
    ids=["curve", "shares", "histogram", "orientations", "matrix", "spectrum", "image", "png"],
)
def test_every_figure_is_a_png(data: bytes) -> None:
    assert data.startswith(PNG)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_whole_self_contained_and_escapes_what_came_from_outside() -> None:
    evil = '<script>alert("x")</script>'
    png = png_bytes(np.zeros((4, 4, 3), np.uint8))
    section = Section(evil, evil, [Figure(evil, png, wide=True)], [Table([evil], [[evil]])], evil)
    page = render(Report(evil, evil, [("1", evil)], [section], [evil]))
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert "script" not in [tag for tag, _ in tags.seen]
    assert page.count("&lt;script&gt;") >= 9
    sources = [attributes["src"] for tag, attributes in tags.seen if tag == "img"]
    assert len(sources) == 1
    assert sources[0] is not None
    assert sources[0].startswith("data:image/png;base64,")
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert not re.findall(r"url\(|@import|https?://", page)
