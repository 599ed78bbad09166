"""Features of whole stores: encoded block by block into a file, or once and kept beside the store."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from striate.app.feature_draft import SAVE_EVERY_S, Draft
from striate.app.feature_files import FORMAT, SUFFIXES, VERSION, Features, read_features
from striate.app.load import encoder_file, load_model
from striate.app.overlap import Behind, ahead
from striate.app.probing import encode_all
from striate.app.screen import Screen
from striate.compute import choose_device
from striate.errors import BadInput
from striate.images import ImageStore
from striate.models.encoder import Encoder

__all__ = ["Features", "default_layer", "encode_store", "encoder_of", "features_of", "kept_features", "read_features"]

# Pictures and features of a block, as float32: products of some hundred rows, arrays that caches hold or nearly.
_BLOCK_BYTES = 16 << 20


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
    save_every_s: float = SAVE_EVERY_S,
) -> Features:
    """A layer's features of every picture of a store, in a file whose suffix says its format.

    Memory does not grow with the store. Killed and called again, it goes on where it was and gives the same bytes.

    Args:
        source: a run directory or an encoder file.
        store: the pictures, in whose order features come.
        out: the file.
        screen: where progress goes.
        layer: by default the last but for a classifier's logits.
        device: where to compute.
        overwrite: replace a file that is there.
        half: float16, half the bytes (not for Parquet).
        save_every_s: seconds of work that a kill may cost.

    Raises:
        BadInput: the model does not fit the pictures or has no such layer, or the file is there already.
        StriateError: the disk is full.
    """
    if out.suffix not in SUFFIXES:
        raise BadInput(f"{out} names no format: expected a name that ends in {', '.join(SUFFIXES)}")
    if half and out.suffix == ".parquet":
        raise BadInput("Parquet holds float32: half the bytes are for .npy and .safetensors")
    if out.exists() and not overwrite:
        raise BadInput(f"{out} is there already: choose another name, or --overwrite it")
    found = fitting(source, store, device)
    layer = check_layer(layer or default_layer(found.encoder), found.encoder)
    about = describe(found, layer, store, "float16" if half else "float32")
    return _write(found.encoder, layer, store, out, about, screen, save_every_s)


def _write(
    encoder: Encoder, layer: str, store: ImageStore, out: Path, about: dict[str, Any], screen: Screen, save_every_s: float
) -> Features:
    with Draft(out, about, store.iter_keys, save_every_s) as draft:
        if draft.done:
            screen.say(f"going on after {draft.done:,} pictures of {len(store):,}")
        # The same blocks whenever it was interrupted: products of other shapes may round differently.
        size = block_size(encoder, layer)
        draft.keep(draft.done // size * size)
        with screen.progress("encoding", len(store), "pictures") as task, Behind() as writer:
            task.skip(draft.done)
            for block in blocks(encoder, store, layer, size, draft.done):
                writer.call(draft.append, block)
                task.advance(len(block))
        draft.finish()
    return read_features(out)


def blocks(encoder: Encoder, pictures: ImageStore | np.ndarray, layer: str, size: int, start: int = 0) -> Iterator[np.ndarray]:
    """A layer's features, float32 (size, dim) at a time; pictures are read while those before them are encoded."""
    starts = range(start, len(pictures), size)
    for block in ahead(lambda at: pictures[at : at + size], starts):
        yield encoder.encode(block, [layer])[layer].numpy()


def block_size(encoder: Encoder, layer: str) -> int:
    """How many pictures go through a model at once: a power of two whose pictures and features are some megabytes."""
    bytes_each = 4 * max(math.prod(encoder.image_shape), encoder.dims[layer])
    return int(2 ** min(11, max(3, math.floor(math.log2(_BLOCK_BYTES / bytes_each)))))


def fitting(source: str | Path, store: ImageStore, device: str = "cpu") -> Source:
    """A model for the pictures of a store.

    Raises:
        BadInput: there is no such model or device, it takes pictures of another shape, or there are none.
    """
    if len(store) == 0:
        raise BadInput(f"{store.path} holds no pictures: there is nothing to encode")
    found = source_of(source, store.shape, device)
    if found.encoder.image_shape != store.shape:
        wanted, there = (spoken(shape) for shape in (found.encoder.image_shape, store.shape))
        raise BadInput(
            f"{source} takes pictures of {wanted}, {store.path} holds {there}: import them again at that size, "
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
    found = fitting(source, store)
    layer = check_layer(layer or default_layer(found.encoder), found.encoder)
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
        encoder = fitting(run, store).encoder
        # The store itself, not its pictures: they are read as they are encoded.
        parts.append(encode_all(encoder, store, layer or encoder.layers[-1], screen).float().numpy())
    return np.concatenate(parts)
