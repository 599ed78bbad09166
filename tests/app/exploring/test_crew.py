"""A run's replicas on the first page: as the driver last said it, or as the run's record keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsing import Server, chromium
from browsing import opened as page_of
from exploring import HOSTILE, opened, run_of, site_of
from striate.app.exploring.subject import Subject

NOW: dict[str, Any] = {
    "step": 50,
    "wanted": "2:8",
    "replicas": [
        {"place": 0, "replica": "0.1", "stage": "here", "machine": HOSTILE, "images_per_s": 1234.5, "waiting_share": 0.25},
        {
            "place": 1,
            "replica": "1.2",
            "stage": "waiting for room",
            "machine": None,
            "images_per_s": None,
            "waiting_share": None,
        },
    ],
    "shards": [{"busy": 0.125, "pushes_per_s": 20.0, "in_bytes_per_s": 2e6, "out_bytes_per_s": 3e9}, {}],
    "staleness": {"0": 10, "1": 20, "40": 10},
    "lost": 0,
    "refused": 0,
    "replicas_lost": 1,
    "machines_left": 2,
    "minibatches_redone": 7,
    "crew": [
        {"replica": "1.1", "machine": "m", "joined_step": 3, "joined_s": 2.5, "left_step": 40, "left_s": 9.0, "how": "left"}
    ],
    "ended": False,
}


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    """So that no work goes on."""
    yield
    while opened:
        opened.pop().close()


def run_with(folder: Path, now: dict[str, Any] | None, status: str = "running", **cluster: Any) -> Path:
    run = run_of(folder, None, status=status)
    told = {"status": status, "created": "2026-01-01T00:00:00Z", "cluster": {"replicas": 8, **cluster}}
    (run / "run.json").write_text(json.dumps(told))
    (run / "crew").mkdir()
    if now is not None:
        (run / "crew" / "now.json").write_text(json.dumps(now))
    return run


def test_while_it_goes_the_driver_s_word_is_told_with_who_was_there_before(tmp_path: Path) -> None:
    earlier = {**NOW["crew"][0], "replica": "0.1", "how": "left"}
    client = site_of(Subject(run_with(tmp_path / "run", NOW, crew=[earlier]), None))
    told = client.get("/api/crew").json()
    assert told["wanted"] == "2:8" and told["replicas"] == NOW["replicas"] and told["shards"] == NOW["shards"]
    assert told["staleness"] == NOW["staleness"] and told["visits"] == [earlier, *NOW["crew"]]
    assert told["lost"] == {"replicas_lost": 1, "machines_left": 2, "minibatches_redone": 7, "lost": 0, "refused": 0}
    assert 'id="replicas"' in client.get("/").text


@pytest.mark.parametrize("now", [None, {**NOW, "ended": True}])
def test_of_a_run_that_is_over_the_record_is_told(tmp_path: Path, now: dict[str, Any] | None) -> None:
    kept = {"crew": NOW["crew"], "staleness": {"0": 5}, "replicas_lost": 3}
    told = site_of(Subject(run_with(tmp_path / "run", now, "done", **kept), None)).get("/api/crew").json()
    assert told["replicas"] == told["shards"] == [] and told["staleness"] == {"0": 5} and told["visits"] == NOW["crew"]
    assert told["lost"]["replicas_lost"] == 3 and told["lost"]["machines_left"] == 0


def test_a_run_of_one_process_has_no_such_part(tmp_path: Path) -> None:
    client = site_of(Subject(run_of(tmp_path / "run", None, status="running"), None))
    assert 'id="replicas"' not in client.get("/").text and client.get("/api/crew").json()["replicas"] == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from chromium()


def test_the_page_draws_it_and_follows(browser: Any, tmp_path: Path) -> None:
    """Rates as a line each with gaps, staleness as bars; machines' names as text; what is new within seconds."""
    run = run_with(tmp_path / "run", NOW)
    with (run / "metrics.jsonl").open("a") as file:
        for step in range(210, 260, 10):
            there = {} if step == 230 else {"images_per_s_1": 50.0}
            file.write(json.dumps({"step": step, "seconds": 1.0, "images_per_s_0": 100.0, **there}) + "\n")
    server = Server("serve", run, "--port", 0)
    page = page_of(browser, server)
    page.goto(server.base)
    page.wait_for_selector("#crew-now td")
    page.wait_for_selector("#crew-rates path", state="attached")
    assert page.locator("#crew-now tbody tr").all_inner_texts() == [
        f"0\there\t{HOSTILE}\t1,230\t25%",
        "1\twaiting for room\t\t–\t–",
    ]
    assert page.locator("#crew-shards tbody tr").first.inner_text() == "0\t13%\t20\t2 MB/s\t3 GB/s"
    assert page.locator("#crew-staleness rect").count() == 24
    assert page.locator("#crew-staleness-mean").inner_text() == "mean 10.5 of 40 pushes"
    assert page.locator("#crew-wanted").inner_text() == "2 to 8 wanted"
    assert page.locator("#crew-lost").inner_text() == (
        "1 lost replica, 2 gone with their machines, 7 minibatches handed out again"
    )
    paths = [path.get_attribute("d") for path in page.locator("#crew-rates path").all()]
    assert [path.count("M") for path in paths] == [1, 2]
    # One picture of all rates, and no card for each.
    assert "images per s" not in page.locator("#curves").inner_text()
    (run / "crew" / "now.json").write_text(json.dumps({**NOW, "wanted": "3"}))
    page.get_by_text("3 wanted").wait_for(timeout=20_000)
    page.context.close()
    assert server.stop() == 0
