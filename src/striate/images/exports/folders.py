"""PNG files in one folder a class, below one folder a set: what most loaders take without asking.

`metadata.jsonl` says what names of files cannot: label, key and search term as they were; `classes.txt` the order of the
classes.
"""

from __future__ import annotations

import json
from pathlib import Path

from striate.images.exports.published import Published, plain_name, png


def write_folders(published: Published, folder: Path) -> None:
    """SET/CLASS/NUMBER.png."""
    names: dict[str, None] = {}
    for name in published.class_names:
        plain = plain_name(name)
        while plain.lower() in names:
            plain += "_"
        names[plain.lower()] = None
    folders = list(names)
    (folder / "classes.txt").write_text(
        "".join(f"{' '.join(name.split())}\n" for name in published.class_names), encoding="utf-8"
    )
    with (folder / "metadata.jsonl").open("w", encoding="ascii") as metadata:
        for chosen in published.sets:
            for number, one in enumerate(published.pictures(chosen)):
                file = folder / plain_name(chosen) / folders[one.label] / f"{number:08d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(png(one.pixels))
                row = {"file_name": file.relative_to(folder).as_posix(), "label": one.label, "term": one.term, "key": one.key}
                metadata.write(json.dumps(row) + "\n")
