"""CIFAR-10's pictures for the benchmarks that need real ones: from ../shared/data, or where STRIATE_DATA points."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from striate.errors import BadInput
from striate.images.decode import Target, decode, own_limits


def data_folder() -> Path:
    """Where real pictures are, if they are at hand."""
    return Path(os.environ.get("STRIATE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def pictures(name: str, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, 3, 32, 32) and labels of `train` or `test`."""
    file = data_folder() / "cifar10" / f"{name}.parquet"
    if not file.exists():
        raise BadInput(f"this benchmark needs CIFAR-10 as Parquet: cifar10/{name}.parquet in a folder named by STRIATE_DATA")
    rows = pq.ParquetFile(file).read(columns=["image", "label"]).slice(0, limit).to_pylist()
    with own_limits():
        decoded = np.stack([decode(row["image"]["bytes"], Target((3, 32, 32))) for row in rows])
    return decoded, np.array([row["label"] for row in rows], dtype=np.int64)
