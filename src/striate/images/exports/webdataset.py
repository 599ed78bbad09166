"""WebDataset: tar shards whose members share a stem: the picture, its class's number, and a JSON with its key and term."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from striate.images.exports.published import Published, plain_name, png

_A_SHARD = 10_000


def write_webdataset(published: Published, folder: Path) -> None:
    """SET-000000.tar, 10,000 pictures a shard; the same set always gives the same bytes."""
    (folder / "classes.txt").write_text(
        "".join(f"{' '.join(name.split())}\n" for name in published.class_names), encoding="utf-8"
    )
    for name in published.sets:
        pictures = enumerate(published.pictures(name))
        for shard in range(max(1, -(-len(published.sets[name]) // _A_SHARD))):
            with tarfile.open(folder / f"{plain_name(name)}-{shard:06d}.tar", "w", format=tarfile.PAX_FORMAT) as archive:
                for _, (number, one) in zip(range(_A_SHARD), pictures, strict=False):
                    details = {"key": one.key, "term": one.term, "class": published.class_names[one.label]}
                    for suffix, data in (
                        ("png", png(one.pixels)),
                        ("cls", str(one.label).encode()),
                        ("json", json.dumps(details).encode()),
                    ):
                        member = tarfile.TarInfo(f"{number:08d}.{suffix}")
                        member.size = len(data)
                        archive.addfile(member, io.BytesIO(data))
