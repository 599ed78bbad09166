"""A small run and a collection with hostile names, as `striate serve` is given them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

import small_models
from striate.app.exploring.site import Site
from striate.app.exploring.subject import Subject
from striate.app.web import server
from striate.images import ImageStore, import_images

TOKEN = "a-token-for-tests"
HOSTILE = "<img src=x onerror=alert(1)>"
COUNT = 60
SHAPE = (3, 10, 9)
opened: list[Site] = []
"""To be closed after a module's tests."""


def collection(folder: Path, count: int = COUNT) -> ImageStore:
    """Pictures of two classes, bright and dark, one class and all files named by HTML."""
    pixels = small_models.pictures(SHAPE, count)
    for number, picture in enumerate(pixels):
        dark = number % 2
        place = folder / "pictures" / (HOSTILE if dark else "bright")
        place.mkdir(parents=True, exist_ok=True)
        levels = picture // 2 + (0 if dark else 120)
        Image.fromarray(levels.transpose(1, 2, 0).astype(np.uint8)).save(place / f"<i>{number:03d}.png")
    import_images(folder / "pictures", folder / "store", size=(SHAPE[1], SHAPE[2]), workers=1)
    return ImageStore(folder / "store")


def run_of(folder: Path, store: Path | None, kind: str = "patches", status: str = "done", lines: int = 20) -> Path:
    """A run directory as training leaves it; while it runs there is no model."""
    folder.mkdir(parents=True, exist_ok=True)
    if status == "done":
        small_models.KINDS[kind]().save(folder, "small")
    (folder / "run.json").write_text(json.dumps({"status": status, "created": "2026-01-01T00:00:00Z"}))
    write_metrics(folder, range(10, 10 * lines + 1, 10))
    (folder / "recipe.yaml").write_text(f"name: small\ndata: {{store: {store}}}\n" if store else "name: small\n")
    return folder


def write_metrics(run: Path, steps: range) -> None:
    """More lines of metrics.jsonl."""
    with (run / "metrics.jsonl").open("a") as file:
        for step in steps:
            file.write(json.dumps({"step": step, "seconds": step / 10, "epoch": step / 100, "loss": 1 / step}) + "\n")


def site_of(subject: Subject, token: bool = True) -> TestClient:
    """A client of the pages, in this process."""
    opened.append(Site(subject))
    app = server.application(opened[-1].routes(), TOKEN, "127.0.0.1")
    client = TestClient(app, raise_server_exceptions=False)
    if token:
        client.get(f"/?token={TOKEN}")
    return client


def done(client: TestClient, *names: str, limit_s: float = 60) -> list[dict[str, Any]]:
    """Wait for work behind the pages; what there is."""
    until = time.monotonic() + limit_s
    while True:
        jobs: list[dict[str, Any]] = client.get("/api/jobs").json()["jobs"]
        states = {job["name"]: job for job in jobs}
        if all(states.get(name, {}).get("state") in ("done", "failed") for name in names):
            return jobs
        assert time.monotonic() < until, states
        time.sleep(0.02)
