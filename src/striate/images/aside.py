"""Pictures set aside: still in the store, each with a reason, passed over by labelling, splitting and exporting.

    STORE/aside/plain.parquet        what `striate clean` found
    STORE/aside/duplicates.parquet   what `striate dedupe` found

Each maker has a file of its own and writes it whole, so that doing its work again with other limits, or undoing it, touches
nothing else. Rows name pictures by position (stores only grow) and by key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from striate.errors import BadInput
from striate.files import write_whole
from striate.images.store import ImageStore, read_parquet

Maker = Literal["plain", "duplicates"]
MAKERS: tuple[Maker, ...] = ("plain", "duplicates")
SCHEMA = pa.schema(
    [
        ("position", pa.int64()),
        ("key", pa.string()),
        ("reason", pa.string()),
        ("score", pa.float32()),  # of the reason: a share of white, a distance, ...
        ("group", pa.int64()),  # of near-duplicates; null otherwise
        ("kept", pa.string()),  # key of the picture that stands for it; null otherwise
    ]
)
_SETTINGS = b"settings"


def write_aside(store: ImageStore, maker: Maker, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Path:
    """Replace what a maker set aside.

    Args:
        store: whose pictures they are.
        maker: who found them.
        rows: `position`, `reason`, `score`, and `group` and `kept` of near-duplicates.
        settings: how they were found; kept in the file, with the number of pictures looked at.
    """
    keys = store.keys
    table = pa.Table.from_pylist([{**row, "key": keys[row["position"]]} for row in rows], schema=SCHEMA)
    noted = json.dumps({**settings, "pictures": len(store)}, sort_keys=True)
    folder = store.path / "aside"
    folder.mkdir(exist_ok=True)
    file = folder / f"{maker}.parquet"
    write_whole(file, lambda temporary: pq.write_table(table.replace_schema_metadata({_SETTINGS: noted}), temporary))
    return file


def read_aside(store: ImageStore, maker: Maker) -> pa.Table | None:
    """What a maker set aside; None if it never looked.

    Raises:
        BadInput: the file is damaged, or speaks of other pictures.
    """
    file = store.path / "aside" / f"{maker}.parquet"
    if not file.exists():
        return None
    table = read_parquet(file, SCHEMA.names)
    positions = table["position"].to_numpy()
    if len(positions) and (positions.min() < 0 or positions.max() >= len(store)):
        raise BadInput(f"{file} speaks of pictures that {store.path} does not hold: delete it, and find them again")
    return table


def looked_at(store: ImageStore, maker: Maker) -> int:
    """How many of the store's pictures a maker had before it, 0 if it never looked."""
    file = store.path / "aside" / f"{maker}.parquet"
    if not file.exists():
        return 0
    try:
        return int(json.loads((pq.read_schema(file).metadata or {}).get(_SETTINGS, b"{}")).get("pictures", 0))
    except (OSError, ValueError, pa.ArrowException):
        raise BadInput(f"{file} is damaged: delete it, and find them again") from None


def aside_reasons(store: ImageStore) -> dict[int, str]:
    """Position -> reason, of every picture set aside; the first maker's where there are two."""
    reasons: dict[int, str] = {}
    for maker in MAKERS:
        table = read_aside(store, maker)
        if table is not None:
            for position, reason in zip(table["position"].to_pylist(), table["reason"].to_pylist(), strict=True):
                reasons.setdefault(position, reason)
    return reasons


def aside_mask(store: ImageStore) -> np.ndarray:
    """Bool (n,): whether each picture is set aside."""
    mask = np.zeros(len(store), dtype=bool)
    mask[list(aside_reasons(store))] = True
    return mask


def groups_of(store: ImageStore) -> np.ndarray:
    """int64 (n,): a number that near-duplicates share, each other picture's own (its position) where it has none."""
    groups = np.arange(len(store), dtype=np.int64)
    table = read_aside(store, "duplicates")
    if table is not None:
        at = {key: position for position, key in enumerate(store.keys)} if len(table) else {}
        for position, kept in zip(table["position"].to_pylist(), table["kept"].to_pylist(), strict=True):
            groups[position] = at.get(kept, position)
    return groups
