"""Claim: a newcomer has a report on a folder of 5,000 photographs within ten minutes of two cores, by two commands, no edits.

In a fresh clone: `make demo` (its own virtual environment, from the package index at hand, then the demo), then `striate learn
FOLDER`. The photographs are five crops each of the 1,000 of imagenet-sample, JPEG of about 230 pixels, in one folder without
labels. --quick: 300 of them, by the environment that runs this.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from cifar import data_folder
from timing import row

_CROPS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5))
_SHARE = 0.9


def rows(quick: bool = False) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        count = photographs(place / "Pictures", 300 if quick else 5000)
        seconds: dict[str, float] = {}
        program = [sys.executable, "-m", "striate"]
        if not quick:
            clone = place / "striate"
            top = Path(__file__).resolve().parents[1]
            subprocess.run(["git", "clone", "--quiet", str(top), str(clone)], check=True)
            environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
            seconds["make demo, install included, s"] = _timed(["make", "demo"], clone, environment)
            program = [str(clone / ".venv" / "bin" / "striate")]
        learned = place / "learned.json"
        with learned.open("w") as out:
            begun = time.perf_counter()
            subprocess.run([*program, "learn", str(place / "Pictures"), "--json"], cwd=place, stdout=out, check=True)
            seconds["striate learn, s"] = time.perf_counter() - begun
        told = json.loads(learned.read_text())
        seconds |= {"of which training, s": told["seconds_of_training"], "share of edges": told["edge"]}
        assert Path(told["report"]).is_file() and told["pictures"] == count
    whole = sum(seconds[name] for name in seconds if name.startswith(("make", "striate")))
    what = "striate learn alone" if quick else "clone to report, two commands"
    return [row(f"{what}, {count:,} photographs", whole, "s", "< 600", seconds)]


def _timed(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def photographs(folder: Path, count: int) -> int:
    """Crops of the sample's photographs as JPEG files; returns how many."""
    folder.mkdir(parents=True)
    table = pq.read_table(data_folder() / "imagenet-sample" / "imagenet-sample.parquet", columns=["image"])
    written = 0
    for across, down in _CROPS:
        for number, struct in enumerate(table["image"].to_pylist()):
            if written == count:
                return written
            image = Image.open(io.BytesIO(struct["bytes"])).convert("RGB")
            width, height = (int(_SHARE * edge) for edge in image.size)
            left, top = int(across * (image.width - width)), int(down * (image.height - height))
            image.crop((left, top, left + width, top + height)).save(
                folder / f"{number:04d}-{across:g}-{down:g}.jpg", quality=90
            )
            written += 1
    return written


if __name__ == "__main__":
    print(json.dumps(rows(), indent=1))
