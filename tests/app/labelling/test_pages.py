"""The server: tokens, hostile names, answers that are wrong, pictures that cannot be shown."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from labelling import opened, session_at
from striate.app.labelling.classes import ClassEntry, Examples, LabelClass, classes_of
from striate.app.labelling.ledger import Ledger
from striate.app.labelling.pages import Pages, read_sheet
from striate.app.labelling.session import Session
from striate.app.web import server
from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, import_images
from striate.images.aside import write_aside

TOKEN = "a-token-for-tests"
HOSTILE = "<img src=x onerror=alert(1)>"


def client_of(session: Session, token: bool = True, sheet: str = "# How") -> TestClient:
    app = server.application(Pages(session, sheet).routes(), TOKEN, "127.0.0.1")
    client = TestClient(app, raise_server_exceptions=False)
    if token:
        client.get(f"/?token={TOKEN}")
    return client


def decisions(
    *rows: tuple[str, int, str], labeller: str = "anna", name: str = "cat", stage: str = "first"
) -> dict[str, object]:
    sent = [{"token": token, "position": position, "answer": answer, "seconds": 1.0} for token, position, answer in rows]
    return {"labeller": labeller, "class": name, "stage": stage, "decisions": sent}


PAGES = (
    "/",
    "/label?class=cat",
    "/sheet",
    "/review",
    "/duplicates",
    "/picture/0",
    "/api/page?class=cat&labeller=a",
    "/api/last",
)


@pytest.mark.parametrize("path", [*PAGES, "/static/app.css", "/api/decide", "/nothing"])
def test_nothing_is_served_without_the_token(path: str, tmp_path: Path) -> None:
    client = client_of(session_at(tmp_path), token=False)
    for given in ("", "wrong", TOKEN[:-1], "é"):
        separator = "&" if "?" in path else "?"
        answer = client.get(f"{path}{separator}token={given}" if given else path)
        assert answer.status_code == 403 and "token" in answer.text and "cat" not in answer.text
    client.cookies.set(server.COOKIE, "somebody-elses")
    assert client.get(path).status_code == 403


def test_the_token_goes_into_a_cookie_and_out_of_the_address(tmp_path: Path) -> None:
    client = client_of(session_at(tmp_path), token=False)
    answer = client.get(f"/label?class=cat&token={TOKEN}", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/label?class=cat"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("path", PAGES[:6])
def test_every_page_forbids_scripts_from_elsewhere(path: str, tmp_path: Path) -> None:
    answer = client_of(session_at(tmp_path)).get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy and answer.headers["x-content-type-options"] == "nosniff"
    assert "http://" not in answer.text.replace("http://testserver", "") and "https://" not in answer.text


def test_another_name_for_this_machine_is_not_answered(tmp_path: Path) -> None:
    """DNS rebinding: somebody's page that reaches loopback under its own name."""
    assert client_of(session_at(tmp_path)).get("/", headers={"host": "evil.example"}).status_code == 400


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    keys = ["../../../etc/passwd", HOSTILE, "'; DROP TABLE decisions; --", "\u202eevil"]
    import_images(ArraySource(pictures, keys=keys, terms=[HOSTILE] * 4), tmp_path)
    store = ImageStore(tmp_path)
    write_aside(store, "duplicates", [{"position": 1, "reason": "near", "score": 0.1, "group": 0, "kept": keys[0]}], {})
    entry = ClassEntry(include=f"**bold** {HOSTILE}", examples=Examples(include=[keys[1], "not there"]))
    opened.append(Ledger(tmp_path))
    session = Session(store, [*classes_of(store), LabelClass(HOSTILE, (HOSTILE.lower(),), entry)], opened[-1])
    client = client_of(session, sheet=f"# {HOSTILE}")
    for path in ("/", "/sheet", "/review", "/duplicates", "/label"):
        text = client.get(path, params={"class": HOSTILE} if path == "/label" else None).text
        assert "<img src=x" not in text
        assert path in ("/duplicates",) or "&lt;img src=x" in text
    assert "<strong>bold</strong>" in client.get("/sheet").text
    name = "'; DROP TABLE decisions; --"
    sent = decisions(("hostile-1", 0, "keep"), labeller=name, name=HOSTILE)
    assert client.post("/api/decide", json=sent).json()["new"] == 1
    assert "&#39;; DROP" in client.get("/review").text


@pytest.mark.parametrize(
    "path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd", "/picture/../../x"]
)
def test_no_file_outside_is_served(path: str, tmp_path: Path) -> None:
    answer = client_of(session_at(tmp_path)).get(path)
    assert answer.status_code == 404 and "import" not in answer.text


def test_a_page_holds_the_very_pixels_of_the_store(tmp_path: Path) -> None:
    session = session_at(tmp_path)
    told = client_of(session).get("/api/page", params={"class": "cat", "labeller": "anna", "count": 3}).json()
    assert [one["position"] for one in told["pictures"]] == [0, 2, 4] and told["tally"]["left"] == 20
    for one in told["pictures"]:
        data = base64.b64decode(one["image"].removeprefix("data:image/png;base64,"))
        shown = np.asarray(Image.open(io.BytesIO(data))).transpose(2, 0, 1)
        np.testing.assert_array_equal(shown, session.store[one["position"]])
        assert one["term"] == "cat"


