"""The page as a labeller uses it: headless Chromium, keys and taps, two people, a server that is killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import labelling
from browsing import Server, chromium, opened, until
from jobs import free_port
from striate.app.labelling.ledger import Ledger

Start = Callable[..., str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from chromium()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(port: int = 0, count: int = 500) -> Server:
        if not (tmp_path / "store.json").exists():
            labelling.store_at(tmp_path, count)
        started.append(Server("label", tmp_path, "--port", port or free_port()))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


def enter(browser: Any, server: Server, name: str, path: str, **options: Any) -> Any:
    """A page of a labeller; scripts' errors fail the test."""
    page = opened(browser, server, **options)
    page.fill("#labeller", name)
    page.goto(server.base + path)
    page.wait_for_selector(".cell")
    return page


def saved(page: Any) -> None:
    """Wait until every answer is acknowledged."""
    until(page, "JSON.parse(localStorage.getItem('striate-outbox') || '[]').length === 0")


def shown(page: Any) -> list[int]:
    return [int(cell.get_attribute("data-position")) for cell in page.query_selector_all(".cell")]


def answers(store: Path) -> dict[int, dict[str, str]]:
    with Ledger(store, writing=False) as ledger:
        return {p: {who: one.answer for who, one in by.items()} for p, by in ledger.answers("cat", "first").items()}


def test_200_pictures_are_labelled_by_the_keyboard(browser: Any, served: Callable[..., Server], tmp_path: Path) -> None:
    server = served()
    page = enter(browser, server, "anna", "/label?class=cat")
    page.select_option("#order", "found")
    until(page, "document.querySelector('.cell').dataset.position === '0'")
    for number in range(200):
        if number and number % 40 == 0:
            until(page, f"document.querySelector('.cell').dataset.position === '{2 * number}'")
        page.keyboard.press("x" if number % 3 == 2 else (" " if number % 2 else "1"))
    saved(page)
    found = answers(tmp_path)
    assert found == {2 * i: {"anna": "reject" if i % 3 == 2 else "keep"} for i in range(200)}
    assert page.inner_text("#tally").startswith("134 kept, 66 rejected")
    assert server.stop() == 0


def test_undo_goes_back_over_pages_and_after_a_reload(browser: Any, served: Callable[..., Server], tmp_path: Path) -> None:
    server = served(count=200)
    page = enter(browser, server, "anna", "/label?class=cat")
    first = shown(page)
    for _ in range(41):
        page.keyboard.press("1")
    until(page, f"!document.querySelector('[data-position=\"{first[0]}\"]')")
    page.keyboard.press("u")
    page.keyboard.press("u")
    page.wait_for_selector(f"[data-position='{first[39]}']")
    saved(page)
    assert sorted(answers(tmp_path)) == sorted(first[:39])
    page.reload()
    page.wait_for_selector(".cell")
    page.keyboard.press("u")
    page.wait_for_selector(f"[data-position='{first[38]}']")
    saved(page)
    assert sorted(answers(tmp_path)) == sorted(first[:38])
    page.keyboard.press("2")
    saved(page)
    assert answers(tmp_path)[first[38]] == {"anna": "reject"}


def test_two_labellers_at_once_share_the_pictures(browser: Any, served: Callable[..., Server], tmp_path: Path) -> None:
    server = served(count=320)
    pages = [enter(browser, server, name, "/label?class=cat") for name in ("anna", "bert")]
    for page in pages:
        page.keyboard.press("K")
    for page in pages:
        saved(page)
    found = answers(tmp_path)
    assert len(found) == 80
    assert all(len(by) == 1 for by in found.values())
    assert {who for by in found.values() for who in by} == {"anna", "bert"}


