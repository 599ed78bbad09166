"""Classes, their terms, and WordNet's hyponyms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from striate.app.labelling.classes import classes_of, plain_term, positions_by_term, read_classes
from striate.app.labelling.wordnet import WordNet, find_wordnet
from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, import_images


def wordnet_at(folder: Path) -> Path:
    """A database of seven nouns in WordNet's own format: ship > cargo ship > container ship, ship > frigate; two senses."""
    folder.mkdir()
    synsets = {
        "ship": (["ship"], ["cargo", "frigate"]),
        "cargo": (["cargo_ship", "cargo_vessel"], ["container"]),
        "container": (["container_ship"], ["ship"]),  # A circle, which no real database has, must end.
        "frigate": (["frigate"], []),
        "frigate_bird": (["frigate", "frigate_bird"], []),
    }
    header = "  1 licence\n"
    width = dict.fromkeys(synsets, 120)
    offsets, at = {}, len(header)
    for name in synsets:
        offsets[name], at = at, at + width[name]
    lines = []
    for name, (words, below) in synsets.items():
        told = " ".join(f"{word} 0" for word in words)
        pointers = " ".join(f"~ {offsets[one]:08d} n 0000" for one in below)
        line = f"{offsets[name]:08d} 06 n {len(words):02x} {told} {len(below):03d} {pointers} | a thing"
        lines.append(line.ljust(width[name] - 1) + "\n")
    (folder / "data.noun").write_text(header + "".join(lines))
    index = {"ship": ["ship"], "cargo_ship": ["cargo"], "frigate": ["frigate", "frigate_bird"]}
    rows = [f"{word} n {len(s)} 1 ~ {len(s)} 0 {' '.join(f'{offsets[o]:08d}' for o in s)}  \n" for word, s in index.items()]
    (folder / "index.noun").write_text(header + "".join(rows))
    return folder


def store_at(folder: Path, terms: list[str | None]) -> ImageStore:
    pictures = np.random.default_rng(0).integers(0, 256, (len(terms), 3, 8, 8), dtype=np.uint8)
    import_images(ArraySource(pictures, None, [], terms=terms), folder)  # type: ignore[arg-type]
    return ImageStore(folder)


def test_hyponyms_are_all_words_below_a_sense(tmp_path: Path) -> None:
    nouns = WordNet(wordnet_at(tmp_path / "w"))
    assert nouns.words_below("ship") == ["ship", "cargo ship", "cargo vessel", "frigate", "container ship"]
    assert nouns.words_below("frigate", sense=2) == ["frigate", "frigate bird"]
    for word, sense in (("boat", 1), ("frigate", 3), ("ship", 0)):
        with pytest.raises(BadInput, match="WordNet has"):
            nouns.words_below(word, sense)


def test_the_real_wordnet_knows_kinds_of_ships() -> None:
    try:
        nouns = WordNet(find_wordnet())
    except BadInput as missing:
        pytest.skip(str(missing))
    below = nouns.words_below("ship")
    assert {"cargo ship", "container ship", "frigate", "liner"} <= set(below) and len(below) > 80
    assert "car" not in below


def test_a_class_gathers_its_terms_and_those_below_in_that_order(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("classes:\n  Ship: {terms: [boat], hyponyms: true, superclass: vehicles}\n  cat:\n")
    ship, cat = read_classes(tmp_path / "c.yaml", wordnet_at(tmp_path / "w"))
    assert ship.terms == ("ship", "boat", "cargo ship", "cargo vessel", "frigate", "container ship")
    assert cat.terms == ("cat",) and ship.entry.superclass == "vehicles"
    terms = ["frigate", "cat", "SHIP", "Cargo_Ship", None, "boat", "ship ", "shipping"]
    assert ship.positions(positions_by_term(terms)).tolist() == [2, 6, 5, 3, 0]


def test_a_users_own_hierarchy_stands_in_for_wordnet(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "classes: {ship: {hyponyms: true}}\nhierarchy: {ship: [Cargo Ship, frigate], cargo_ship: [container ship, ship]}\n"
    )
    assert read_classes(tmp_path / "c.yaml")[0].terms == ("ship", "cargo ship", "frigate", "container ship")


def test_without_a_file_terms_are_classes_and_labels_are_terms_where_there_are_none(tmp_path: Path) -> None:
    store = store_at(tmp_path / "a", ["cat", "Dog", None, "cat"])
    assert [one.name for one in classes_of(store)] == ["cat", "dog"]
    with pytest.raises(BadInput, match="no search terms"):
        classes_of(store_at(tmp_path / "b", [None, None]))
    assert plain_term(" Cargo_Ship  A") == "cargo ship a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: {}\n", "names no class"),
        ("classes: {ship: {term: [boat]}}\n", "classes.ship.term"),
        ("klasses: {}\n", "klasses|classes"),
        ("classes: {ship: {sense: 0}}\n", "sense"),
        ("classes: [ship]\n", "classes"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_the_place(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(BadInput, match=message):
        read_classes(tmp_path / "c.yaml")


def test_no_wordnet_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="wordnet-base"):
        find_wordnet(tmp_path)
