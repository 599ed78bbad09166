"""ImageNet's development kit: whose picture is whose in a folder of validation pictures, and in which order classes come.

The pictures lie in one folder and are named by number; `ILSVRC2012_validation_ground_truth.txt` has a line for each, a class's
number, and `meta.mat` says which WordNet synset has that number. Classes are put in the order of their synsets' names, which
is the order of a training set's folders and of most networks' answers; the kit's own numbers are another order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from striate.errors import BadInput
from striate.images.items import Item, Rejected, Source

_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_META = "meta.mat"
_NUMBER = re.compile(r"(\d+)\.[A-Za-z]+$")


class DevkitSource:
    """Another source's pictures, labelled by a development kit.

    Args:
        source: the pictures; the number that ends a picture's name is its line in the truth.
        devkit: the kit's folder, or its `data`.

    Attributes:
        class_names: WordNet ids in alphabetical order.

    Raises:
        BadInput: the kit lacks a file, or one cannot be read.
    """

    def __init__(self, source: Source, devkit: Path) -> None:
        folder = next((one for one in (devkit, devkit / "data") if (one / _META).is_file()), None)
        if folder is None:
            raise BadInput(f"{devkit} is no development kit: expected {_META} and {_TRUTH} in it or in its folder data")
        self._source, self.natural_shape = source, source.natural_shape
        ids, words = _synsets(folder / _META)
        self.class_names = sorted(ids.values())
        self._words = {ids[number]: words[number] for number in ids}
        self._labels = [self.class_names.index(ids[number]) for number in _truth(folder / _TRUTH, ids)]

    def __iter__(self) -> Iterator[Item]:
        for item in self._source:
            found = _NUMBER.search(item.key)
            if found is None:
                yield replace(item, data=Rejected("its name ends in no number, by which the development kit knows it"))
                continue
            number = int(found[1])
            if not 1 <= number <= len(self._labels):
                yield replace(item, data=Rejected(f"the development kit knows pictures 1 to {len(self._labels)}, not {number}"))
                continue
            label = self._labels[number - 1]
            yield replace(item, label=label, term=self._words[self.class_names[label]])


def _synsets(file: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Of every class (synsets without others below them): WordNet id and first word, by number."""
    from scipy.io import loadmat

    try:
        synsets = np.atleast_1d(loadmat(file, squeeze_me=True, variable_names=["synsets"])["synsets"])
        rows = [
            (int(one["ILSVRC2012_ID"]), str(one["WNID"]), str(one["words"]).split(",")[0].strip())
            for one in synsets
            if int(one["num_children"]) == 0
        ]
    # What is no MATLAB file fails in many ways.
    except Exception as error:
        raise BadInput(f"{file} cannot be read as a development kit's table of synsets: {error}") from None
    if not rows:
        raise BadInput(f"{file} lists no class")
    return {number: wnid for number, wnid, _ in rows}, {number: word for number, _, word in rows}


def _truth(file: Path, known: dict[int, str]) -> list[int]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from None
    for at, line in enumerate(lines, start=1):
        if not line.isdigit() or int(line) not in known:
            raise BadInput(f"{file}, line {at}: {line[:20]!r} is no number of a class")
    return [int(line) for line in lines]
