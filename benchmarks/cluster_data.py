"""Claim: two of Ray's workers import, gather statistics, encode and compare nearly twice as fast as one, to the same bytes.

Real pictures (CIFAR-10), one thread a worker, everything on this machine: files of JPEG into a store, whitening's moments,
features of a random convolution of 800 filters, near-duplicates. Beside them this process alone, which sends nothing anywhere.
The driver needs a little of a core, too: with two cores, twice is out of reach.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from cifar import data_folder
from striate.app.duplicates import find_duplicates
from striate.app.features import encode_store
from striate.app.load import Parts, save_model
from striate.app.screen import Screen
from striate.cluster.pool import Pool, pool
from striate.draws import Draws
from striate.errors import BadInput
from striate.images import ImageStore, import_images
from striate.images.work import Each, one_by_one
from striate.models.rbm import RBM, Gaussian
from striate.preprocess import PreprocessSettings, fitted
from timing import interleaved, row

_SIDE, _PATCH, _FILTERS = 32, 8, 800
Work = Callable[[Each, Path], bytes]


def rows(quick: bool = False) -> list[dict[str, object]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, pool("local", 2) as two:
            return _measured(Path(folder), {"one": Pool(two.ray, 1), "two": two}, 2000 if quick else 20_000, 1 if quick else 5)
    finally:
        torch.set_num_threads(threads)


def _measured(folder: Path, hands: dict[str, Each], count: int, rounds: int) -> list[dict[str, object]]:
    works = _works(folder, count)
    everybody = {**hands, "alone": one_by_one}
    found = []
    for name, work in works.items():
        calls = {who: partial(work, each, folder / f"{name}-{who}") for who, each in everybody.items()}
        # This is the warm-up, too: workers have what they need.
        bytes_of = {who: call() for who, call in calls.items()}
        seconds = interleaved(calls, rounds, warm_up=0)
        peers = {f"{who}_s": value for who, value in seconds.items()}
        found += [
            row(f"{name}: rate of two workers / one", seconds["one"] / seconds["two"], "times", ">= 1.6", peers),
            row(
                f"{name}: rate of one worker / this process alone", seconds["alone"] / seconds["one"], "share", ">= 0.8", peers
            ),
            row(f"{name}: results that differ from one machine's", len(set(bytes_of.values())) - 1, "results", "0"),
        ]
    return found


def _works(folder: Path, count: int) -> dict[str, Work]:
    files = _files(folder / "files", count)
    import_images(files, folder / "store", size=_SIDE, workers=1)
    store = ImageStore(folder / "store")
    run = _model(folder / "run", store)
    screen = Screen(quiet=True)

    def imported(each: Each, out: Path) -> bytes:
        # Another size than the files': every picture is resampled.
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            import_images(files, Path(fresh) / "s", size=24, each=each)
            return _digest(sorted((Path(fresh) / "s").rglob("*")))

    def statistics(each: Each, out: Path) -> bytes:
        state = fitted(store, PreprocessSettings("standardise", contrast=True), each, count // 4).state()
        return b"".join(tensor.numpy().tobytes() for tensor in state.values())

    def encoded(each: Each, out: Path) -> bytes:
        file = out.with_suffix(".npy")
        encode_store(run, store, file, screen, device="cpu", overwrite=True, each=None if each is one_by_one else each)
        return _digest([file])

    def compared(each: Each, out: Path) -> bytes:
        pairs = find_duplicates([store], screen, device="cpu", each=each).pairs
        return b"".join(part.tobytes() for part in (pairs.first, pairs.second, pairs.distance))

    return {"import": imported, "statistics": statistics, "encode": encoded, "near-duplicates": compared}


def _digest(files: list[Path]) -> bytes:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).digest()


def _files(folder: Path, count: int) -> Path:
    source = data_folder() / "cifar10" / "train.parquet"
    if not source.exists():
        raise BadInput("this benchmark needs CIFAR-10 as Parquet: cifar10/train.parquet in a folder named by STRIATE_DATA")
    folder.mkdir()
    images = pq.ParquetFile(source).read(columns=["image"]).slice(0, count)["image"].to_pylist()
    for number, image in enumerate(images):
        (folder / f"{number:06d}.jpg").write_bytes(image["bytes"])
    return folder


def _model(folder: Path, store: ImageStore) -> Path:
    dim = 3 * _PATCH**2
    settings = PreprocessSettings("whiten", epsilon=10.0, patch=_PATCH)
    corner = np.ascontiguousarray(store[:2000][:, :, :_PATCH, :_PATCH])
    weights = Draws(0, purpose="bench/").normal("weights", (_FILTERS, dim)) / dim**0.5
    rbm = RBM(weights, torch.zeros(dim), torch.zeros(_FILTERS), Gaussian(torch.ones(dim)))
    folder.mkdir()
    save_model(folder, Parts((rbm,)), fitted(corner, settings), store.shape, "patches", [])
    return folder


if __name__ == "__main__":
    import json

    print(json.dumps(rows(), indent=1))
