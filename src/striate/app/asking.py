"""What is searched for: pictures of files, of addresses, or of the store itself, as one query."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from striate.app.fetching import fetch, is_address
from striate.app.searching import Searcher
from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.decode import Target, decode, own_limits
from striate.images.items import Rejected
from striate.models.encoder import Encoder


@dataclass(frozen=True)
class Asked:
    """A query.

    Attributes:
        row: float64 (dim,).
        pictures: what it was made of, uint8 (n, c, h, w).
        names: of those, as they were given.
        positions: those of them that are in the store, to be left out of the answer.
    """

    row: np.ndarray
    pictures: np.ndarray
    names: tuple[str, ...]
    positions: np.ndarray


def ask(
    searcher: Searcher, files: Sequence[str], keys: Sequence[str], encoder: Callable[[], Encoder], allow_urls: bool = False
) -> Asked:
    """One query from picture files and keys: the mean of their directions (for `l2` their mean).

    Args:
        searcher: what will be asked.
        files: names of picture files, or addresses.
        keys: of pictures in the store.
        encoder: gives the model, where files need it.
        allow_urls: whether addresses may be fetched.

    Raises:
        BadInput: a file is no picture, an address is not allowed, or there is no such key.
    """
    store = searcher.store
    positions = positions_of(store, keys)
    pictures = [read_picture(name, store.shape, allow_urls) for name in files]
    rows = []
    if pictures:
        rows.append(searcher.encoded(np.stack(pictures), encoder()))
    if len(positions):
        rows.append(searcher.features.take(positions))
    shown = np.concatenate([*(picture[None] for picture in pictures), store[positions]])
    return Asked(searcher.query(np.concatenate(rows)), shown, (*files, *keys), positions)


def positions_of(store: ImageStore, keys: Sequence[str]) -> np.ndarray:
    """Where pictures are in a store, int64 (n,).

    Raises:
        BadInput: there is no such key.
    """
    if not keys:
        return np.empty(0, np.int64)
    there = store.keys
    numbers = {key: number for number, key in enumerate(there)}
    for key in keys:
        if key not in numbers:
            close = difflib.get_close_matches(key, there[:100_000], 1, 0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"its keys look like {there[0]!r}"
            raise BadInput(f"{store.path} has no picture {key!r}: {hint}")
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def read_picture(name: str, shape: tuple[int, int, int], allow_urls: bool = False) -> np.ndarray:
    """A picture file, or what is at an address, brought to a store's shape as imports are, uint8 (c, h, w).

    Raises:
        BadInput: it is no picture, or an address that is not allowed.
    """
    if is_address(name):
        if not allow_urls:
            raise BadInput(f"{name} is an address: nothing is fetched unless --allow-urls is given")
        data: bytes | Path = fetch(name)
    else:
        data = Path(name)
        if not data.exists():
            raise BadInput(f"there is no file {name}: expected a picture (for one of the store, --key)")
    try:
        with own_limits():
            return decode(data, Target(shape))
    except Rejected as reason:
        raise BadInput(f"{name} is no picture that can be used: {reason}") from None
