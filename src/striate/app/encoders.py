"""Models by name: run directories, encoder files, models of timm; and the stores that they can read."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from striate.app.load import encoder_file, load_model
from striate.compute import choose_device
from striate.errors import BadInput
from striate.images import ImageStore
from striate.models.encoder import Encoder

# What timm's models are named by.
TIMM = "timm:"


@dataclass(frozen=True)
class Source:
    """A model that pictures go through.

    Attributes:
        encoder: the model.
        digest: 16 hexadecimal digits that differ where features may.
        name: for people.
        preprocessing: what happens to pictures first, as JSON.
        warning: what must be known before its features are believed.
    """

    encoder: Encoder
    digest: str
    name: str
    preprocessing: dict[str, Any]
    warning: str | None = None


def source_of(source: str | Path | Source, image_shape: tuple[int, int, int] | None = None, device: str = "cpu") -> Source:
    """The model of a run directory, an encoder file or `timm:NAME`, with what tells it from others; given one, that one.

    Raises:
        BadInput: there is none, or no such device.
    """
    if isinstance(source, Source):
        return source
    if str(source).startswith(TIMM):
        return _timm(str(source), image_shape, device)
    model = load_model(source).to(choose_device(device))
    digest = hashlib.sha256(encoder_file(source).read_bytes()).hexdigest()[:16]
    return Source(model.encoder(image_shape), digest, model.description["name"], model.description["preprocess"])


def _timm(source: str, image_shape: tuple[int, int, int] | None, device: str) -> Source:
    from striate.app.timm_encoder import Named, TimmEncoder, timm_model

    named = Named.of(source)
    model, digest = timm_model(named)
    encoder = TimmEncoder(model, image_shape, choose_device(device))
    warning = None
    if named.random:
        warning = f"{source} has random weights, features of nothing learned: give a file, {source}@weights.safetensors"
    return Source(encoder, digest, f"{TIMM}{named.name}, {named.origin}", asdict(encoder.preparation), warning)


def encoder_of(source: str | Path, image_shape: tuple[int, int, int] | None = None, device: str = "cpu") -> Encoder:
    """The model of a run directory, of an encoder file, or of timm.

    Args:
        source: where it is, or `timm:NAME` or `timm:NAME@weights.safetensors`.
        image_shape: (channels, height, width) of the pictures to encode, for patch models; by default those trained on.
        device: where to compute.

    Raises:
        BadInput: there is none, or no such device.
    """
    return source_of(source, image_shape, device).encoder


def default_layer(encoder: Encoder) -> str:
    """The last layer but for a classifier's logits."""
    return next(name for name in reversed(encoder.layers) if name != "logits")


def fitting(source: str | Path | Source, store: ImageStore, device: str = "cpu") -> Source:
    """A model for the pictures of a store.

    Raises:
        BadInput: there is no such model or device, it takes pictures of another shape, or there are none.
    """
    if len(store) == 0:
        raise BadInput(f"{store.path} holds no pictures: there is nothing to encode")
    found = source_of(source, store.shape, device)
    if found.encoder.image_shape != store.shape:
        wanted, there = (spoken(shape) for shape in (found.encoder.image_shape, store.shape))
        name = found.name if isinstance(source, Source) else source
        raise BadInput(
            f"{name} takes pictures of {wanted}, {store.path} holds {there}: import them again at that size, "
            f"`striate import SOURCE STORE {import_options(found.encoder.image_shape)}`"
        )
    return found


def store_for(source: str | Path, path: Path) -> ImageStore:
    """A store that a model is to read.

    Raises:
        BadInput: there is none; of a folder or file of pictures, how to import it for this model.
    """
    if path.exists() and not (path / "store.json").exists():
        options = import_options(encoder_of(source).image_shape)
        raise BadInput(f"{path} is no image store: if it holds pictures, `striate import {path} pictures {options}` makes one")
    return ImageStore(path)


def spoken(shape: tuple[int, int, int]) -> str:
    """A shape in words."""
    channels, height, width = shape
    return f"{height}x{width} {'RGB' if channels == 3 else 'grey' if channels == 1 else f'in {channels} channels'}"


def import_options(shape: tuple[int, int, int]) -> str:
    """Options of `striate import` that give pictures of a shape."""
    channels, height, width = shape
    size = str(height) if height == width else f"{height}x{width}"
    return f"--size {size}{' --mode grey' if channels == 1 else ''}"


def check_layer(layer: str, encoder: Encoder) -> str:
    """The layer, if the model has it.

    Raises:
        BadInput: it has none of that name; the nearest is named.
    """
    if layer in encoder.layers:
        return layer
    nearest = difflib.get_close_matches(layer, encoder.layers, 1, 0.5)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise BadInput(f"no layer {layer!r}: {hint}this model has {', '.join(encoder.layers)}")