def test_a_killed_server_loses_nothing_and_the_page_goes_on(
    browser: Any, served: Callable[..., Server], tmp_path: Path
) -> None:
    port = free_port()
    server = served(port, count=200)
    page = enter(browser, server, "anna", "/label?class=cat")
    for _ in range(10):
        page.keyboard.press("1")
    server.stop(signal.SIGKILL)
    for _ in range(10):
        page.keyboard.press("2")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "kept here" in page.inner_text("#trouble")
    again = served(port)
    # A new server has a new token: the page is opened anew, what it had not delivered is still there.
    page.goto(again.address)
    page.goto(again.base + "/label?class=cat")
    saved(page)
    found = [by["anna"] for _, by in sorted(answers(tmp_path).items())]
    assert sorted(found) == ["keep"] * 10 + ["reject"] * 10
    assert again.stop(signal.SIGTERM) == 0


def test_a_phone_shows_buttons_that_work(browser: Any, served: Callable[..., Server], tmp_path: Path) -> None:
    server = served(count=400)
    size = {"width": 390, "height": 780}
    page = enter(browser, server, "anna", "/label?class=cat", viewport=size, has_touch=True, color_scheme="dark")
    first = shown(page)
    page.tap("footer .keep")
    page.tap("footer .reject")
    page.tap("footer .ask")
    page.tap(f".cell[data-position='{first[5]}']")
    saved(page)
    found = {position: by["anna"] for position, by in answers(tmp_path).items()}
    assert found == {first[0]: "keep", first[1]: "reject", first[2]: "ask", first[5]: "keep"}
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = enter(browser, server, "bert", "/label?class=cat", color_scheme="light")
    assert dark != light.evaluate("getComputedStyle(document.body).backgroundColor")


def test_instructions_and_zoom_are_one_key_away(browser: Any, served: Callable[..., Server], tmp_path: Path) -> None:
    page = enter(browser, served(count=40), "anna", "/label?class=cat")
    page.keyboard.press("i")
    assert "photograph" in page.inner_text("#sheet")
    page.keyboard.press("1")  # Nothing is answered behind an open sheet.
    page.keyboard.press("i")
    page.keyboard.press("z")
    until(page, "document.getElementById('zoomed').naturalWidth === 8")
    page.keyboard.press("z")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("a")
    saved(page)
    assert [by["anna"] for by in answers(tmp_path).values()] == ["ask"]


def test_answers_that_are_refused_do_not_hold_up_the_rest(browser: Any, served: Callable[..., Server], tmp_path: Path) -> None:
    """Left over from another set of classes, in this browser."""
    page = enter(browser, served(count=200), "anna", "/label?class=cat")
    old = "{token: 'from-before-01', labeller: 'anna', class: 'cow', stage: 'first', position: 0, answer: 'keep', seconds: 1}"
    page.evaluate(f"localStorage.setItem('striate-outbox', JSON.stringify([{old}]))")
    page.reload()
    page.wait_for_selector("#trouble:not([hidden])")
    assert "refused" in page.inner_text("#trouble") and "cow" in page.inner_text("#trouble")
    page.keyboard.press("1")
    saved(page)
    assert len(answers(tmp_path)) == 1


def test_a_mouse_does_it_too(browser: Any, served: Callable[..., Server], tmp_path: Path) -> None:
    page = enter(browser, served(count=200), "anna", "/label?class=cat")
    first = shown(page)
    for number, clicks in enumerate((1, 2, 3)):
        for _ in range(clicks):
            page.click(f".cell[data-position='{first[number]}']")
    page.click(f".cell[data-position='{first[3]}']", button="right")
    page.click("#large")
    until(page, "document.getElementById('zoomed').naturalWidth === 8")
    page.click("#zoomed")
    saved(page)
    found = {position: by["anna"] for position, by in answers(tmp_path).items()}
    assert found == {first[0]: "keep", first[1]: "reject", first[2]: "keep", first[3]: "reject"}


def test_nobody_answers_without_a_name(browser: Any, served: Callable[..., Server], tmp_path: Path) -> None:
    server = served(count=40)
    page = browser.new_context().new_page()
    page.goto(server.address)
    page.goto(server.base + "/label?class=cat")
    page.wait_for_selector("#message:not([hidden])")
    page.keyboard.press("1")
    time.sleep(0.3)
    assert answers(tmp_path) == {} and "who you are" in page.inner_text("#message")
    page.fill("#labeller", "anna")
    page.keyboard.press("Tab")
    page.wait_for_selector(".cell")
