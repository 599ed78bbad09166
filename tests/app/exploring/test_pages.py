"""The pages of `striate serve`: tokens, hostile names, what they show and where it comes from, requests that make no sense."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import hostile
from exploring import COUNT, HOSTILE, collection, done, opened, run_of, site_of, write_metrics
from striate.app.exploring.subject import Subject
from striate.app.searching import Searcher
from striate.images import ImageStore
from striate.models.encoder import Encoder


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    """So that no ledger stays open and no work goes on."""
    yield
    while opened:
        opened.pop().close()


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    root = tmp_path_factory.mktemp("exploring")
    store = collection(root)
    return Subject(run_of(root / "run", store.path), store)


@pytest.fixture(scope="module")
def client(subject: Subject) -> TestClient:
    found = site_of(subject)
    found.get("/map")
    found.get("/filters")
    found.get("/confusions")
    done(found, "map/pca", "answers/hidden1", "fits/hidden1", "confusions")
    return found


PAGES = (
    "/", "/filters", "/filters?layer=hidden1", "/unit?unit=3", "/map", "/similar", "/similar?at=0,5", "/confusions",
    "/duplicates", "/classes", "/review", "/sheet",
)  # fmt: skip
DATA = (
    "/sheet.png", "/wall.png?layer=hidden1", "/picture/0", "/atlas.png?at=0,1", "/map/points", "/map/colours?by=label",
    "/api/curves", "/api/status", "/api/jobs", "/api/units?layer=hidden1", "/api/about?at=0", "/api/neighbours?at=0",
    "/api/map", "/api/legend?by=label", "/api/confused?truth=0&said=0",
)  # fmt: skip


@pytest.mark.parametrize("path", [*PAGES, *DATA])
def test_everything_asks_for_the_token_and_answers_with_it(path: str, client: TestClient, subject: Subject) -> None:
    stranger = site_of(subject, token=False)
    assert stranger.get(path).status_code == 403
    stranger.cookies.set("striate_token", "guessed")
    assert stranger.get(path).status_code == 403
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy and "http" not in policy


@pytest.mark.parametrize("path", PAGES)
def test_names_that_are_html_stay_names(path: str, client: TestClient) -> None:
    text = client.get(path).text
    assert HOSTILE not in text and "<i>0" not in text
    found = _Elements()
    found.feed(text)
    assert not found.attributes & {"onerror", "onclick", "onload", "style"} and "i" not in found.names
    assert all(source.startswith("/static/") for source in found.scripts) and "x" not in found.images


class _Elements(HTMLParser):
    """What a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.scripts: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names.add(tag)
        self.attributes |= set(given)
        if tag == "script":
            self.scripts.append(given.get("src") or "")
        if tag == "img":
            self.images.append(given.get("src") or "")


