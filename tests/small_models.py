"""A small model of every kind, with keyed random parameters: what encoders, exports and files are tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from striate.app.load import Parts, TrainedModel, load_model, save_model
from striate.draws import Draws, generator
from striate.models.autoencoder import unrolled
from striate.models.classifier import random_net
from striate.models.convnet import ConvNet, named_net
from striate.models.convnet.trained import TrainedConvNet
from striate.models.rbm import RBM, Bernoulli, Gaussian
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.models.sparse.trained import TrainedSparseNet, sparse_encoder
from striate.models.top import new_top
from striate.preprocess import Preprocessor
from striate.preprocess.preprocessor import PreprocessSettings

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Small:
    """A model with its preprocessing, and the pictures it is for."""

    parts: Parts
    preprocessor: Preprocessor
    image_shape: Shape
    class_names: tuple[str, ...] = ()

    def save(self, folder: Path, name: str) -> TrainedModel:
        """Written as a run's file, and read back."""
        folder.mkdir(parents=True, exist_ok=True)
        save_model(folder, self.parts, self.preprocessor, self.image_shape, name, self.class_names)
        return load_model(folder)


def pictures(shape: Shape, count: int = 40) -> np.ndarray:
    """Slopes with noise on them, a different one each; the last is flat and the one before it is white."""
    random = generator(0, f"small-models {shape}")
    _, height, width = shape
    rise = random.normal(0, 90, (count, 1, 2, 1)) * np.array([height, width])[:, None] ** -1.0
    y, x = np.mgrid[:height, :width]
    slopes = 128 + rise[:, :, 0, :, None] * (y - height / 2) + rise[:, :, 1, :, None] * (x - width / 2)
    levels = slopes + random.normal(0, 25, (count, *shape))
    levels[-1], levels[-2] = 60, 255
    return levels.clip(0, 255).astype(np.uint8)


def preprocessor(shape: Shape, patch: int | None = None, **settings: Any) -> Preprocessor:
    """Fitted on those pictures, or on all patches of theirs."""
    rows = pictures(shape, 400)
    if patch is not None:
        windows = np.lib.stride_tricks.sliding_window_view(rows, (patch, patch), axis=(2, 3))
        rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, shape[0], patch, patch)[::7]
    return Preprocessor.fit([rows], PreprocessSettings(patch=patch, **settings))


def rbm(visible: int, hidden: int, sigma: float | None, name: str = "rbm") -> RBM:
    """Weights in scale with the inputs, biases of all sizes, deviations of every pixel its own."""
    draws = Draws(0, purpose=f"{name}/")
    weights = draws.normal("weights", (hidden, visible)) / visible**0.5
    units = Bernoulli() if sigma is None else Gaussian(sigma * (0.5 + draws.uniform("sigma", (visible,))))
    return RBM(weights, draws.normal("visible", (visible,)), draws.normal("hidden", (hidden,)), units)


def binary() -> Small:
    return Small(Parts((rbm(64, 10, None),)), preprocessor((1, 8, 8), kind="scale"), (1, 8, 8))


def gaussian() -> Small:
    return Small(Parts((rbm(48, 12, 0.7),)), preprocessor((3, 4, 4), delete=5), (3, 4, 4))


def stack() -> Small:
    layers = rbm(75, 14, 30.0), rbm(14, 9, None, "second"), rbm(9, 6, None, "third")
    return Small(Parts(layers), preprocessor((3, 5, 5), kind="standardise", contrast=True), (3, 5, 5))


def patches() -> Small:
    # Seven by six places: quadrants that overlap one way and do not the other.
    return Small(Parts((rbm(48, 12, 0.5),)), preprocessor((3, 10, 9), 4, epsilon=1.0), (3, 10, 9))


def patches_contrast() -> Small:
    ready = preprocessor((3, 10, 9), 4, epsilon=1.0, contrast=True)
    return Small(Parts((rbm(48, 12, 0.5),)), ready, (3, 10, 9))


def net() -> Small:
    made = random_net((48, 9, 7, 3), Draws(0, purpose="net/"), 60.0, 4.0)
    return Small(Parts(net=made), preprocessor((3, 4, 4), kind="delete", delete=3), (3, 4, 4), ("lying", "standing", "flat"))


def autoencoder() -> Small:
    made = unrolled((rbm(36, 10, None), rbm(10, 4, None, "second")), linear_code=True)
    return Small(Parts(autoencoder=made), preprocessor((1, 6, 6), kind="scale"), (1, 6, 6))


