"""Near-duplicates of a store (and between stores): calibrated, found, grouped, set aside, drawn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from striate.app.screen import Screen
from striate.compute import choose_device
from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.aside import read_aside, write_aside
from striate.images.work import Each, one_by_one
from striate.measure.duplicates import (
    Calibration,
    Compared,
    FeatureRows,
    Group,
    Pairs,
    PictureRows,
    Search,
    calibrate,
    find_pairs,
    group,
    sharpness,
)
from striate.measure.duplicates.rows import Metric
from striate.measure.intervals import wilson

_AT_ONCE = 2048
_FEW_PICTURES = 2


@dataclass(frozen=True)
class Joined:
    """Several stores as one sequence of pictures: positions of the second go on where the first's end."""

    stores: Sequence[ImageStore]

    @property
    def starts(self) -> np.ndarray:
        """Where each store begins, and where the last ends."""
        return np.cumsum([0, *(len(store) for store in self.stores)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, positions: np.ndarray) -> np.ndarray:
        """uint8 pictures at these positions."""
        if len(self.stores) == 1:
            return self.stores[0][positions]
        out = np.empty((len(positions), *self.stores[0].shape), dtype=np.uint8)
        which = self.store_of(positions)
        for number in np.unique(which):
            chosen = which == number
            out[chosen] = self.stores[number][positions[chosen] - self.starts[number]]
        return out

    def store_of(self, positions: np.ndarray) -> np.ndarray:
        """Number of the store that holds each position."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def labels(self) -> np.ndarray:
        """Labels of all, -1 for none; by class name where stores number them differently."""
        names: dict[str, int] = {}
        parts = []
        for store in self.stores:
            listed = store.class_names or [str(number) for number in range(int(store.labels.max(initial=-1)) + 1)]
            lookup = np.array([names.setdefault(name, len(names)) for name in listed] or [-1])
            valid = (store.labels >= 0) & (store.labels < len(lookup))
            parts.append(np.where(valid, lookup[np.where(valid, store.labels, 0)], -1))
        return np.concatenate(parts)

    def keys(self) -> list[str]:
        """Keys of all."""
        return [key for store in self.stores for key in store.keys]


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        joined: the stores.
        calibration: what the threshold was drawn from; None if it was given, or features were compared.
        search: as it was made.
        pairs: near-duplicates.
        groups: of the first store's and the others' pictures.
        compared: pictures that showed anything.
        seconds: of the search, calibration included.
        index: how neighbours were found.
        recall: of an index: share of a sample's pairs that it found; None where all are.
    """

    joined: Joined
    calibration: Calibration | None
    search: Search
    pairs: Pairs
    groups: list[Group]
    compared: int
    seconds: float
    index: str
    recall: float | None

    @property
    def crossing(self) -> Pairs:
        """Pairs that join two stores."""
        where = self.joined.store_of
        return self.pairs[where(self.pairs.first) != where(self.pairs.second)]


def find_duplicates(
    stores: Sequence[ImageStore],
    screen: Screen,
    *,
    metric: Metric = "contrast",
    threshold: float | None = None,
    crops: float = 2.0,
    mirrored: bool = False,
    device: str = "auto",
    features: np.ndarray | None = None,
    index: str = "exact",
    seed: int = 0,
    each: Each = one_by_one,
) -> Found:
    """Look through one store, or several as one; `each` has the work done, with the same result.

    Raises:
        BadInput: stores of different shapes, too few pictures, or options that exclude each other.
    """
    joined = Joined(stores)
    if len({store.shape for store in stores}) > 1:
        raise BadInput(f"stores of shapes {[store.shape for store in stores]} cannot be compared: import them at one --size")
    if len(joined) < _FEW_PICTURES:
        raise BadInput(f"{stores[0].path} holds {len(joined)} pictures: two at least are needed")
    if features is not None and threshold is None:
        raise BadInput("features are compared at a distance of your choice: give --threshold (0.2 is near, 2 is opposite)")
    started = time.monotonic()
    rows = PictureRows(joined.read, len(joined), metric) if features is None else FeatureRows(features)
    search = Search(
        threshold or 0.0, 0.0 if metric == "l2" or features is not None else crops, mirrored, device=str(choose_device(device))
    )
    compared = Compared(rows, seed=seed, each=each)
    calibration = None
    if features is None:
        screen.say("calibrating on copies of your own pictures")
        calibration = calibrate(compared, search, threshold, seed=seed)
        search = calibration.search
    recall = None
    neighbours = None
    if index == "faiss":
        from striate.app.indexing import index_recall, indexed_neighbours

        neighbours = indexed_neighbours()
        recall = index_recall(compared, search, neighbours, seed)
    every = len(joined) * (len(joined) - 1) / 2
    with screen.progress("comparing", every, "pairs") as task:
        pairs = find_pairs(compared, search, lambda share: task.advance(share * every), neighbours)
    groups = group(pairs, len(joined), _quality(joined, each)) if len(pairs) else []
    shown = int((~compared.short[:, 0].isnan()).sum())
    seconds = time.monotonic() - started
    return Found(joined, calibration, search, pairs, groups, shown, seconds, index, recall)


def _quality(joined: Joined, each: Each) -> np.ndarray:
    """Higher is better: the first store before the others, then pixels of the file it came from, then sharpness."""
    sharp = np.concatenate([part for _, part in each(_Sharpness(joined), range(0, len(joined), _AT_ONCE))])
    pixels = np.concatenate(
        [
            table["width"].to_numpy(zero_copy_only=False).astype(np.float64)
            * table["height"].to_numpy(zero_copy_only=False).astype(np.float64)
            for table in (store.table.select(["width", "height"]) for store in joined.stores)
        ]
    )
    order = np.lexsort((sharp, np.nan_to_num(pixels), -joined.store_of(np.arange(len(joined)))))
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order))
    return rank


