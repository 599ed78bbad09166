"""Training and test sets: as many pictures of each class, drawn by a seed, near-duplicates on one side.

Source: Krizhevsky 2009, section 3.1: 1,000 pictures of each class chosen at random for testing, the rest for training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from striate.draws import generator
from striate.errors import BadInput
from striate.files import write_whole
from striate.images.store import ImageStore, read_parquet

FILE = "split.parquet"
_SCHEMA = pa.schema([("position", pa.int64()), ("key", pa.string()), ("label", pa.int64()), ("split", pa.string())])
_DETAILS = b"details"


@dataclass(frozen=True)
class Split:
    """Who is in which set.

    Attributes:
        sets: name (`train`, `test`) -> positions in the store, in the store's order.
        labels: int64 (pictures of the store,), -1 where in no set.
        class_names: that labels index.
        superclasses: class name -> superclass; empty where there are none.
        details: seed and whatever else is to be remembered.
    """

    sets: Mapping[str, np.ndarray]
    labels: np.ndarray
    class_names: Sequence[str]
    superclasses: Mapping[str, str]
    details: Mapping[str, Any]


def draw_split(
    labels: np.ndarray, groups: np.ndarray, class_names: Sequence[str], test: int, train: int | None, seed: int
) -> dict[str, np.ndarray]:
    """Positions of the training and the test set.

    Args:
        labels: int64 (n,), -1 for pictures that take no part.
        groups: int64 (n,): pictures that share a number (near-duplicates) stay on one side.
        class_names: for messages.
        test: pictures of each class in the test set, exactly.
        train: the same for training; None: as many as the smallest class leaves, of every class.
        seed: of the draw.

    Raises:
        BadInput: a class is too short for what is asked; the message says by how much.
    """
    counts = np.bincount(labels[labels >= 0], minlength=len(class_names))
    if test < 0 or (train is not None and train < 1) or counts.sum() == 0:
        raise BadInput(f"a split of {test} and {train} pictures a class cannot be drawn from {int(counts.sum())} labelled ones")
    if train is None:
        train = int(counts.min()) - test
    for number, count in enumerate(counts):
        if count < train + test or train < 1:
            wanted = f"{max(train, 1):,} for training and {test:,} for testing"
            raise BadInput(
                f"class {class_names[number]!r} has {count:,} pictures, {wanted} were asked for: label more, or ask for less"
            )
    # A group whose pictures have different labels would unbalance two classes at once: it trains.
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.r_[True, groups[order][1:] != groups[order][:-1]])
    lowest = np.minimum.reduceat(labels[order], starts)
    highest = np.maximum.reduceat(labels[order], starts)
    pure = dict(zip(groups[order][starts].tolist(), (lowest == highest).tolist(), strict=True))
    sets: dict[str, list[int]] = {"train": [], "test": []}
    draws = generator(seed, "split")
    for number, name in enumerate(class_names):
        members = np.flatnonzero(labels == number)
        by_group: dict[int, list[int]] = {}
        for position in draws.permutation(members):
            by_group.setdefault(int(groups[position]), []).append(int(position))
        tested = _fill(by_group, test, pure)
        if sum(len(by_group[one]) for one in tested) != test:
            raise BadInput(f"class {name!r}: its groups of near-duplicates cannot be put together to {test:,} test pictures")
        left = [position for one, positions in by_group.items() if one not in tested for position in positions]
        sets["test"] += [position for one in tested for position in by_group[one]]
        sets["train"] += left[:train]
    return {name: np.array(sorted(positions), dtype=np.int64) for name, positions in sets.items()}


def _fill(by_group: dict[int, list[int]], wanted: int, pure: dict[int, bool]) -> set[int]:
    """Groups that together have so many pictures: in the order drawn, those that still fit, the large ones first."""
    chosen: set[int] = set()
    many = [one for one, positions in by_group.items() if pure[one] and len(positions) > 1]
    single = [one for one, positions in by_group.items() if pure[one] and len(positions) == 1]
    # Groups get the share of the test set that their pictures have of the class; single pictures make the count exact.
    share = wanted * sum(len(by_group[one]) for one in many) / max(1, sum(len(positions) for positions in by_group.values()))
    taken = 0
    for one in many:
        if taken + len(by_group[one]) <= min(wanted, share):
            chosen.add(one)
            taken += len(by_group[one])
    for one in [*single, *many]:
        if one not in chosen and taken + len(by_group[one]) <= wanted:
            chosen.add(one)
            taken += len(by_group[one])
    return chosen


def write_split(store: ImageStore, split: Split) -> Path:
    """Keep a split beside the store's tables."""
    keys = store.keys
    rows = [
        {"position": int(position), "key": keys[position], "label": int(split.labels[position]), "split": name}
        for name, positions in split.sets.items()
        for position in positions
    ]
    kept = {"class_names": list(split.class_names), "superclasses": dict(split.superclasses), **split.details}
    table = pa.Table.from_pylist(rows, schema=_SCHEMA).replace_schema_metadata({_DETAILS: json.dumps(kept)})
    file = store.path / FILE
    write_whole(file, lambda temporary: pq.write_table(table, temporary))
    return file


def read_split(store: ImageStore) -> Split | None:
    """The split of a store; None if none was drawn.

    Raises:
        BadInput: it is damaged, or of other pictures.
    """
    file = store.path / FILE
    if not file.exists():
        return None
    table = read_parquet(file, _SCHEMA.names)
    try:
        details = json.loads((pq.read_schema(file).metadata or {})[_DETAILS])
        names, superclasses = list(details.pop("class_names")), dict(details.pop("superclasses"))
    except (KeyError, ValueError):
        raise BadInput(f"{file} is damaged: run `striate split` again") from None
    positions = table["position"].to_numpy()
    if len(positions) and positions.max() >= len(store):
        raise BadInput(f"{file} speaks of pictures that {store.path} does not hold: run `striate split` again")
    labels = np.full(len(store), -1, np.int64)
    labels[positions] = table["label"].to_numpy()
    chosen = np.array(table["split"].to_pylist())
    return Split(
        {name: positions[chosen == name] for name in dict.fromkeys(chosen.tolist())}, labels, names, superclasses, details
    )
