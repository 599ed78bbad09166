"""A home folder for the commands of the pages: `~/Pictures`, and `~/sorted`, whose folders are classes. `material` has more.

They hold pieces of the photographs that ship with scikit-image and scikit-learn or, where data are given, pictures of
Tiny ImageNet and CIFAR-10. Counts are the same either way, so that pages can quote them.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from striate.app.photographs import find_photographs
from striate.draws import generator
from tools.material import make_material

# 7 photographs ship; so many classes in either case.
CLASSES = 7
PICTURES, TRAIN, TEST = 1_200, 60, 20
_EDGE = 64


def make_home(home: Path, data: Path | None = None) -> None:
    """Write the folders; among the pictures one is broken and one is there twice."""
    pictures = _tiny_imagenet(data) if data else _crops(PICTURES, "pictures", (0.0, 1.0))
    album = home / "Pictures"
    for number, picture in zip(range(PICTURES), pictures):
        _save(picture, album / f"{number:04d}.jpg")
    (album / "broken.jpg").write_bytes((album / "0000.jpg").read_bytes()[:200])
    (album / "copy of 0001.jpg").write_bytes((album / "0001.jpg").read_bytes())
    for part, count, name, half in (("train", TRAIN, "train", (0.0, 0.5)), ("test", TEST, "test", (0.5, 1.0))):
        source = _cifar(data / "cifar10" / f"{name}.parquet") if data else _by_class(count, name, half)
        left = dict.fromkeys(range(CLASSES), count)
        for label, picture in source:
            if left.get(label, 0):
                left[label] -= 1
                _save(picture, home / "sorted" / part / f"{label}-{_NAMES[label]}" / f"{left[label]:03d}.jpg")
    make_material(home)


_NAMES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=92)


def _tiny_imagenet(data: Path) -> Iterator[Image.Image]:
    column = pq.read_table(data / "tiny-imagenet" / "test.parquet", columns=["image"])["image"]
    for row in column:
        yield Image.open(io.BytesIO(row["bytes"].as_py())).convert("RGB")


def _cifar(file: Path) -> Iterator[tuple[int, Image.Image]]:
    for row in pq.read_table(file).slice(0, 2_000).to_pylist():
        yield row["label"], Image.open(io.BytesIO(row["image"]["bytes"]))


def _crops(count: int, name: str, across: tuple[float, float]) -> Iterator[Image.Image]:
    for _, picture in itertools.islice(_by_class(count, name, across), count):
        yield picture


def _by_class(count: int, name: str, across: tuple[float, float]) -> Iterator[tuple[int, Image.Image]]:
    """Crops of each photograph in turn, from a part of its width: halves do not overlap."""
    found, _ = find_photographs()
    opened = [Image.open(path).convert("RGB") for _, path in found]
    random = generator(0, f"pages-{name}")
    for _ in range(count):
        for label, photograph in enumerate(opened):
            yield label, _crop(photograph, random, across)


def _crop(photograph: Image.Image, random: np.random.Generator, across: tuple[float, float]) -> Image.Image:
    edge = int(random.integers(_EDGE, 161))
    low, high = int(across[0] * photograph.width), int(across[1] * photograph.width) - edge
    left, top = int(random.integers(low, max(high, low) + 1)), int(random.integers(0, photograph.height - edge + 1))
    return photograph.crop((left, top, left + edge, top + edge)).resize((_EDGE, _EDGE), Image.Resampling.LANCZOS)
