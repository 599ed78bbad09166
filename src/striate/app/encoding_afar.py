"""Blocks of a store encoded wherever somebody has it done: the model travels as its file, pictures by the store's path."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from striate.app.encoders import TIMM, Source, encoder_file, source_of
from striate.app.model_files import MODEL_FILE
from striate.compute import keep_memory
from striate.errors import BadInput
from striate.images import ImageStore
from striate.models.encoder import Encoder


@dataclass(frozen=True)
class SentModel:
    """A model on its way to another process.

    Attributes:
        name: as it was asked for.
        file: its encoder.safetensors, uint8; None for a model of timm's, which is made there.
        digest: what tells it from others.
        image_shape: of the pictures that it is to take.
        device: where it is to compute, there.
    """

    name: str
    file: np.ndarray | None
    digest: str
    image_shape: tuple[int, int, int]
    device: str

    @classmethod
    def of(cls, name: str | Path, found: Source, device: str) -> SentModel:
        """The model that was found under a name."""
        timm = str(name).startswith(TIMM)
        file = None if timm else np.fromfile(encoder_file(name), dtype=np.uint8)
        return cls(str(name), file, found.digest, found.encoder.image_shape, device)

    def made(self) -> Encoder:
        """The model, read or made here.

        Raises:
            BadInput: it is another one here.
        """
        if self.file is None:
            found = source_of(self.name, self.image_shape, self.device)
        else:
            with tempfile.TemporaryDirectory(prefix="striate-model-") as folder:
                self.file.tofile(Path(folder) / MODEL_FILE)
                found = source_of(folder, self.image_shape, self.device)
        if found.digest != self.digest:
            raise BadInput(
                f"{self.name} is another model on this worker: every machine needs the same weights at the same path"
            )
        return found.encoder


@dataclass(frozen=True)
class EncodeBlock:
    """From a block's start to its features.

    Attributes:
        model: see there.
        store: the pictures.
        layer: whose features.
        size: pictures of a block.
        dtype: of the features.
    """

    model: SentModel
    store: ImageStore
    layer: str
    size: int
    dtype: str

    @cached_property
    def encoder(self) -> Encoder:
        """The model, made when it is first asked for in a process."""
        keep_memory()
        return self.model.made()

    def __call__(self, start: int) -> np.ndarray:
        """Features (n, dim)."""
        block = self.store[start : start + self.size]
        features: np.ndarray = self.encoder.encode(block, [self.layer])[self.layer].numpy()
        return features.astype(self.dtype, copy=False)
