"""Search from the command line: a small trained run, its store, and questions of every kind."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate.app.feature_files import read_features
from striate.app.features import encoder_of, kept_features
from striate.app.fetching import fetch
from striate.app.quick_search import SignCodes, quick_search
from striate.app.screen import Screen
from striate.app.searching import Searcher
from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, import_images
from training import RECIPE, recipe_file, small_store, striate

needs_faiss = pytest.mark.skipif(not importlib.util.find_spec("faiss"), reason="FAISS is not installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("search")
    small_store(root / "store")
    recipe = recipe_file(root, RECIPE.replace("epochs: 6", "epochs: 1"))
    for name in ("run", "other"):
        done = striate("train", recipe, "data.store=store", f"seed={len(name)}", "--run", name, folder=root)
        assert done.returncode == 0, done.stderr
    done = striate("encode", "run", "store", "-o", "features.parquet", folder=root)
    assert done.returncode == 0, done.stderr
    picture = ImageStore(root / "store")[17]
    Image.fromarray(picture.transpose(1, 2, 0)).save(root / "seventeen.png")
    return root


def search(place: Path, *arguments: object, code: int = 0) -> Any:
    """The verb's JSON, or its one line on stderr where it should fail."""
    done = striate("search", *arguments, "--json", folder=place)
    assert done.returncode == code, done.stderr
    if code:
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr
    return json.loads(done.stdout)


def test_a_picture_of_the_store_given_as_a_file_finds_itself_first(place: Path) -> None:
    store = ImageStore(place / "store")
    found = search(place, "run", "store", "--picture", "seventeen.png", "--k", 5, "--sheet", "sheet.png")
    first = found["found"][0]
    # Kept features are float16: 11 digits, so the cosine of a row with its rounded self is 1 within 2^-21.
    assert (first["position"], first["key"], first["label"]) == (17, store.keys[17], "lying")
    assert first["score"] == pytest.approx(1, abs=1e-6)
    assert [one["score"] for one in found["found"]] == sorted((one["score"] for one in found["found"]), reverse=True)
    assert len(found["found"]) == 5 and found["searched"] == 120
    with Image.open(place / "sheet.png") as sheet:
        # The picture asked for on a row of its own, framed; five found on two rows of three.
        assert sheet.size[0] == 3 * 120 and sheet.size[1] == 3 * (112 + 16 + 8)
        pixels = np.asarray(sheet)
    assert np.array_equal(pixels[4:116:7, 4:116:7].transpose(2, 0, 1), store[17])
    assert np.array_equal(pixels[140:252:7, 4:116:7].transpose(2, 0, 1), store[17])


@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
def test_keys_find_what_sorting_all_features_finds_and_not_themselves(place: Path, metric: str) -> None:
    """Reference: all rows in float64; the query is the mean of two rows' directions, or for l2 their mean."""
    store, features = ImageStore(place / "store"), read_features(place / "features.parquet")
    rows = features.rows(0, 120).astype(np.float64)
    asked = [3, 40]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    query = rows[asked].mean(axis=0) if metric == "l2" else unit[asked].mean(axis=0)
    likeness = {
        "cosine": unit @ query / np.linalg.norm(query),
        "dot": rows @ query,
        "l2": -np.linalg.norm(rows - query, axis=1),
    }[metric]
    order = [int(at) for at in np.argsort(-likeness, kind="stable") if at not in asked][:7]
    keys = [word for at in asked for word in ("--key", store.keys[at])]
    found = search(place, "features.parquet", "store", *keys, "--k", 7, "--metric", metric)
    assert [one["position"] for one in found["found"]] == order
    scores = np.abs(likeness[order]) if metric == "l2" else likeness[order]
    assert [one["score"] for one in found["found"]] == pytest.approx(scores.tolist(), rel=1e-6)


