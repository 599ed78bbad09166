"""From a pile of found pictures to a published set: `clean`, `dedupe`, `label --summary`, `split`, `export`, as commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from labelling import decision
from striate.app.labelling.ledger import Ledger
from striate.app.superclasses import CIFAR100, superclasses_of
from striate.images import ArraySource, ImageStore, import_images
from striate.images.aside import aside_reasons, groups_of
from striate.images.splits import read_split


def striate(*arguments: object, code: int = 0) -> dict[str, object]:
    command = [sys.executable, "-m", "striate", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else {"error": done.stderr}


def leaves(draws: np.random.Generator, side: int = 64) -> Image.Image:
    """Discs that hide each other, with a photograph's grain: no two pictures alike."""
    image = Image.new("RGB", (side, side), tuple(draws.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(25):
        radius, (x, y) = draws.uniform(4, side / 3), draws.uniform(0, side, 2)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(draws.integers(0, 256, 3).tolist()))
    grain = np.asarray(image, dtype=float) + draws.normal(0, 8, (side, side, 3))
    return Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def pile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures under each of two terms, three that are empty or drawn, and copies of three, one of them larger."""
    root = tmp_path_factory.mktemp("pile")
    draws = np.random.default_rng(0)
    for term in ("cat", "ship"):
        (root / "found" / term).mkdir(parents=True)
        for number in range(40):
            leaves(draws).save(root / "found" / term / f"{number:03d}.png")
    cats = root / "found" / "cat"
    Image.new("RGB", (64, 64), "white").save(cats / "white.png")
    Image.new("RGB", (64, 64), (90, 90, 91)).save(cats / "grey.png")
    drawing = Image.new("RGB", (64, 64), (250, 250, 230))
    ImageDraw.Draw(drawing).line((5, 5, 60, 50), fill=(0, 0, 0), width=4)
    drawing.save(cats / "drawing.png")
    for number, (quality, side) in enumerate(((80, 64), (90, 64), (90, 128))):
        copy = Image.open(cats / f"{number:03d}.png").resize((side, side), Image.Resampling.BICUBIC)
        copy.save(root / "found" / "ship" / f"copy{number}.jpg", quality=quality)
    striate("import", root / "found", root / "s", "--size", 32)
    grey = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32), dtype=np.uint8)
    import_images(ArraySource(grey), root / "grey")
    return root


def test_empty_pictures_and_duplicates_are_set_aside_with_reasons_and_nothing_is_lost(pile: Path) -> None:
    before = ImageStore(pile / "s").digest
    cleaned = striate("clean", pile / "s", "--drawings", 0.3)
    assert cleaned["reasons"] == {"mostly white": 1, "of a single colour": 1, "drawn": 1}
    assert Path(str(cleaned["sheet"])).exists()
    found = striate("dedupe", pile / "s")
    assert (found["pairs"], found["groups"], found["aside"], found["pairs_with_different_labels"]) == (3, 3, 3, 3)
    store = ImageStore(pile / "s")
    keys = store.keys
    reasons = {keys[position]: reason for position, reason in aside_reasons(store).items()}
    # The largest file of a group is kept, else the sharpest: the last copy is larger, the others lost by JPEG.
    assert set(reasons) >= {"cat/white.png", "cat/grey.png", "cat/drawing.png", "cat/002.png"}
    assert reasons["cat/002.png"] == "near-duplicate of ship/copy2.jpg"
    assert len(store) == 86 and store.digest == before
    page = Path(str(found["page"])).read_text()
    assert "Where the line was drawn" in page and "<script" not in page
    assert len(set(groups_of(store).tolist())) == 86 - 3
    assert striate("dedupe", pile / "s", "--undo")["aside"] == 0
    assert striate("clean", pile / "s", "--undo")["aside"] == 0
    assert aside_reasons(ImageStore(pile / "s")) == {}


def test_leakage_between_sets_is_told(pile: Path, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    draws = np.random.default_rng(5)
    for number in range(30):
        leaves(draws).save(tmp_path / "f" / f"{number:03d}.png")
    for number in range(4):
        Image.open(pile / "found" / "cat" / f"{number + 10:03d}.png").save(tmp_path / "f" / f"twin{number}.jpg", quality=85)
    striate("import", tmp_path / "f", tmp_path / "t", "--size", 32)
    found = striate("dedupe", tmp_path / "t", "--against", pile / "s", "--dry-run", "--page", tmp_path / "p.html")
    leak = found["leakage"][str(pile / "s")]  # type: ignore[index]
    assert leak["pictures"] == 4 and leak["low"] < leak["share"] < leak["high"]
    assert found["aside"] == 0 and not (tmp_path / "t" / "aside").exists()
    again = striate(
        "dedupe", tmp_path / "t", "--against", pile / "s", "--index", "faiss", "--dry-run", "--page", tmp_path / "p.html"
    )
    assert again["pairs"] == found["pairs"] and again["index_recall"] > 0.9  # type: ignore[operator]
    plain = striate("dedupe", tmp_path / "t", "--metric", "l2", "--dry-run", "--page", tmp_path / "p.html")
    assert plain["crops"] == 0


def test_decisions_become_a_split_and_a_published_set(pile: Path, tmp_path: Path) -> None:
    store = ImageStore(pile / "s")
    (tmp_path / "c.yaml").write_text(
        "classes:\n  ship: {superclass: vehicles, include: Floats.}\n  cat: {superclass: animals, exclude: Tigers.}\n"
    )
    terms = store.table["term"].to_pylist()
    with Ledger(pile / "s") as ledger:
        for position, term in enumerate(terms):
            answer = "reject" if position % 8 == 0 else "keep"
            ledger.add([decision(position, answer, name=term)])
            if position % 2:
                second = "reject" if position == 3 else answer
                ledger.add([decision(position, second, name=term, stage="verify", labeller="bert")])
    told = striate("label", pile / "s", "--classes", tmp_path / "c.yaml", "--summary")
    by_name = {one["name"]: one for one in told["classes"]}  # type: ignore[attr-defined]
    assert by_name["cat"]["errors"]["wrong"] == 1 and by_name["ship"]["errors"]["wrong"] == 0
    assert by_name["cat"]["disputed"] == 1 and {one["name"] for one in told["labellers"]} == {"anna", "bert"}  # type: ignore[attr-defined]
    # A class's name may be an option's value: no file of classes, no superclasses.
    split = striate("split", pile / "s", "--test", 5, "--classes", tmp_path / "c.yaml", "--seed", 3)
    assert split["test"] == 10 and split["classes"] == 2 and split["superclasses"] == 2
    drawn = read_split(ImageStore(pile / "s"))
    assert drawn is not None and drawn.class_names == ["ship", "cat"]
    for positions in drawn.sets.values():
        assert not set(positions % 8) & {0} and 3 not in positions
        assert all(terms[p] == drawn.class_names[drawn.labels[p]] for p in positions)
    options = ("--classes", tmp_path / "c.yaml", "--licence", "cc0-1.0", "--title", "Ships <and> cats")
    out = striate("export", pile / "s", tmp_path / "out", "--format", "cifar-binary", *options)
    assert out["sets"] == {"train": split["train"], "test": 10}
    card = (tmp_path / "out" / "README.md").read_text()
    for words in (
        'license: "cc0-1.0"',
        "Ships <and> cats",
        "2 people made",
        "Tigers",
        "| ship | vehicles |",
        "found: 86 pictures",
    ):
        assert words in card
    assert str(pile) not in card
    verified = striate("split", pile / "s", "--test", 2, "--verified", "--classes", tmp_path / "c.yaml")
    assert verified["labelled"] < split["labelled"]  # type: ignore[operator]
    assert "already" in str(striate("export", pile / "s", tmp_path / "out", *options, code=2)["error"])
    assert "were asked for" in str(striate("split", pile / "s", "--test", 500, code=2)["error"])


def test_cifar_100s_superclasses_are_known() -> None:
    """Twenty of five each (Krizhevsky 2009, appendix D)."""
    assert len(CIFAR100) == 100 and all(list(CIFAR100.values()).count(name) == 5 for name in CIFAR100.values())
    assert superclasses_of(["Pickup_Truck", "bee"]) == {"Pickup_Truck": "vehicles 1", "bee": "insects"}
    assert superclasses_of(["bee", "cat"]) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("clean", "S", "--white", 2), "shares from 0 to 1"),
        (("dedupe", "S", "--threshold", 0), "above 0"),
        (("dedupe", "S", "--crops", 9), "0 to 4"),
        (("dedupe", "S", "--against", "GREY"), "cannot be compared"),
        (("dedupe", "NONE"), "no image store"),
        (("label", "S", "--classes", "NONE"), "cannot be read"),
        (("label", "S", "--verify", 7), "share from 0 to 1"),
        (("label", "GREY"), "no search terms"),
        (("split", "GREY", "--test", 1), "no picture has a label"),
        (("export", "GREY", "OUT"), "no picture has a label"),
        (("label", "S", "--sheet", "NONE"), "sheet"),
        (("label", "S", "--host", "203.0.113.7"), "cannot be listened on"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: tuple[object, ...], message: str, pile: Path, tmp_path: Path) -> None:
    places = {"S": pile / "s", "GREY": pile / "grey", "NONE": tmp_path / "none", "OUT": tmp_path / "out"}
    error = str(striate(*(places.get(str(one), one) for one in arguments), code=2)["error"])
    assert message in error and "Traceback" not in error and error.count("\n") <= 2
