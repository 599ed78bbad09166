"""The pages of `striate serve` as somebody uses them: headless Chromium, mouse, keys, a phone, a run that is still training."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browsing import Server, chromium, opened, until
from exploring import HOSTILE, collection, run_of, write_metrics
from striate.images import ImageStore

PATHS = ("/", "/filters", "/unit?unit=2", "/map", "/similar?at=3", "/confusions", "/duplicates", "/classes")
PHONE = {"width": 390, "height": 780}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from chromium()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exploring")
    run_of(folder / "run", collection(folder).path)
    return folder


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[Server]:
    server = Server("serve", root / "run", root / "store", "--port", 0)
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def page(browser: Any, served: Server) -> Any:
    """One page for all tests that need no other."""
    return opened(browser, served, viewport={"width": 1200, "height": 800})


def on_map(page: Any, served: Server, query: str = "") -> None:
    page.goto(f"{served.base}/map{query}")
    page.wait_for_selector("#map[data-drawn]", timeout=60_000)


_PIXELS = """const canvas = document.getElementById('canvas');
const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
const pixels = new Uint32Array(data.buffer);"""


def unlit(page: Any) -> int:
    """How many points of the map, shown whole, are not where they should be on the canvas."""
    return int(
        page.evaluate(
            "fetch('/map/points').then((answer) => answer.arrayBuffer()).then((bytes) => {"
            + _PIXELS
            + "const w = canvas.width;"
            "const h = canvas.height, p = new Uint16Array(bytes), side = 0.92 * Math.min(w, h); let none = 0;"
            "for (let i = 0; i < p.length; i += 2) {"
            "  const x = Math.floor(w / 2 + (p[i] / 65535 - 0.5) * side);"
            "  const y = Math.floor(h / 2 + (0.5 - p[i + 1] / 65535) * side);"
            "  if (pixels[y * w + x] === pixels[0]) none++; } return none; })"
        )
    )


def colours(page: Any) -> int:
    """How many different ones are on the canvas."""
    return int(page.evaluate("(() => {" + _PIXELS + "return new Set(pixels).size; })()"))


def test_the_overview_draws_curves_and_kinds_of_filters(page: Any, served: Server) -> None:
    page.goto(served.base + "/")
    until(
        page, "document.querySelectorAll('.curve').length === 1 && document.getElementById('tile-step').textContent === '200'"
    )
    assert page.inner_text(".curve-card .value") == "0.005"
    until(page, "document.getElementById('kinds').textContent.includes('12 filters')")
    assert page.evaluate("document.getElementById('sheet').naturalWidth") == 80


def test_the_wall_is_walked_by_keys_and_opens_a_unit(page: Any, served: Server) -> None:
    page.goto(served.base + "/filters")
    page.wait_for_selector("#filters[data-drawn]")
    page.focus("#wall")
    # The first key comes to the first filter.
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    until(page, "document.getElementById('peek').textContent.startsWith('filter 3')", 30)
    page.keyboard.press("Enter")
    page.wait_for_url("**/unit?layer=hidden1&unit=3")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/unit?layer=hidden1&unit=4")
    page.wait_for_selector("#most figure", timeout=30_000)


def test_the_wall_shows_the_kinds_that_are_chosen_in_the_order_that_is(page: Any, served: Server) -> None:
    page.goto(served.base + "/filters")
    until(page, "document.querySelector('[data-count]').textContent !== ''", 30)
    told = page.evaluate("fetch('/api/units?layer=hidden1').then((answer) => answer.json())")
    page.select_option("#order", "mean")
    page.focus("#wall")
    page.keyboard.press("ArrowRight")
    first = int(np.argsort(-np.array(told["mean"]), kind="stable")[0])
    until(page, f"document.getElementById('peek').textContent.startsWith('filter {first} ')")
    for box in page.query_selector_all("#kinds input"):
        box.uncheck()
    assert page.evaluate("document.getElementById('wall').style.height") == "0px"


def test_the_map_shows_every_picture_and_true_neighbours_of_the_one_chosen(page: Any, served: Server) -> None:
    on_map(page, served)
    assert unlit(page) == 0
    page.focus("#canvas")
    page.keyboard.press("Enter")
    page.wait_for_selector("#map[data-chosen]")
    chosen = page.get_attribute("#map", "data-chosen")
    told = page.evaluate(f"fetch('/api/neighbours?at={chosen}&count=12').then((answer) => answer.json())")
    shown = [int(one.get_attribute("data-position")) for one in page.query_selector_all("#chosen figure")]
    assert shown[0] == int(chosen) and shown[1:13] == [one["position"] for one in told["found"]]
    assert len(shown) == 25 and "are the same" in page.inner_text("#chosen")
    assert "mislead" in page.inner_text(".caution") and "true neighbours" in page.inner_text("#kept")
    page.keyboard.press("Escape")
    assert "Scroll to zoom" in page.inner_text("#chosen")


def test_the_nearest_on_the_map_are_those_of_a_plain_search(page: Any, served: Server) -> None:
    """On a crowd with a few points far from it and from each other, where a first look around finds too few."""
    on_map(page, served)
    crowd = np.random.default_rng(0).integers(0, 3000, (400, 2))
    packed = np.concatenate([crowd, [[65535, 65535], [60000, 100], [200, 65000], [40000, 40000]]]).ravel().tolist()
    found = page.evaluate(
        "(packed) => { const points = new Points(new Uint16Array(packed)), all = [...points.x.keys()], rows = [];"
        "for (const i of all) { const far = (j) => (points.x[i] - points.x[j]) ** 2 + (points.y[i] - points.y[j]) ** 2;"
        "  rows.push([points.neighbours(i, 5), all.filter((j) => j !== i).sort((a, b) => far(a) - far(b) || a - b).slice(0, 5),"
        "    far(points.nearest(points.x[i], points.y[i], 1))]); }"
        "return rows; }",
        packed,
    )
    assert len(found) == 404
    for quick, plain, away in found:
        assert quick == plain and away == 0


def test_pictures_appear_on_the_map_as_one_comes_nearer(page: Any, served: Server) -> None:
    on_map(page, served)
    page.mouse.move(500, 400)
    for _ in range(4):
        page.mouse.wheel(0, -120)
    page.wait_for_selector("#map[data-sheets]")
    until(page, "Number(document.getElementById('map').dataset.thumbs) > 0")
    # Points are of two colours; pictures of hundreds.
    assert colours(page) > 100
    page.click("#all")


def test_pointing_at_a_picture_shows_it_with_its_name_as_text(page: Any, served: Server, root: Path) -> None:
    on_map(page, served)
    page.focus("#canvas")
    page.keyboard.press("Enter")
    page.wait_for_selector("#map[data-chosen]")
    box = page.query_selector("#canvas").bounding_box()
    position = int(page.get_attribute("#map", "data-chosen"))
    x, y = page.evaluate(
        f"fetch('/map/points').then((answer) => answer.arrayBuffer()).then((bytes) => {{ const p = new Uint16Array(bytes);"
        f"return [p[{2 * position}] / 65535, 1 - p[{2 * position + 1}] / 65535]; }})"
    )
    side = 0.92 * min(box["width"], box["height"])
    page.mouse.move(box["x"] + box["width"] / 2 + (x - 0.5) * side, box["y"] + box["height"] / 2 + (y - 0.5) * side)
    page.wait_for_selector("#tip:not([hidden])")
    shown = page.inner_text("#tip p")
    assert ImageStore(root / "store").keys[position] in shown and page.query_selector("#tip p img") is None


def test_colours_by_a_unit_come_with_the_address(page: Any, served: Server) -> None:
    on_map(page, served, "?by=unit&layer=hidden1&unit=7")
    until(page, "document.querySelector('#legend .ramp') !== null", 30)
    assert page.input_value("#unit") == "7" and page.is_visible("#which")
    page.select_option("#by", "label")
    until(page, "document.querySelectorAll('#legend .group').length === 2")
    assert HOSTILE in page.inner_text("#legend")


def test_a_file_that_is_chosen_finds_its_like_and_words_the_reason(
    page: Any, served: Server, root: Path, tmp_path: Path
) -> None:
    page.goto(served.base + "/similar")
    (tmp_path / "words.jpg").write_text("no picture")
    page.set_input_files("#file", tmp_path / "words.jpg")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "words.jpg: This file cannot be used as a picture" in page.inner_text("#trouble")
    store = ImageStore(root / "store")
    Image.fromarray(store[40].transpose(1, 2, 0)).save(tmp_path / "mine.png")
    page.set_input_files("#file", tmp_path / "mine.png")
    page.wait_for_selector("#found figure")
    assert page.get_attribute("#found figure", "data-position") == "40"
    page.click("#found [data-add]")
    page.wait_for_url("**at=40**")
    assert len(page.query_selector_all("#examples figure")) == 2


def test_a_cell_of_the_confusions_opens_its_pictures(page: Any, served: Server) -> None:
    page.goto(served.base + "/confusions")
    page.wait_for_selector("#matrix", timeout=60_000)
    cell = page.query_selector(".matrix td.right button")
    count = int(cell.get_attribute("aria-label").split(": ")[-1])
    cell.click()
    until(page, f"document.querySelectorAll('#cell-pictures figure').length === {count}")
    assert HOSTILE in page.inner_text("main") and page.query_selector("main img[src=x]") is None


@pytest.mark.parametrize("path", PATHS)
def test_a_phone_shows_every_page_without_scrolling_sideways(path: str, browser: Any, served: Server) -> None:
    phone = opened(browser, served, viewport=PHONE, has_touch=True, color_scheme="dark")
    phone.goto(served.base + path)
    phone.wait_for_selector("h1")
    assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert phone.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
    assert phone.evaluate("[...document.images].every((image) => image.hasAttribute('alt'))")
    phone.context.close()


def test_a_run_that_trains_is_followed_and_its_model_appears(browser: Any, tmp_path: Path) -> None:
    store = collection(tmp_path, 12)
    run = run_of(tmp_path / "run", store.path, status="running", lines=3)
    server = Server("serve", run, "--port", 0)
    page = opened(browser, server)
    until(page, "document.getElementById('tile-step').textContent === '30'")
    assert "has not saved a model yet" in page.inner_text("#no-model")
    write_metrics(run, range(40, 81, 10))
    until(page, "document.getElementById('tile-step').textContent === '80'")
    run_of(tmp_path / "run", store.path, lines=0)
    page.wait_for_selector("#overview[data-model='1']")
    assert page.query_selector("#no-model") is None and page.inner_text("#status") == "done"
    assert server.stop(signal.SIGTERM) == 0
