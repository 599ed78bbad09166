"""Parquet as Hugging Face's `datasets` writes it: `image` (bytes, path), `label` with class names in the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from striate.images.exports.published import Published, plain_name, png

_ROWS = 1000
_ROWS_A_FILE = 100_000


def write_huggingface(published: Published, folder: Path) -> None:
    """data/SET-00000-of-00001.parquet, 100,000 pictures a file."""
    (folder / "data").mkdir()
    schema = _schema(published)
    for name, positions in published.sets.items():
        files = max(1, -(-len(positions) // _ROWS_A_FILE))
        pictures = published.pictures(name)
        for number in range(files):
            file = folder / "data" / f"{plain_name(name)}-{number:05d}-of-{files:05d}.parquet"
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                rows: list[dict[str, Any]] = []
                for _, one in zip(range(_ROWS_A_FILE), pictures, strict=False):
                    row = {"image": {"bytes": png(one.pixels), "path": one.key}, "label": one.label, "term": one.term}
                    if published.superclasses:
                        row["coarse_label"] = published.coarse(one.label)
                    rows.append(row)
                    if len(rows) == _ROWS:
                        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                        rows = []
                if rows:
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _schema(published: Published) -> pa.Schema:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields: list[Any] = [("image", image), ("label", pa.int64()), ("term", pa.string())]
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(published.class_names), "_type": "ClassLabel"},
        "term": {"dtype": "string", "_type": "Value"},
    }
    if published.superclasses:
        fields.append(("coarse_label", pa.int64()))
        features["coarse_label"] = {"names": published.coarse_names, "_type": "ClassLabel"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