def test_a_unit_finds_the_pictures_that_it_answers_to_most_and_least(place: Path) -> None:
    column = kept_features(place / "run", ImageStore(place / "store"), None, Screen(quiet=True)).rows(0, 120)[:, 11]
    found = search(place, "run", "store", "--unit", 11, "--k", 6, "--sheet", "unit.png")
    order = np.argsort(-column, kind="stable")
    assert [one["position"] for one in found["found"]] == order[:6].tolist()
    assert [one["score"] for one in found["found"]] == pytest.approx(column[order[:6]].tolist())
    assert [one["position"] for one in found["least"]] == np.argsort(column, kind="stable")[:6].tolist()
    assert (place / "unit.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("how", [["--bits", 24], pytest.param(["--index", "faiss"], marks=needs_faiss)])
def test_quick_search_finds_what_exact_search_finds_and_says_what_it_misses(place: Path, how: list[object]) -> None:
    """120 rows: ten candidates a neighbour, of which there are 12, are all rows. Kept files are used again."""
    exact = search(place, "features.parquet", "store", "--key", ImageStore(place / "store").keys[5], "--k", 11)
    quick = search(place, "features.parquet", "store", "--key", ImageStore(place / "store").keys[5], "--k", 11, *how)
    assert quick["found"] == exact["found"]
    assert quick["recall"] >= 0.95 and "recall" not in exact
    [kept] = [file for file in place.glob("features.parquet.cosine.*") if file.suffix == ".json" and str(how[1]) in file.name]
    changed = kept.stat().st_mtime_ns
    search(place, "features.parquet", "store", "--key", ImageStore(place / "store").keys[5], *how)
    assert kept.stat().st_mtime_ns == changed
    assert json.loads(kept.read_text())["features"]["count"] == 120


def test_codes_of_other_features_are_made_again_and_it_is_said(place: Path, tmp_path: Path) -> None:
    store = ImageStore(place / "store")
    for run in ("run", "other"):
        done = striate("encode", place / run, place / "store", "-o", tmp_path / "f.npy", "--overwrite")
        assert done.returncode == 0, done.stderr
        done = striate("search", tmp_path / "f.npy", place / "store", "--key", store.keys[0], "--bits", 8)
        assert done.returncode == 0, done.stderr
        assert ("of other features: making it again" in done.stdout) == (run == "other")
    features = read_features(tmp_path / "f.npy")
    kept = quick_search(features, SignCodes(8), "cosine", Screen(quiet=True))
    assert kept.about["features"]["model"] == features.about["model"]


def test_rows_that_are_no_numbers_are_found_by_no_way_of_searching(place: Path, tmp_path: Path) -> None:
    for name in ("about.json", "keys.txt"):
        striate("encode", place / "run", place / "store", "-o", tmp_path / "f.npy")
        assert (tmp_path / f"f.{name}").exists()
    rows = np.load(tmp_path / "f.npy")
    rows[20:60, 3] = np.nan
    np.save(tmp_path / "f.npy", rows)
    store, features = ImageStore(place / "store"), read_features(tmp_path / "f.npy")
    engine = quick_search(features, SignCodes(16), "cosine", Screen(quiet=True)).engine
    for searcher in (Searcher(store, features), Searcher(store, features, engine=engine)):
        found = searcher.by_positions([0], 100).positions
        assert sorted(found) == [*range(1, 20), *range(60, 120)]
        assert not set(range(20, 60)) & set(searcher.by_unit(3, 120).positions)
        with pytest.raises(BadInput, match="not finite"):
            searcher.by_positions([30], 3)


def test_several_pictures_and_a_key_are_one_query(place: Path) -> None:
    store = ImageStore(place / "store")
    searcher = Searcher(store, kept_features(place / "run", store, None, Screen(quiet=True)))
    found = search(place, "run", "store", "--picture", "seventeen.png", "--key", store.keys[30], "--k", 4)
    both = searcher.by_positions([17, 30], 118)
    assert found["asked"] == ["seventeen.png", store.keys[30]]
    # The file is no picture of the store's as far as anybody knows: it may find its equal; the key is left out.
    named = [one["position"] for one in found["found"]]
    assert 30 not in named and 17 in named
    assert [at for at in named if at != 17] == both.positions[:3].tolist()
    encoder = encoder_of(place / "run", store.shape)
    assert searcher.by_picture(store[17], encoder, 3).positions[0] == 17


def test_what_does_not_belong_together_is_said(place: Path, tmp_path: Path) -> None:
    (place / "text.png").write_text("no picture")
    pictures = np.zeros((30, 3, 24, 24), np.uint8) + np.arange(30, dtype=np.uint8)[:, None, None, None]
    import_images(ArraySource(pictures), tmp_path / "larger", workers=1)
    whole = place / "store"
    key = ImageStore(whole).keys[3]
    questions: list[tuple[list[object], str]] = [
        (["run", "store"], "search for what"),
        (["run", "store", "--key", key, "--unit", 1], "search for what"),
        (["run", "store", "--picture", "text.png"], "text.png is no picture that can be used: not a picture"),
        (["run", "store", "--picture", "absent.png"], "there is no file absent.png"),
        (["run", "store", "--picture", "https://127.0.0.1/cat.jpg"], "--allow-urls"),
        (["run", "store", "--key", f"{key}x"], f"did you mean {key!r}"),
        (["run", "store", "--key", key, "--k", 121], "121 pictures asked for, store has 120"),
        (["run", "store", "--key", key, "--k", 0], "expected 1 to 120"),
        (["run", "store", "--key", key, "--metric", "cosin"], "did you mean cosine"),
        (["run", "store", "--unit", 4000], "no unit 4000: layer hidden1 has units 0 to"),
        (["run", "store", "--key", key, "--layer", "hidden9"], "no layer 'hidden9'"),
        (["run", "store", "--key", key, "--bits", 8, "--index", "faiss"], "two ways to be quick"),
        (["run", "store", "--key", key, "--bits", 4000], "codes of 4000 bits"),
        (["run", "store", "--key", key, "--bits", 8, "--metric", "dot"], "exact search only"),
        (["run", "store", "--key", key, "--sheet", "sheet.xyz"], "sheet.xyz cannot be written"),
        (["features.parquet", "store", "--picture", "seventeen.png"], "--run"),
        (["features.parquet", "store", "--picture", "seventeen.png", "--run", "other"], "features of another model"),
        (["features.parquet", tmp_path / "larger", "--unit", 1], "another store than"),
        (["features.parquet", "store", "--key", key, "--layer", "pixels"], "not pixels"),
        (["absent.parquet", "store", "--key", key], "there is no features file"),
        (["run", "absent", "--key", key], "no image store"),
    ]
    for arguments, words in questions:
        assert words in search(place, *arguments, code=2), arguments
    assert (
        search(place, "features.parquet", "store", "--picture", "seventeen.png", "--run", "run")["found"][0]["position"] == 17
    )


class _Answers(http.server.BaseHTTPRequestHandler):
    """A picture, a flood, a trickle that does not end, and redirections."""

    def do_GET(self) -> None:
        if self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/picture")
            self.end_headers()
            return
        if self.path == "/moved":
            self.send_response(301)
            self.send_header("Location", "/picture")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/absent" else 200)
        self.end_headers()
        if self.path == "/picture":
            self.wfile.write(self.server.picture)  # type: ignore[attr-defined]
        elif self.path == "/flood":
            self.wfile.write(bytes(200_000))
        elif self.path == "/trickle":
            with contextlib.suppress(OSError):
                while not self.server.closing.wait(0.01):  # type: ignore[attr-defined]
                    self.wfile.write(b"x")
                    self.wfile.flush()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def web(place: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.picture = (place / "seventeen.png").read_bytes()  # type: ignore[attr-defined]
    server.closing = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.closing.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_is_fetched_if_that_is_allowed(place: Path, web: str) -> None:
    for path in ("picture", "moved"):
        found = search(place, "run", "store", "--picture", f"{web}/{path}", "--allow-urls", "--k", 1)
        assert found["found"][0]["position"] == 17
    assert "404" in search(place, "run", "store", "--picture", f"{web}/absent", "--allow-urls", code=2)


def test_what_is_fetched_is_bounded_and_of_the_web(web: str) -> None:
    with pytest.raises(BadInput, match="larger than 100,000 bytes"):
        fetch(f"{web}/flood", most_bytes=100_000)
    with pytest.raises(BadInput, match="took longer"):
        fetch(f"{web}/trickle", limit_s=0.3)
    with pytest.raises(BadInput, match="leads to ftp:"):
        fetch(f"{web}/loop")
    with pytest.raises(BadInput, match="404"):
        fetch(f"{web}/absent")
    for address in ("file:///etc/hostname", "ftp://127.0.0.1/x", "data:text/plain,x"):
        with pytest.raises(BadInput, match="begins with http"):
            fetch(address)


def test_a_store_that_changed_since_is_noticed(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "store", tmp_path / "store")
    more = np.random.default_rng(9).integers(0, 256, (3, 3, 16, 16), dtype=np.uint8)
    import_images(ArraySource(more), tmp_path / "store", name="more", workers=1)
    assert "encode it again" in search(place, "features.parquet", tmp_path / "store", "--unit", 0, code=2)