@dataclass(frozen=True)
class _Sharpness:
    """From a block's start to its pictures' sharpness."""

    joined: Joined

    def __call__(self, start: int) -> np.ndarray:
        return sharpness(self.joined.read(np.arange(start, min(start + _AT_ONCE, len(self.joined)))))


def set_aside(found: Found) -> int:
    """Write the first store's duplicates: all of a group but the one kept; those with a twin in another store, too.

    Returns:
        How many of its pictures are aside now.
    """
    store = found.joined.stores[0]
    keys = found.joined.keys()
    first = len(store)
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(found.groups):
        elsewhere = [member for member in one.members if member >= first]
        kept = elsewhere[0] if elsewhere else one.kept
        for member in one.members:
            if member < first and member != kept:
                where = " (in another store)" if elsewhere else ""
                rows.append(
                    {
                        "position": member,
                        "reason": f"near-duplicate of {keys[kept]}{where}",
                        "score": one.nearest,
                        "group": number,
                        "kept": keys[kept],
                    }
                )
    settings = {**asdict(found.search), "stores": [str(other.path) for other in found.joined.stores]}
    write_aside(store, "duplicates", sorted(rows, key=lambda row: row["position"]), settings)
    return len(rows)


def summary(found: Found) -> dict[str, Any]:
    """What a script needs to know."""
    labels = found.joined.labels()
    pairs = found.pairs
    labelled = (labels[pairs.first] >= 0) & (labels[pairs.second] >= 0)
    differ = int((labelled & (labels[pairs.first] != labels[pairs.second])).sum())
    result: dict[str, Any] = {
        "pictures": len(found.joined),
        "compared": found.compared,
        "threshold": round(found.search.threshold, 4),
        "crops": found.search.crops,
        "mirrored": found.search.mirrored,
        "pairs": len(pairs),
        "groups": len(found.groups),
        "largest_group": max((len(one.members) for one in found.groups), default=0),
        "pairs_with_different_labels": differ,
        "seconds": round(found.seconds, 1),
        "index": found.index,
    }
    if found.recall is not None:
        result["index_recall"] = round(found.recall, 4)
    if found.calibration is not None:
        copies = found.calibration.copies.values()
        result["calibration"] = {
            "sample": found.calibration.sample,
            "copies_missed": round(found.calibration.missed, 4),
            "pictures_with_another_within": round(found.calibration.taken, 4),
            "copies_99_percent": {kind: round(float(np.quantile(d, 0.99)), 3) for kind, d in found.calibration.copies.items()},
            "largest_copy": round(float(max(d[np.isfinite(d)].max() for d in copies)), 3),
        }
    if len(found.joined.stores) > 1:
        result["leakage"] = leakage(found)
    return result


def leakage(found: Found) -> dict[str, Any]:
    """How many pictures of each later store have a near-duplicate in the first, with a 95% interval."""
    crossing, starts = found.crossing, found.joined.starts
    result = {}
    for number, store in enumerate(found.joined.stores[1:], start=1):
        into = (found.joined.store_of(crossing.first) == 0) & (found.joined.store_of(crossing.second) == number)
        twins = np.unique(crossing.second[into])
        low, high = wilson(len(twins), len(store))
        result[str(store.path)] = {
            "pictures": len(twins),
            "of": int(starts[number + 1] - starts[number]),
            "share": round(len(twins) / max(len(store), 1), 5),
            "low": round(low, 5),
            "high": round(high, 5),
        }
    return result


def members_of(store: ImageStore) -> list[dict[str, Any]]:
    """The groups that were set aside in a store, nearest first: the key kept, the keys and positions set aside."""
    table = read_aside(store, "duplicates")
    if table is None:
        return []
    groups: dict[int, dict[str, Any]] = {}
    for row in table.to_pylist():
        one = groups.setdefault(row["group"], {"group": row["group"], "kept": row["kept"], "score": row["score"], "aside": []})
        one["aside"].append({"position": row["position"], "key": row["key"]})
    return sorted(groups.values(), key=lambda one: (one["score"], one["group"]))


def write_page(found: Found, file: Path) -> Path:
    """The report: both histograms, the pairs that cross, groups side by side, the doubtful ones at the line."""
    from striate.app.duplicates_page import page

    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page(found), encoding="utf-8")
    return file
