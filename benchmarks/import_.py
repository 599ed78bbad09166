"""Claim: importing 64x64 JPEG files, every check on, is as fast per core as a plain Pillow loop that checks nothing.

The loop opens, converts to RGB, resizes and makes an array of each file; the import also hashes, rejects, sets duplicates
aside, syncs and writes a store that survives kill -9. Files are crops of the photographs that ship with scikit-image.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from striate.images import import_images
from timing import interleaved, row

_SIDE = 64


def jpegs(count: int) -> list[bytes]:
    """Different 64x64 crops, quality 75."""
    from skimage import data

    photographs = [data.astronaut(), data.coffee(), data.rocket(), data.chelsea()]
    draw = np.random.default_rng(0)
    made = []
    for i in range(count):
        photograph = photographs[i % len(photographs)]
        y, x = (int(draw.integers(0, size - _SIDE)) for size in photograph.shape[:2])
        out = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(photograph[y : y + _SIDE, x : x + _SIDE])).save(out, "JPEG", quality=75)
        made.append(out.getvalue())
    return made


def plain_loop(paths: list[Path], side: int) -> np.ndarray:
    """What a person would write."""
    return np.stack(
        [np.array(Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)) for path in paths]
    )


def importer(folder: Path, root: Path, side: int, workers: int) -> Callable[[], None]:
    store = root / f"store-{workers}"

    def ours() -> None:
        shutil.rmtree(store, ignore_errors=True)
        counts = import_images(folder, store, size=side, workers=workers)
        assert counts.kept + counts.duplicates == counts.seen

    return ours


def decoders(encoded: list[bytes]) -> dict[str, Callable[[], object]]:
    """Decoding alone, from memory."""
    calls: dict[str, Callable[[], object]] = {
        "pillow": lambda: [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded]
    }
    try:
        import simplejpeg
    except ImportError:
        return calls
    calls["simplejpeg"] = lambda: [simplejpeg.decode_jpeg(data) for data in encoded]
    return calls


def rows(quick: bool = False) -> list[dict[str, object]]:
    count, repeats, cores = (1500, 3, os.cpu_count() or 1) if quick else (8000, 5, os.cpu_count() or 1)
    encoded = jpegs(count)
    root = Path(tempfile.mkdtemp())
    try:
        folder = root / "in"
        folder.mkdir()
        paths = [folder / f"{i:05d}.jpg" for i in range(count)]
        for path, data in zip(paths, encoded):
            path.write_bytes(data)
        found = [*_against_loop(paths, root, 32, cores, repeats), *_against_loop(paths, root, _SIDE, cores, repeats)[:1]]
    finally:
        shutil.rmtree(root)
    seconds = interleaved(decoders(encoded), repeats)
    if "simplejpeg" in seconds:
        rates = {f"{name} images/s": round(count / value) for name, value in seconds.items()}
        ratio = seconds["pillow"] / seconds["simplejpeg"]
        found.append(row("decoding 64x64 JPEG from memory: simplejpeg's rate / Pillow's", ratio, "times", "(none set)", rates))
    return found


def _against_loop(paths: list[Path], root: Path, side: int, cores: int, repeats: int) -> list[dict[str, object]]:
    # The loop on all cores is given its processes for nothing: they run before the clock does.
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        parts = [paths[i::cores] for i in range(cores)]
        calls = {
            "ours, 1 process": importer(paths[0].parent, root, side, 1),
            "plain loop, 1 process": lambda: plain_loop(paths, side),
            f"ours, {cores} processes": importer(paths[0].parent, root, side, cores),
            f"plain loop, {cores} processes": lambda: list(pool.map(_loop_only, parts, [side] * cores)),
        }
        seconds = interleaved(calls, repeats)
    rates = {f"{name} images/s": round(len(paths) / value) for name, value in seconds.items()}
    what = f"import of {len(paths)} 64x64 JPEG files to {side}x{side}"
    one, many = (seconds[f"plain loop, {name}"] / seconds[f"ours, {name}"] for name in ("1 process", f"{cores} processes"))
    many_cores = f"{what}, {cores} processes: images/s / the same loop in {cores} warm processes"
    return [
        row(f"{what}: images/s per core / a plain Pillow loop", one, "times", ">= 1.0", rates),
        row(many_cores, many, "times", "(none set)"),
    ]


def _loop_only(paths: list[Path], side: int) -> int:
    return len(plain_loop(paths, side))


if __name__ == "__main__":
    import json

    print(json.dumps(rows(), indent=1))