def gaussian_autoencoder() -> Small:
    made = unrolled((rbm(48, 10, 40.0), rbm(10, 4, None, "second")))
    return Small(Parts(autoencoder=made), preprocessor((3, 4, 4), kind="delete", delete=3), (3, 4, 4))


def convnet(name: str = "18pct", shape: Shape = (1, 10, 9), crop: int | None = 8, scale: float = 1.0) -> Small:
    """A net whose weights are one of three values, so that its file packs well."""
    spec = named_net(name, 3, None, crop, shape[0])
    state = {}
    for key, tensor in ConvNet(spec).state_dict().items():
        draw = Draws(0, purpose=f"{name}/").uniform(key, tensor.shape)
        inputs = tensor[0].numel() if tensor.ndim in (2, 4) else tensor.shape[-1]
        state[key] = scale * (draw * 3).floor().sub(1) * (2.0 / inputs) ** 0.5
    trained = TrainedConvNet(name, 3, state, crop=crop, channels=shape[0], divide=2.0)
    return Small(Parts(convnet=trained), preprocessor(shape, kind="mean"), shape, ("lying", "standing", "flat"))


STAGES = {
    "untied": (StageSpec(4, 1, 4, 1, 3, 1, 0, 1, norm=3), StageSpec(3, 1, 5, 2, 2, 1, 1, 1, norm=0)),
    "tiled": (StageSpec(4, 2, 9, 1, 3, 1, 1, 3, norm=3, norm_edges="keep", sharing="tiled"), StageSpec(2, 1, 4, 0, 1, norm=0)),
    "taught": (StageSpec(4, 2, 4, 1, 3, 1, 1, norm=0), StageSpec(2, 1, 4, 0, 1, norm=3, norm_edges="keep")),
    "tied": (
        StageSpec(5, 2, 4, 2, 2, 1, 1, 1, norm=3, norm_edges="keep", sharing="tied"),
        StageSpec(3, 1, 4, 0, 1, norm=0, sharing="tied", pool_group=2),
    ),
}


def sparse(sharing: str = "untied", shape: Shape = (1, 9, 11)) -> Small:
    spec = NetSpec(shape, STAGES[sharing], input_norm=5 if sharing == "tied" else 0)
    made = SparseNet(spec, tied_decoder=sharing == "tied").start(Draws(0, purpose="sparse/"))
    trained = TrainedSparseNet(spec, made.state(), sharing == "tied", 1e-2)
    return Small(Parts(sparse=trained), preprocessor(shape, kind="standardise", contrast=sharing == "tiled"), shape)


def recogniser() -> Small:
    below, draws = sparse("taught", (3, 13, 15)), Draws(0, purpose="top/")
    encoder = sparse_encoder(below.preprocessor, below.parts.sparse)
    top = new_top(encoder.encode(pictures(below.image_shape))[encoder.layers[-1]], 3, "one-against-all")
    top = replace(top, weights=draws.normal("weights", top.weights.shape), bias=draws.normal("bias", top.bias.shape))
    parts = replace(below.parts, top=top)
    return Small(parts, below.preprocessor, below.image_shape, ("lying", "standing", "flat"))


KINDS: dict[str, Callable[[], Small]] = {
    "binary": binary,
    "gaussian": gaussian,
    "stack": stack,
    "patches": patches,
    "patches-contrast": patches_contrast,
    "net": net,
    "autoencoder": autoencoder,
    "convnet": convnet,
    "sparse": sparse,
}
# Further nets of those kinds: normalisation across maps, untied filters, tanh, crops in the middle; filters shared otherwise.
VARIANTS: dict[str, Callable[[], Small]] = {
    "colour": lambda: sparse("untied", (3, 13, 15)),
    "gaussian-autoencoder": gaussian_autoencoder,
    "80sec": lambda: convnet("80sec", (3, 32, 32), None),
    "11pct": lambda: convnet("11pct", (3, 32, 32), None),
    "race-tanh": lambda: convnet("race-tanh", (3, 17, 16), 15, 0.05),
    "tiled": lambda: sparse("tiled", (3, 13, 15)),
    "tied": lambda: sparse("tied", (3, 13, 15)),
    "recogniser": recogniser,
}


def save_all(root: Path) -> Path:
    """A folder a kind, with a model's file in it."""
    for kind, make in KINDS.items():
        make().save(root / kind, kind)
    return root
