"""Claim: `striate encode` loses less than a tenth of a model's own speed to reading pictures and writing features.

The command's path, from store to file, the model being loaded, beside bare forward passes of the same model over the same
pictures in memory, features thrown away; interleaved, on models of the recipes' sizes with random parameters (which cost what
learned ones do). Beside them a plain loop: read, encode, keep in memory, save. Pictures are CIFAR-10's where they are at hand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from striate.app.encoders import default_layer, source_of
from striate.app.encoding import block_size
from striate.app.feature_files import Features
from striate.app.features import encode_store
from striate.app.load import Parts, save_model
from striate.app.screen import Screen
from striate.compute import keep_memory
from striate.draws import Draws, generator
from striate.images import ArraySource, ImageStore, import_images
from striate.models.classifier import random_net
from striate.models.convnet import ConvNet, named_net
from striate.models.convnet.trained import TrainedConvNet
from striate.models.encoder import Encoder
from striate.models.rbm import new_rbm
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.models.sparse.trained import TrainedSparseNet
from striate.preprocess import Preprocessor, PreprocessSettings
from timing import interleaved, row

_DRAWS = Draws(0, purpose="encode/")
_SIZE, _LARGE = 32, 64


def photographs(count: int) -> np.ndarray:
    """CIFAR-10's, or noise over slopes."""
    from cifar import pictures
    from striate.errors import BadInput

    try:
        return pictures("train", count)[0]
    except BadInput:
        random = generator(0, "encode")
        slopes = np.add.outer(np.arange(_SIZE), np.arange(_SIZE))[None, None] * random.uniform(0, 3, (count, 3, 1, 1))
        return (slopes + random.integers(0, 60, (count, 3, _SIZE, _SIZE))).clip(0, 255).astype(np.uint8)


def whitening(pictures: np.ndarray) -> Preprocessor:
    """A full map, which costs what a learned one does."""
    dim = pictures[0].size
    forward = _DRAWS.normal("whitening", (dim, dim)) / (60 * dim**0.5)
    state = {"mean": torch.full((dim,), 120.0), "forward": forward, "backward": forward.t().contiguous()}
    channels, height, width = pictures.shape[1:]
    return Preprocessor(PreprocessSettings(epsilon=1.0), (channels, height, width), state)


def patch_rbm(pictures: np.ndarray) -> tuple[Parts, Preprocessor]:
    """As krizhevsky2009/cifar10-patches: 1,000 units on whitened 8x8 patches, averaged over quadrants."""
    ready = Preprocessor.fit([pictures[:, :, :8, :8]], PreprocessSettings(patch=8, epsilon=1.0))
    return Parts((new_rbm(1000, torch.zeros(192), sigma=0.5, draws=_DRAWS),)), ready


def whole_rbm(pictures: np.ndarray) -> tuple[Parts, Preprocessor]:
    """As krizhevsky2009/whole-images: on whitened 32x32 pictures."""
    return Parts((new_rbm(4000, torch.zeros(3072), draws=_DRAWS),)), whitening(pictures)


def logistic_net(pictures: np.ndarray) -> tuple[Parts, Preprocessor]:
    """A net of one hidden layer on the same."""
    return Parts(net=random_net((3072, 4000, 10), _DRAWS)), whitening(pictures)


def convnet(pictures: np.ndarray) -> tuple[Parts, Preprocessor]:
    """As krizhevsky2012/cifar-80sec."""
    net = ConvNet(named_net("80sec", 10), _DRAWS)
    return Parts(convnet=TrainedConvNet("80sec", 10, net.state_dict())), Preprocessor.fit(
        [pictures], PreprocessSettings("mean")
    )


def sparse(pictures: np.ndarray) -> tuple[Parts, Preprocessor]:
    """As le2012/network at its small size."""
    stages = (
        StageSpec(10, 2, 8, pool=4, pool_stride=2, norm_edges="keep"),
        StageSpec(5, maps=16, pool=3, norm_edges="keep"),
        StageSpec(5, maps=64, pool=3, norm=0),
    )
    spec = NetSpec((3, _LARGE, _LARGE), stages, 0)
    net = SparseNet(spec).start(_DRAWS)
    ready = Preprocessor.fit([pictures[:500]], PreprocessSettings("standardise", contrast=True))
    return Parts(sparse=TrainedSparseNet(spec, net.state())), ready


# Model -> how it is made, how many pictures (slow ones take fewer, but some blocks), whether they are larger.
MODELS: dict[str, tuple[Callable[[np.ndarray], tuple[Parts, Preprocessor]], int, bool]] = {
    "patches, 1,000 units": (patch_rbm, 4000, False),
    "whole RBM, 4,000 units": (whole_rbm, 8000, False),
    "net, 3072-4000-10": (logistic_net, 8000, False),
    "convnet, 80sec": (convnet, 8000, False),
    "sparse, three stages at 64x64": (sparse, 8000, True),
}


def forward(encoder: Encoder, pictures: np.ndarray, layer: str) -> None:
    """Bare passes, in blocks of the command's size."""
    size = block_size(encoder, layer)
    for start in range(0, len(pictures), size):
        encoder.encode(pictures[start : start + size], [layer])


def plain(encoder: Encoder, store: ImageStore, layer: str, out: Path) -> None:
    """What one would write in a notebook."""
    np.save(out, np.concatenate([encoder.encode(store[i : i + 1000], [layer])[layer] for i in range(0, len(store), 1000)]))


def measured(name: str, pictures: np.ndarray, folder: Path, rounds: int) -> list[dict[str, object]]:
    """Images/s of the command's path for Parquet and numpy, beside bare passes and a plain loop."""
    make, _, _ = MODELS[name]
    parts, ready = make(pictures)
    channels, height, width = pictures.shape[1:]
    save_model(folder, parts, ready, (channels, height, width), name)
    import_images(ArraySource(pictures), folder / "store", workers=1)
    store, screen = ImageStore(folder / "store"), Screen(quiet=True)
    source = source_of(folder, store.shape)
    encoder = source.encoder
    layer = default_layer(encoder)

    def command(suffix: str) -> Features:
        return encode_store(source, store, folder / f"features.{suffix}", screen, overwrite=True)

    calls: dict[str, Callable[[], object]] = {
        "parquet": lambda: command("parquet"),
        "npy": lambda: command("npy"),
        "bare forward": lambda: forward(encoder, pictures, layer),
        "plain loop": lambda: plain(encoder, store, layer, folder / "plain.npy"),
    }
    seconds = interleaved(calls, rounds)
    count, dim = len(store), encoder.dims[layer]
    rates = {f"{call}, images/s": count / value for call, value in seconds.items()}
    label = f"{name} to {dim:,} features"
    return [
        row(f"{label}: {kind}, share of bare passes", seconds["bare forward"] / seconds[kind], "ratio", ">= 0.9", rates)
        for kind in ("parquet", "npy")
    ]


def rows(quick: bool = False) -> list[dict[str, object]]:
    keep_memory()
    pictures = photographs(4000 if quick else 8000)
    found = []
    for name, (_, count, larger) in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            some = pictures[: count // (2 if quick else 1)]
            if larger:
                some = some.repeat(_LARGE // _SIZE, axis=2).repeat(_LARGE // _SIZE, axis=3)
            found += measured(name, some, Path(folder), 3 if quick else 7)
    return found
