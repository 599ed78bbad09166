"""Claim: one core turns 256-pixel JPEG photographs into augmented 224-pixel crops as fast as the decoder alone allows.

Photographs of noise over smooth gradients stand in where there are none at hand (STRIATE_DATA/imagenet-sample): they decode
more slowly than real ones. One thread; peers: the decoders alone, Pillow and simplejpeg, on the same bytes.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from cifar import data_folder
from striate.draws import generator
from striate.images import ArraySource, ImageStore, import_images
from striate.preprocess import Cropper, CropSettings
from timing import interleaved, row

_BATCH = 125


def photographs(folder: Path, count: int) -> ImageStore:
    shared = data_folder() / "imagenet-sample"
    if shared.is_dir():
        import_images(shared, folder, size=256, quality=90, limit=count)
    else:
        random = generator(0, "feed")
        ramps = np.add.outer(np.arange(256), np.arange(256))[None, None] // 3
        noise = random.integers(0, 40, (count, 3, 256, 256))
        import_images(ArraySource((ramps + noise).clip(0, 255).astype(np.uint8)), folder, quality=90, workers=1)
    return ImageStore(folder)


def rows(quick: bool = False) -> list[dict[str, object]]:
    count = 250 if quick else 1000
    with tempfile.TemporaryDirectory() as folder:
        store = photographs(Path(folder) / "photographs", count)
        count = len(store)
        order = generator(0, "order").permutation(count)
        settings = CropSettings(crop=224, reflect=True, colour_noise=0.1)
        cropper = Cropper(settings, count, store.shape, 0, store.sums.colour if store.sums else None)
        encoded = [store.encoded(int(position)) for position in order]

        def feed() -> None:
            for start in range(0, count, _BATCH):
                chosen = order[start : start + _BATCH]
                cropper.cut(store[chosen], chosen, 0)

        calls = {
            "feed": feed,
            "simplejpeg": lambda: [simplejpeg.decode_jpeg(data, fastdct=True) for data in encoded],
            "pillow": lambda: [np.asarray(Image.open(io.BytesIO(data.tobytes()))) for data in encoded],
        }
        seconds = interleaved(calls, 3 if quick else 7)
    rates = {f"{name} images/s": count / value for name, value in seconds.items()}
    label = "256 px JPEG to 224 px crops, one core"
    return [
        row(f"{label}", count / seconds["feed"], "images/s", ">= 3500", rates),
        row(f"{label}: share of the decoder's own rate", seconds["simplejpeg"] / seconds["feed"], "ratio", "(none set)", rates),
    ]
