"""What is to be labelled: classes, the search terms whose pictures are shown for each, and what the labellers are told.

classes:
  ship:
    terms: [boat]              # besides the class's own name
    hyponyms: true             # and every word below `ship` in WordNet, or in `hierarchy`
    sense: 1
    superclass: vehicles
    include: Any craft that floats, seen whole or in part.
    exclude: Submarines under water; models and drawings.
    examples: {include: [key-of-a-picture], exclude: [key-of-another]}
  people: {plural: true}       # several of them may be seen
hierarchy:                     # optional, in place of WordNet
  ship: [cargo ship, frigate]
  cargo ship: [container ship]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from striate.app.groups import Strict
from striate.app.labelling.wordnet import WordNet, find_wordnet
from striate.app.yaml import read_yaml
from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.store import read_rows


class Examples(Strict):
    """Keys of pictures that show what belongs and what does not."""

    include: list[str] = Field(default_factory=list)
    exclude: list[str] = Field(default_factory=list)


class ClassEntry(Strict):
    """One class, as written."""

    terms: list[str] = Field(default_factory=list)
    hyponyms: bool = False
    sense: int = Field(1, ge=1)
    superclass: str | None = None
    plural: bool = False
    include: str = ""
    exclude: str = ""
    examples: Examples = Examples()


class ClassesFile(Strict):
    """The whole file."""

    classes: dict[str, ClassEntry | None]
    hierarchy: dict[str, list[str]] = Field(default_factory=dict)


@dataclass(frozen=True)
class LabelClass:
    """One class, its terms worked out.

    Attributes:
        name: of the class.
        terms: lower case, the class's own name first, then as listed, then what is below them.
        entry: as written.
    """

    name: str
    terms: tuple[str, ...]
    entry: ClassEntry

    def positions(self, by_term: Mapping[str, np.ndarray]) -> np.ndarray:
        """Positions of the pictures found under its terms: the first term's first, each term's in the store's order."""
        return np.concatenate([np.empty(0, np.int64), *(by_term[term] for term in self.terms if term in by_term)])


def positions_by_term(terms: Sequence[str | None]) -> dict[str, np.ndarray]:
    """Plain term -> positions of its pictures, in the store's order."""
    found: dict[str, list[int]] = {}
    for position, term in enumerate(terms):
        found.setdefault(term or "", []).append(position)
    merged: dict[str, list[int]] = {}
    for term, positions in found.items():
        merged.setdefault(plain_term(term), []).extend(positions)
    return {term: np.array(sorted(positions), dtype=np.int64) for term, positions in merged.items()}


def plain_term(term: str | None) -> str:
    """A term as it is compared: lower case, single spaces, no underscores."""
    return " ".join((term or "").replace("_", " ").lower().split())


def read_classes(file: Path, wordnet: Path | None = None) -> list[LabelClass]:
    """The classes of a file.

    Raises:
        BadInput: it is no such file, names no class, or asks for a WordNet that is not there.
    """
    try:
        described = ClassesFile.model_validate(read_yaml(file))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{file}: {where}: {first['msg']} (see `striate label --help` for an example)") from None
    if not described.classes:
        raise BadInput(f"{file} names no class")
    nouns: WordNet | None = None
    classes = []
    for name, written in described.classes.items():
        entry = written or ClassEntry()
        terms = [name, *entry.terms]
        if entry.hyponyms and described.hierarchy:
            terms += [below for term in list(terms) for below in _below(described.hierarchy, term)]
        elif entry.hyponyms:
            nouns = nouns or WordNet(find_wordnet(wordnet))
            terms += nouns.words_below(name, entry.sense)
        classes.append(LabelClass(name, tuple(dict.fromkeys(map(plain_term, terms))), entry))
    return classes


def _below(hierarchy: dict[str, list[str]], term: str) -> list[str]:
    """Everything below a term, nearest first; a circle ends where it began."""
    tree = {plain_term(parent): [plain_term(child) for child in children] for parent, children in hierarchy.items()}
    found: dict[str, None] = {}
    level = [plain_term(term)]
    while level:
        level = [child for parent in level for child in tree.get(parent, []) if child not in found]
        found.update(dict.fromkeys(level))
    return list(found)


def classes_of(store: ImageStore) -> list[LabelClass]:
    """Without a file: a class for each search term of the store, or, where it has none, for each of its class names.

    Raises:
        BadInput: it has neither.
    """
    terms = dict.fromkeys(plain_term(term) for term in terms_of(store))
    terms.pop("", None)
    if not terms:
        raise BadInput(
            f"the pictures of {store.path} have no search terms: import folders named by term, or a `term` column; "
            "or give a file of classes with --classes"
        )
    return [LabelClass(term, (term,), ClassEntry()) for term in sorted(terms)]


def terms_of(store: ImageStore) -> list[str | None]:
    """Every picture's search term; the name (or number) of its class where it has a label and no term."""
    terms: list[str | None] = read_rows(store.path, "meta", ["term"])["term"].to_pylist()
    names = store.class_names
    return [
        term if term is not None or label < 0 else (names[label] if label < len(names) else str(label))
        for term, label in zip(terms, store.labels.tolist(), strict=True)
    ]
