"""The demo's pictures: photographs that ship inside scikit-image and scikit-learn, cut into tiles at several scales.

No network is needed. Each file is checked by its SHA-256; where scikit-image's are missing (later wheels may leave them out),
scikit-learn's two serve alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from striate.errors import BadInput
from striate.images import ArraySource

TILE = 32
# Photographs are shown whole, at 1 / sqrt(2) and at half size: edges of more widths, and less of the cameras' noise.
SCALES = (1.0, 0.7071, 0.5)


@dataclass(frozen=True)
class Photograph:
    """One file inside an installed package, with the credit its licence asks for."""

    name: str
    package: str
    file: str
    sha256: str
    credit: str


PHOTOGRAPHS = (
    Photograph("astronaut", "skimage", "data/astronaut.png", "88431cd9653ccd53", "astronaut: NASA, public domain"),
    Photograph("cat", "skimage", "data/chelsea.png", "596aa1e7cb875eb7", "chelsea: Stefan van der Walt, CC0"),
    Photograph("coffee", "skimage", "data/coffee.png", "cc02f8ca188b167c", "coffee: Rachel Michetti, CC0"),
    Photograph("rocket", "skimage", "data/rocket.jpg", "c2dd0de7c538df8d", "rocket: SpaceX, public domain"),
    Photograph(
        "motorcycle",
        "skimage",
        "data/motorcycle_left.png",
        "db18e9c415761740",
        "motorcycle: Middlebury Stereo Datasets 2014 (Scharstein et al.)",
    ),
    Photograph(
        "china",
        "sklearn",
        "datasets/images/china.jpg",
        "8378025ad2519d64",
        "china: danielbuechele on Flickr (photo 6061409035), CC BY 2.0, cut and scaled",
    ),
    Photograph(
        "flower",
        "sklearn",
        "datasets/images/flower.jpg",
        "a77f6ec41e353afd",
        "flower: vultilion on Flickr (photo 6056698931), CC BY 2.0, cut and scaled",
    ),
)


def find_photographs() -> tuple[list[tuple[Photograph, Path]], list[str]]:
    """The photographs that are here and whole, and a line on each that is not.

    Raises:
        BadInput: none is.
    """
    found, missing = [], []
    for photograph in PHOTOGRAPHS:
        path = _path(photograph)
        if path is None or not path.exists():
            missing.append(f"{photograph.file} does not ship with this {photograph.package}: going on without it")
        elif not hashlib.sha256(path.read_bytes()).hexdigest().startswith(photograph.sha256):
            missing.append(f"{path.name} of {photograph.package} is not the picture it should be: going on without it")
        else:
            found.append((photograph, path))
    if not found:
        raise BadInput("neither scikit-image's nor scikit-learn's photographs are installed: use `striate learn FOLDER`")
    return found, missing


def _path(photograph: Photograph) -> Path | None:
    specification = importlib.util.find_spec(photograph.package)
    if specification is None or specification.origin is None:
        return None
    return Path(specification.origin).parent / photograph.file


def tiles(photographs: list[tuple[Photograph, Path]]) -> ArraySource:
    """Tiles of 32x32, labelled by photograph."""
    images, labels, keys = [], [], []
    for number, (photograph, path) in enumerate(photographs):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        for scale in SCALES:
            size = (round(picture.width * scale), round(picture.height * scale))
            levels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS) if scale != 1 else picture)
            for top in range(0, size[1] - TILE + 1, TILE):
                for left in range(0, size[0] - TILE + 1, TILE):
                    images.append(levels[top : top + TILE, left : left + TILE].transpose(2, 0, 1))
                    labels.append(number)
                    keys.append(f"{photograph.name}/{scale:.2f}/{top}-{left}")
    names = [photograph.name for photograph, _ in photographs]
    return ArraySource(np.stack(images), np.array(labels), names, keys)