def test_a_picture_and_a_sheet_show_the_very_pixels_of_the_store(client: TestClient, subject: Subject) -> None:
    found = np.asarray(Image.open(io.BytesIO(client.get("/picture/7").content)))
    np.testing.assert_array_equal(found.transpose(2, 0, 1), subject.store[7])
    # Sides of ten: rows of nine pixels become ten by the nearest one.
    asked = [5, 0, *range(20, 40)]
    sheet = np.asarray(Image.open(io.BytesIO(client.get(f"/atlas.png?at={','.join(map(str, asked))}").content)))
    assert sheet.shape == (20, 160, 3)
    columns = np.arange(10) * 9 // 10
    for place, position in enumerate(asked):
        y, x = 10 * (place // 16), 10 * (place % 16)
        np.testing.assert_array_equal(sheet[y : y + 10, x : x + 10].transpose(2, 0, 1), subject.store[position][:, :, columns])


def test_the_map_is_where_the_components_are(client: TestClient, subject: Subject) -> None:
    """Points keep their distances up to one scale; the farthest two along the longer axis are at its ends."""
    points = np.frombuffer(client.get("/map/points?method=pca").content, "<u2").reshape(-1, 2).astype(np.float64)
    job = subject.jobs.known("map/pca")
    assert job is not None and len(points) == COUNT
    true = job.result.points.astype(np.float64)
    scale = 65535 / np.ptp(true, axis=0).max()
    np.testing.assert_allclose(points - points[0], scale * (true - true[0]), atol=1.01)
    assert np.ptp(points, axis=0).max() == 65535


def test_maps_are_judged_by_the_nearest_others_by_cosine(client: TestClient, subject: Subject) -> None:
    """Beside a plain search in float64; each picture itself is left out."""
    made, features = (subject.jobs.known(name) for name in ("map", "features/hidden1"))
    assert made is not None and features is not None
    rows = features.result.take(np.arange(COUNT)).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    assert made.result.asked.tolist() == list(range(COUNT))
    np.testing.assert_array_equal(made.result.true, np.argsort(-cosines, axis=1, kind="stable")[:, :10])


def test_colours_are_the_groups_and_the_legend_counts_them(client: TestClient, subject: Subject) -> None:
    colours = np.frombuffer(client.get("/map/colours?by=label").content, np.uint8)
    names = client.get("/api/legend?by=label").json()["names"]
    assert sorted(one["name"] for one in names) == sorted(subject.store.class_names)
    for byte, one in enumerate(names):
        label = subject.store.class_names.index(one["name"])
        np.testing.assert_array_equal(colours == byte, subject.store.labels == label)
        assert one["count"] == (subject.store.labels == label).sum()
    clusters = np.frombuffer(client.get("/map/colours?by=cluster").content, np.uint8)
    counted = [one["count"] for one in client.get("/api/legend?by=cluster").json()["names"]]
    assert counted == sorted(counted, reverse=True) == np.bincount(clusters)[: len(counted)].tolist()


def test_a_units_colours_follow_its_answers(client: TestClient, subject: Subject) -> None:
    colours = np.frombuffer(client.get("/map/colours?by=unit&layer=hidden1&unit=4").content, np.uint8).astype(int)
    answers = _answers(subject.encoder, subject.store, 4)
    assert colours.min() == 0 and colours.max() == 254
    order = np.argsort(answers)
    assert (np.diff(colours[order]) >= 0).all()


def _answers(encoder: Encoder, store: ImageStore, unit: int) -> np.ndarray:
    """A filter's largest answer among its four regions, in the 16 bits that are kept."""
    rows = encoder.encode(store[:], ["hidden1"])["hidden1"].numpy().astype(np.float16)
    return rows.reshape(len(store), 12, 4)[:, unit].max(axis=1).astype(np.float32)


def test_a_units_page_shows_the_pictures_that_excite_it_most_and_least(client: TestClient, subject: Subject) -> None:
    text = client.get("/unit?layer=hidden1&unit=4").text
    answers = _answers(subject.encoder, subject.store, 4)
    most, least = (re.findall(r'data-position="(\d+)"', part) for part in re.split(r'id="most"|id="least"', text)[1:3])
    order = np.argsort(-answers, kind="stable")
    assert [int(one) for one in most] == order[:48].tolist()
    assert [int(one) for one in least] == order[::-1][:24].tolist()
    assert f"{answers.max():.3g}" in text
    bars = [int(number) for number in re.findall(r"<title>(\d+) pictures</title>", text)]
    assert bars == np.histogram(answers, bins=40)[0].tolist()


def test_units_come_as_columns_with_a_sheet_that_holds_their_filters(client: TestClient, subject: Subject) -> None:
    told = client.get("/api/units?layer=hidden1").json()
    assert told["units"] == 12 and told["columns"] == 4 and told["sheet"] == "filters" and told["side"] == [4, 4]
    assert all(len(told[name]) == 12 for name in ("kind", "orientation", "mean", "sparseness", "silent"))
    sheet = np.asarray(Image.open(io.BytesIO(client.get("/wall.png?layer=hidden1").content))).astype(int)
    filters = subject.layers["hidden1"].filters
    assert filters is not None and sheet.shape == (12, 16, 3)
    for unit, one in enumerate(filters.numpy()):
        y, x = 4 * (unit // 4), 4 * (unit % 4)
        shown = (sheet[y : y + 4, x : x + 4].transpose(2, 0, 1) - 127.5) / 127.5
        np.testing.assert_allclose(shown, one / np.abs(one).max(), atol=1 / 127)


def test_similar_pictures_are_the_searchers(client: TestClient, subject: Subject) -> None:
    job = subject.jobs.known("search")
    assert job is not None
    searcher: Searcher = job.result
    told = client.get("/api/neighbours?at=9&count=5").json()
    expected = searcher.by_positions([9], 5)
    assert [one["position"] for one in told["found"]] == expected.positions.tolist()
    assert told["of"]["key"] == subject.keys[9] and told["of"]["label"] == subject.class_name(int(subject.store.labels[9]))
    text = client.get("/similar?at=9,14").text
    shown = [int(one) for one in re.findall(r'data-position="(\d+)"', text.split('id="found"')[1])]
    assert shown == searcher.by_positions([9, 14], COUNT).positions.tolist()


def test_a_picture_of_the_collection_given_as_a_file_finds_itself(client: TestClient, subject: Subject) -> None:
    buffer = io.BytesIO()
    Image.fromarray(subject.store[31].transpose(1, 2, 0)).save(buffer, "PNG")
    token = client.post("/api/given", content=buffer.getvalue()).json()["given"]
    text = client.get(f"/similar?given={token}").text
    assert re.findall(r'data-position="(\d+)"', text.split('id="found"')[1])[0] == "31"
    both = client.get(f"/similar?given={token}&at=31").text.split('id="found"')[1]
    assert 'data-position="31"' not in both


@pytest.mark.parametrize(
    "bad", [hostile.truncated_jpeg, hostile.empty_file, hostile.text_named_jpeg, hostile.png_bomb, hostile.one_pixel]
)
def test_a_file_that_is_no_picture_gets_the_reason(bad: object, client: TestClient, tmp_path: Path) -> None:
    answer = client.post("/api/given", content=bad(tmp_path).read_bytes())  # type: ignore[operator]
    assert answer.status_code == 400 and "cannot be used as a picture: " in answer.json()["error"]
    assert client.get("/similar").status_code == 200


def test_a_file_beyond_the_limit_is_refused_whether_its_length_is_told_or_not(client: TestClient) -> None:
    told = client.post("/api/given", content=b"x" * 30_000_001)
    assert told.status_code == 413 and "at most 30 MB" in told.json()["error"]
    untold = client.post("/api/given", content=(b"x" * 1_000_000 for _ in range(31)))
    assert untold.status_code == 413 and "30 MB" in untold.json()["error"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/about?at=60", "no picture 60: there are 60"), ("/api/about?at=-1", "as a number from 0 on"),
        ("/api/about?at=" + "1," * 300 + "1", "at most 256 at once"), ("/api/neighbours?at=60", "no picture 60"),
        ("/api/neighbours", "as a number"), ("/atlas.png", "expected 1 to 256"), ("/atlas.png?at=99", "from 0 to 59"),
        ("/unit?unit=12", "no filter 12 in hidden1: there are 12"), ("/unit?unit=x", "as a number"),
        ("/unit?layer=hidden9&unit=0", "no layer 'hidden9': this model has hidden1"), ("/filters?layer=x", "no layer 'x'"),
        ("/map/points?method=x", "no map 'x' here"), ("/map/colours?by=x", "no colours by 'x'"),
        ("/similar?at=60", "no picture 60"), ("/similar?given=never", "no longer here"),
        ("/map/colours?by=unit&unit=12", "no filter 12"),
        ("/api/confused?truth=2&said=0", "there are 2 classes"), ("/api/confused?truth=0", "as a number"),
        ("/unit?unit=\u0663", "as a number"),
    ],
)  # fmt: skip
def test_requests_that_make_no_sense_get_a_reason(path: str, words: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code == 400 and words in answer.text


@pytest.mark.parametrize("path", ["/picture/60", "/static/../server.py", "/store.json", "/picture/../../x", "/run.json"])
def test_nothing_but_the_pages_is_served(path: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and "import" not in answer.text


def test_confusions_count_every_labelled_picture_once_and_cells_open_theirs(client: TestClient, subject: Subject) -> None:
    seen: set[int] = set()
    right, counted = 0, {}
    for truth in range(2):
        for said in range(2):
            told = client.get(f"/api/confused?truth={truth}&said={said}").json()
            at = [one["position"] for one in told["pictures"]]
            assert told["total"] == len(at) and not seen & set(at)
            assert (subject.store.labels[at] == truth).all()
            sure = [one["probability"] for one in told["pictures"]]
            assert sure == sorted(sure, reverse=True)
            seen |= set(at)
            right += len(at) if truth == said else 0
            counted[truth, said] = len(at)
    assert seen == set(range(COUNT))
    text = unescape(client.get("/confusions").text)
    for (truth, said), count in counted.items():
        names = subject.class_name(truth), subject.class_name(said)
        assert f'aria-label="{names[0]} called {names[1]}: {count}"' in text
    assert len(set(counted.values())) > 2
    assert f"names <b>{100 * right / COUNT:.1f}%" in text


def test_labels_are_opened_by_whoever_first_asks_and_not_before(tmp_path: Path) -> None:
    store = collection(tmp_path, 20)
    client = site_of(Subject(run_of(tmp_path / "run", store.path), store))
    for path in ("/", "/map", "/similar", "/duplicates"):
        assert client.get(path).status_code == 200
    assert not (store.path / ".labels.lock").exists()
    text = client.get("/classes").text
    assert 'href="/label?class=bright"' in text and 'id="labeller"' in text
    assert client.get("/api/page", params={"class": "bright", "labeller": "anna"}).json()["tally"]["left"] == 10
    another = site_of(Subject(tmp_path / "run", store))
    assert "being labelled by another server" in another.get("/classes").text
    assert "another server" in another.get("/api/page?class=bright&labeller=a").json()["error"]


def test_a_run_without_a_model_shows_its_curves_and_says_so(tmp_path: Path) -> None:
    store = collection(tmp_path, 8)
    run = run_of(tmp_path / "run", store.path, status="running")
    client = site_of(Subject(run, store))
    text = client.get("/").text
    assert "has not saved a model yet" in text and 'class="pill running"' in text
    told = client.get("/api/curves").json()
    assert [line["step"] for line in told["lines"]] == list(range(10, 201, 10)) and told["status"] == "running"
    for path in ("/map", "/similar", "/confusions"):
        assert "has not saved a model yet" in client.get(path).text
    for path in ("/filters", "/unit?unit=0", "/api/neighbours?at=0"):
        answer = client.get(path)
        assert answer.status_code == 400 and "has not saved a model yet" in answer.text
    assert client.get("/sheet.png").status_code == 404
    # It ends while somebody looks.
    run_of(tmp_path / "run", store.path)
    assert client.get("/api/status").json()["model"] is True
    assert client.get("/unit?unit=0").status_code == 200


def test_a_page_that_follows_a_run_is_sent_what_is_new(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", None, status="running", lines=3)
    client = site_of(Subject(run, None))
    first = client.get("/api/curves").json()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "loss": NaN}\n{"step": 50, "lo')
    second = client.get(f"/api/curves?from={first['end']}").json()
    assert second["lines"] == [{"step": 40, "loss": None}] and not second["again"]
    with (run / "metrics.jsonl").open("a") as file:
        file.write('ss": 0.5}\nnot json\n[1]\n')
    third = client.get(f"/api/curves?from={second['end']}").json()
    assert third["lines"] == [{"step": 50, "loss": 0.5}]
    # Resuming cuts the file: all of it is sent anew.
    (run / "metrics.jsonl").unlink()
    write_metrics(run, range(10, 11))
    fourth = client.get(f"/api/curves?from={third['end']}").json()
    assert fourth["again"] and [line["step"] for line in fourth["lines"]] == [10]


def test_long_curves_are_thinned_to_what_can_be_seen_and_keep_their_end(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", None, lines=0)
    write_metrics(run, range(1, 9002))
    lines = site_of(Subject(run, None)).get("/api/curves").json()["lines"]
    assert 1000 <= len(lines) <= 2001 and lines[0]["step"] == 1 and lines[-1]["step"] == 9001


def test_a_run_that_fell_silent_is_said_to_be_perhaps_killed(tmp_path: Path) -> None:
    import os

    run = run_of(tmp_path / "run", None, status="running")
    client = site_of(Subject(run, None))
    assert "perhaps it was killed" not in client.get("/").text
    for name in ("metrics.jsonl", "run.json"):
        os.utime(run / name, (1e9, 1e9))
    assert "perhaps it was killed" in client.get("/").text


def test_without_a_collection_there_are_the_runs_own_pages_only(tmp_path: Path) -> None:
    client = site_of(Subject(run_of(tmp_path / "run", None), None, "No collection was given."))
    text = client.get("/").text
    assert "No collection was given." in text and 'href="/map"' not in text
    assert client.get("/filters").status_code == 200 and "No collection" in client.get("/filters").text
    assert "No collection" in client.get("/unit?unit=1").text
    assert client.get("/duplicates").status_code == 404


def test_a_store_of_another_size_is_named_on_every_page_that_needs_features(tmp_path: Path) -> None:
    store = collection(tmp_path, 8)
    client = site_of(Subject(run_of(tmp_path / "run", None, "gaussian"), store))
    for path in ("/map", "/similar", "/confusions", "/filters", "/unit?unit=0"):
        text = client.get(path).text
        assert "takes colour pictures of 4x4" in text and "colour ones of 9x10" in text, path


def test_pictures_that_are_gone_leave_the_page_standing(tmp_path: Path) -> None:
    """JPEG bytes in the store that were overwritten after it was opened."""
    from striate.images import ArraySource, import_images

    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 10, 9), dtype=np.uint8)
    import_images(ArraySource(pixels, np.arange(12) % 2, ["a", "b"]), tmp_path / "s", quality=90)
    store = ImageStore(tmp_path / "s")
    subject = Subject(run_of(tmp_path / "run", store.path), store)
    client = site_of(subject)
    client.get("/similar")
    done(client, "search")
    file = next((store.path / "pixels").glob("*.parquet"))
    data = bytearray(file.read_bytes())
    start = data.index(b"\xff\xd8\xff", data.index(b"\xff\xd8\xff") + 3)
    data[start : start + 300] = b"\x00" * 300
    file.write_bytes(bytes(data))
    fresh = site_of(Subject(tmp_path / "run", ImageStore(tmp_path / "s")))
    fresh.get("/similar")
    done(fresh, "search")
    assert "cannot be shown" in fresh.get("/similar?at=0").text
    assert fresh.get("/picture/1").status_code == 500
    assert fresh.get("/atlas.png?at=0,1,2").status_code == 200


def test_work_that_fails_is_told_and_not_begun_again_at_every_request(tmp_path: Path) -> None:
    store = collection(tmp_path, 8)
    client = site_of(Subject(run_of(tmp_path / "run", None), store))
    (store.path / "features").write_text("a file where a folder should be")
    client.get("/map")
    jobs = {job["name"]: job for job in done(client, "features/hidden1", "search", "map", "map/pca")}
    assert jobs["features/hidden1"]["state"] == "failed" and jobs["features/hidden1"]["error"]
    assert jobs["map/pca"]["error"] == jobs["features/hidden1"]["error"]
    assert client.get("/map/points").status_code == 500
    before = len(client.get("/api/jobs").json()["jobs"])
    assert len(client.get("/api/jobs").json()["jobs"]) == before