def test_who_settles_sees_the_answers_and_who_verifies_does_not(tmp_path: Path) -> None:
    client = client_of(session_at(tmp_path, review=(1.0, 1.0)))
    client.post("/api/decide", json=decisions(("answer-01", 0, "keep")))
    asked = {"class": "cat", "labeller": "carl"}
    assert client.get("/api/page", params={**asked, "stage": "verify"}).json()["pictures"][0]["said"] == []
    client.post("/api/decide", json=decisions(("answer-02", 0, "reject"), labeller="bert", stage="verify"))
    told = client.get("/api/page", params={**asked, "stage": "settle"}).json()["pictures"]
    assert [one["said"] for one in told] == [["anna: keep", "bert: reject"]]


def test_answers_are_written_once_and_counted(tmp_path: Path) -> None:
    session = session_at(tmp_path)
    client = client_of(session)
    sent = decisions(("answer-01", 0, "keep"), ("answer-02", 2, "reject"))
    assert client.post("/api/decide", json=sent).json() == {
        "saved": 2, "new": 2, "tally": {"keep": 1, "reject": 1, "ask": 0, "left": 18},
    }  # fmt: skip
    assert client.post("/api/decide", json=sent).json()["new"] == 0
    assert session.ledger.count == 2
    last = client.get("/api/last", params={"class": "cat", "labeller": "anna"}).json()
    assert last["picture"]["position"] == 2
    assert client.get("/api/last", params={"class": "cat", "labeller": "bert"}).json() == {"picture": None}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"[]", 400), (b"{", 400), (b'{"labeller": "a"}', 400), (b"[" * 5000, 400),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', 413),
        (b'{"labeller": "a", "class": "cow", "stage": "first", "decisions": []}', 400),
        (b'{"labeller": "a", "class": "cat", "stage": "last", "decisions": []}', 400),
        (b'{"labeller": "a", "class": "cat", "stage": "first", "decisions": [{"token": "12345678", "position": 1e400}]}', 400),
        (b'{"labeller": "", "class": "cat", "stage": "first", "decisions": []}', 400),
    ],
)  # fmt: skip
def test_requests_that_make_no_sense_get_a_reason(body: bytes, status: int, tmp_path: Path) -> None:
    answer = client_of(session_at(tmp_path)).post("/api/decide", content=body)
    assert answer.status_code == status and answer.json()["error"]


@pytest.mark.parametrize(
    "query", ["class=cow&labeller=a", "class=cat&labeller=", "class=cat&labeller=a&stage=x", "class=cat&labeller=a&order=x"]
)
def test_pages_that_are_not_there_get_a_reason(query: str, tmp_path: Path) -> None:
    client = client_of(session_at(tmp_path))
    answer = client.get(f"/api/page?{query}")
    assert answer.status_code == 400 and answer.json()["error"]
    assert client.get("/label?class=cow").status_code == 400
    assert client.get("/picture/99").status_code == 404


def test_a_picture_that_cannot_be_shown_can_still_be_answered(tmp_path: Path) -> None:
    """A JPEG in the store whose bytes were damaged."""
    folder = tmp_path / "s"
    pictures = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    import_images(ArraySource(pictures, terms=["cat"] * 6), folder, quality=90)
    file = next((folder / "pixels").glob("*.parquet"))
    data = bytearray(file.read_bytes())
    start = data.index(b"\xff\xd8\xff", data.index(b"\xff\xd8\xff") + 3)
    data[start : start + 400] = b"\x00" * 400
    file.write_bytes(bytes(data))
    client = client_of(session_at(folder))
    told = client.get("/api/page", params={"class": "cat", "labeller": "anna"}).json()["pictures"]
    assert [one["position"] for one in told if one["image"] is None] == [1] and len(told) == 6
    assert client.post("/api/decide", json=decisions(("answer-01", 1, "reject"))).json()["new"] == 1
    assert client.get("/picture/1").status_code == 500 and "cannot be shown" in client.get("/picture/1").text


def test_a_full_disk_and_a_changed_store_are_told_apart(tmp_path: Path) -> None:
    session = session_at(tmp_path)
    client = client_of(session)
    session.ledger._connection.execute(
        f"PRAGMA max_page_count = {session.ledger._connection.execute('PRAGMA page_count').fetchone()[0]}"
    )
    many = [(f"answer-{i:04d}", 2 * (i % 20), "keep") for i in range(600)]
    answer = client.post("/api/decide", json=decisions(*many, labeller="x" * 60))
    assert answer.status_code == 507 and "full" in answer.json()["error"]
    session.ledger._connection.execute("PRAGMA max_page_count = 100000")
    assert client.post("/api/decide", json=decisions(*many, labeller="x" * 60)).json()["new"] == 600
    (tmp_path / "meta.parquet").write_bytes(b"gone")
    answer = client.get("/api/page", params={"class": "cat", "labeller": "anna"})
    assert answer.status_code == 409 and "changed" in answer.json()["error"]


def test_the_sheet_that_comes_with_striate_says_what_the_paper_asks(tmp_path: Path) -> None:
    """Krizhevsky 2009, appendix C: likely basic name, photo-realistic, one prominent instance, doubt means reject."""
    text = read_sheet(None)
    for words in ("first answers", "photograph", "one of them", "doubt"):
        assert words in text
    (tmp_path / "mine.md").write_text("# Mine")
    assert read_sheet(tmp_path / "mine.md") == "# Mine"
    with pytest.raises(BadInput, match="cannot be read"):
        read_sheet(tmp_path / "none.md")


def test_a_port_in_use_is_named() -> None:
    with server.listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(BadInput, match=f"{port} is in use"):
            server.listen("127.0.0.1", port)
    with pytest.raises(BadInput, match="cannot be listened on"):
        server.listen("203.0.113.7", 0)
