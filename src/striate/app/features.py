"""Features of whole stores: encoded block by block into a file, or once and kept beside the store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from striate.app.feature_draft import Draft
from striate.app.feature_files import FORMAT, SUFFIXES, VERSION, Features, read_features
from striate.app.load import encoder_file, load_model
from striate.app.probing import encode_all
from striate.app.screen import Screen
from striate.compute import choose_device
from striate.errors import BadInput
from striate.images import ImageStore
from striate.models.encoder import Encoder, check_layers

__all__ = ["Features", "default_layer", "encode_store", "encoder_of", "features_of", "kept_features", "read_features"]

_AT_ONCE = 1024
_SAVE_EVERY = 16


@dataclass(frozen=True)
class Source:
    """A model that pictures go through.

    Attributes:
        encoder: the model.
        digest: 16 hexadecimal digits that differ where features may.
        name: for people.
        preprocessing: what happens to pictures first, as JSON.
    """

    encoder: Encoder
    digest: str
    name: str
    preprocessing: dict[str, Any]


def source_of(source: str | Path, image_shape: tuple[int, int, int] | None = None, device: str = "cpu") -> Source:
    """The model of a run directory or an encoder file, with what tells it from others.

    Raises:
        BadInput: there is none, or no such device.
    """
    model = load_model(source).to(choose_device(device))
    digest = hashlib.sha256(encoder_file(source).read_bytes()).hexdigest()[:16]
    return Source(model.encoder(image_shape), digest, model.description["name"], model.description["preprocess"])


def encoder_of(source: str | Path, image_shape: tuple[int, int, int] | None = None, device: str = "cpu") -> Encoder:
    """The model of a run directory or of an encoder file.

    Args:
        source: where it is.
        image_shape: (channels, height, width) of the pictures to encode, for patch models; by default those trained on.
        device: where to compute.

    Raises:
        BadInput: there is none, or no such device.
    """
    return source_of(source, image_shape, device).encoder


def default_layer(encoder: Encoder) -> str:
    """The last layer but for a classifier's logits."""
    return next(name for name in reversed(encoder.layers) if name != "logits")


def encode_store(
    source: str | Path,
    store: ImageStore,
    out: Path,
    screen: Screen,
    *,
    layer: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    half: bool = False,
) -> Features:
    """A layer's features of every picture of a store, in a file whose suffix says its format.

    Raises:
        BadInput: the model does not fit the pictures or has no such layer, or the file is there already.
        StriateError: the disk is full.
    """
    if out.suffix not in SUFFIXES:
        raise BadInput(f"{out} names no format: expected a name that ends in {', '.join(SUFFIXES)}")
    if out.exists() and not overwrite:
        raise BadInput(f"{out} is there already: choose another name, or --overwrite it")
    found = source_of(source, store.shape, device)
    encoder = found.encoder
    if encoder.image_shape != store.shape:
        raise BadInput(f"{source} takes pictures {encoder.image_shape}, {store.path} holds {store.shape}")
    [layer] = check_layers([layer or default_layer(encoder)], encoder.layers)
    about = describe(found, layer, store, "float16" if half else "float32")
    with Draft(out, about, store.keys) as draft, screen.progress("encoding", len(store), "pictures") as task:
        task.skip(draft.done)
        for number, start in enumerate(range(draft.done, len(store), _AT_ONCE), start=1):
            pictures = store[start : start + _AT_ONCE]
            draft.append(encoder.encode(pictures, [layer])[layer].numpy().astype(about["dtype"]))
            if number % _SAVE_EVERY == 0:
                draft.save()
            task.advance(len(pictures))
        draft.finish()
    return read_features(out)


def describe(source: Source, layer: str, store: ImageStore, dtype: str) -> dict[str, Any]:
    """What a features file says of itself."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": source.digest,
        "name": source.name,
        "layer": layer,
        "dim": source.encoder.dims[layer],
        "dtype": dtype,
        "store": store.digest,
        "count": len(store),
        "image_shape": list(store.shape),
        "preprocessing": source.preprocessing,
    }


def kept_features(source: str | Path, store: ImageStore, layer: str | None, screen: Screen) -> Features:
    """Features, float16, encoded once and kept in STORE/features/ for as long as model, layer and store are the same.

    Raises:
        BadInput: the model does not fit the pictures or has no such layer, or the store's folder cannot be written.
    """
    found = source_of(source, store.shape)
    [layer] = check_layers([layer or default_layer(found.encoder)], found.encoder.layers)
    name = hashlib.sha256(f"{store.digest} {found.digest} {layer} {store.shape} {VERSION}".encode()).hexdigest()[:16]
    file = store.path / "features" / f"{name}.npy"
    if file.exists():
        return read_features(file)
    return encode_store(source, store, file, screen, layer=layer, half=True)


def features_of(run: Path, stores: Sequence[ImageStore], layer: str | None, screen: Screen) -> np.ndarray:
    """Features (n, dim), float32, of one store after another, by a run's last layer or another.

    Raises:
        BadInput: the run does not fit the pictures, or has no such layer.
    """
    parts = []
    for store in stores:
        encoder = encoder_of(run, store.shape)
        if encoder.image_shape != store.shape:
            raise BadInput(f"{run} was trained on pictures {encoder.image_shape}, {store.path} holds {store.shape}")
        # The store itself, not its pictures: they are read as they are encoded.
        parts.append(encode_all(encoder, store, layer or encoder.layers[-1], screen).float().numpy())
    return np.concatenate(parts)
