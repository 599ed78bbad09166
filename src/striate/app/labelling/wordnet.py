"""WordNet's nouns and what is below them, read from the database files every distribution of WordNet has.

`index.noun` tells a word's senses, most frequent first; `data.noun` has a line a sense: its words, and pointers, of which `~`
leads to a kind of it (a hyponym) and `~i` to an instance. `data.noun` is looked up by place, 15 MB in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from striate.errors import BadInput

_FOLDERS = ("share/wordnet", "share/nltk_data/corpora/wordnet", "nltk_data/corpora/wordnet")
_BELOW = ("~", "~i")


def find_wordnet(given: Path | None = None) -> Path:
    """The folder of the database: the one given, of WordNet's own variables WNSEARCHDIR and WNHOME, or where packages put it.

    Raises:
        BadInput: there is none.
    """
    wanted = [given] if given else [*_from_environment(), *_installed()]
    for folder in wanted:
        if (folder / "data.noun").is_file() and (folder / "index.noun").is_file():
            return folder
    where = f"{given} holds no index.noun and data.noun" if given else "no WordNet was found"
    raise BadInput(
        f"{where}: install your system's package of it (Debian: wordnet-base), or give the folder with --wordnet, "
        "or list the terms, or a `hierarchy:` of your own, in the classes file"
    )


def _from_environment() -> Iterator[Path]:
    if "WNSEARCHDIR" in os.environ:
        yield Path(os.environ["WNSEARCHDIR"])
    if "WNHOME" in os.environ:
        yield Path(os.environ["WNHOME"]) / "dict"


def _installed() -> Iterator[Path]:
    import sys

    for root in (Path(sys.prefix), Path.home(), Path("/usr"), Path("/usr/local")):
        for folder in _FOLDERS:
            yield root / folder


class WordNet:
    """The nouns of a database folder."""

    def __init__(self, folder: Path) -> None:
        self._data = (folder / "data.noun").read_bytes()
        self._senses: dict[str, list[int]] = {}
        with (folder / "index.noun").open(encoding="latin-1") as index:
            for line in index:
                if not line.startswith(" "):
                    fields = line.split()
                    self._senses[fields[0]] = [int(offset) for offset in fields[-int(fields[2]) :]]

    def words_below(self, word: str, sense: int = 1) -> list[str]:
        """The words of a sense and of all that is below it, in order of depth, each once, with spaces.

        Args:
            word: a noun.
            sense: 1 is the most frequent.

        Raises:
            BadInput: WordNet has no such noun or sense.
        """
        offsets = self._senses.get(word.strip().lower().replace(" ", "_"), [])
        if not 1 <= sense <= len(offsets):
            known = f"{len(offsets)} senses" if offsets else "no such noun"
            raise BadInput(f"WordNet has {known} for {word!r}: sense {sense} was asked for; list the terms instead")
        words: dict[str, None] = {}
        level, seen = [offsets[sense - 1]], set()
        while level:
            below: list[int] = []
            for offset in level:
                if offset not in seen:
                    seen.add(offset)
                    names, pointers = self._read(offset)
                    words.update(dict.fromkeys(names))
                    below += pointers
            level = below
        return list(words)

    def _read(self, offset: int) -> tuple[list[str], list[int]]:
        line = self._data[offset : self._data.index(b"\n", offset)]
        fields = line.decode("latin-1").split("|")[0].split()
        # offset, file, type, number of words in hexadecimal, then (word, id) pairs, then pointers of four fields.
        count = int(fields[3], 16)
        names = [name.replace("_", " ").lower() for name in fields[4 : 4 + 2 * count : 2]]
        start = 5 + 2 * count
        pointers = [fields[i : i + 4] for i in range(start, start + 4 * int(fields[start - 1]), 4)]
        return names, [int(target) for kind, target, part, _ in pointers if kind in _BELOW and part == "n"]
