"""Features of whole stores: encoded block by block into a file, or once and kept beside the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from striate.app.encoders import Source, check_layer, default_layer, encoder_of, fitting, source_of, store_for
from striate.app.encoding import block_size, blocks
from striate.app.encoding_afar import EncodeBlock, SentModel
from striate.app.feature_draft import SAVE_EVERY_S, Draft, discard_draft, draft_folder
from striate.app.feature_files import FORMAT, SUFFIXES, VERSION, Features, read_features
from striate.app.overlap import Behind
from striate.app.probing import encode_all
from striate.app.screen import Screen
from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.work import Each

__all__ = [
    "Features",
    "default_layer",
    "encode_store",
    "encoder_of",
    "features_of",
    "kept_features",
    "read_features",
    "source_of",
    "store_for",
]


def encode_store(
    source: str | Path | Source,
    store: ImageStore,
    out: Path,
    screen: Screen,
    *,
    layer: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    half: bool = False,
    save_every_s: float = SAVE_EVERY_S,
    each: Each | None = None,
) -> Features:
    """A layer's features of every picture of a store, in a file whose suffix says its format.

    Memory does not grow with the store. Killed and called again, it goes on where it was and gives the same bytes.

    Args:
        source: a run directory, an encoder file, `timm:NAME`, or what `source_of` gave for the store's shape.
        store: the pictures, in whose order features come.
        out: the file.
        screen: where progress goes.
        layer: by default the last but for a classifier's logits.
        device: where to compute.
        overwrite: replace a file that is there.
        half: float16, half the bytes (not for Parquet).
        save_every_s: seconds of work that a kill may cost.
        each: has blocks encoded elsewhere, on what is `device` there; the bytes are the same. The model then is given by name.

    Raises:
        BadInput: the model does not fit the pictures or has no such layer, or the file is there already.
        StriateError: the disk is full.
    """
    if out.suffix not in SUFFIXES:
        raise BadInput(f"{out} names no format: expected a name that ends in {', '.join(SUFFIXES)}")
    if half and out.suffix == ".parquet":
        raise BadInput("Parquet holds float32: half the bytes are for .npy and .safetensors")
    there = BadInput(f"{out} is there already: choose another name, or --overwrite it")
    if out.exists() and not overwrite and not draft_folder(out).exists():
        raise there
    found = fitting(source, store, device if each is None else "cpu")
    if found.warning:
        screen.warn(found.warning)
    layer = check_layer(layer or default_layer(found.encoder), found.encoder)
    about = describe(found, layer, store, "float16" if half else "float32")
    # What is safe are whole blocks: the same again after a kill, where products of other shapes might round differently.
    size = block_size(found.encoder, layer)
    if out.exists() and not overwrite:
        # Killed between giving the file its name and tidying up: all was done.
        if (finished := read_features(out)).about != about:
            raise there
        discard_draft(out)
        return finished
    if each is None:
        return _write(lambda start: blocks(found.encoder, store, layer, size, start), store, out, about, screen, save_every_s)
    assert not isinstance(source, Source), "a model travels by its name"
    encode = EncodeBlock(SentModel.of(source, found, device), store, layer, size, about["dtype"])
    afar = each
    return _write(
        lambda start: (block for _, block in afar(encode, range(start, len(store), size))),
        store,
        out,
        about,
        screen,
        save_every_s,
    )


def _write(
    encoded: Callable[[int], Iterator[np.ndarray]],
    store: ImageStore,
    out: Path,
    about: dict[str, Any],
    screen: Screen,
    save_every_s: float,
) -> Features:
    """Blocks from a position on, into a file."""
    with Draft(out, about, store.iter_keys, save_every_s) as draft:
        if draft.done:
            screen.say(f"going on after {draft.done:,} pictures of {len(store):,}")
        with screen.progress("encoding", len(store), "pictures") as task, Behind() as writer:
            task.skip(draft.done)
            for block in encoded(draft.done):
                writer.call(draft.append, block)
                task.advance(len(block))
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


def kept_features(source: str | Path | Source, store: ImageStore, layer: str | None, screen: Screen) -> Features:
    """Features, float16, encoded once and kept in STORE/features/ for as long as model, layer and store are the same.

    Raises:
        BadInput: the model does not fit the pictures or has no such layer, or the store's folder cannot be written.
    """
    found = fitting(source, store, "auto")
    layer = check_layer(layer or default_layer(found.encoder), found.encoder)
    name = hashlib.sha256(f"{store.digest} {found.digest} {layer} {store.shape} {VERSION}".encode()).hexdigest()[:16]
    file = store.path / "features" / f"{name}.npy"
    with suppress(BadInput):
        return read_features(file)
    # None there, or a damaged one.
    return encode_store(found, store, file, screen, layer=layer, half=True, overwrite=True)


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
