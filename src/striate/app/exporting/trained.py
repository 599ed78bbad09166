"""What is exported: a trained model, the layers asked for, and what is to be said of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.app.exporting.modules import module_of
from striate.app.load import TrainedModel, load_model
from striate.app.model_files import encoder_file
from striate.models.encoder import Encoder, check_layers
from striate.models.module import FeatureModule
from striate.preprocess import PreprocessSettings


@dataclass(frozen=True)
class Trained:
    """A model on its way out.

    Attributes:
        source: its run, or its encoder file.
        file: the encoder file.
        model: what the file holds.
        encoder: for pictures of the shape wanted.
        layers: whose features other runtimes are to give.
        digest: of the file, 16 hexadecimal digits: what feature files name the model by.
        title: for cards.
        licence: for cards.
    """

    source: Path
    file: Path
    model: TrainedModel
    encoder: Encoder
    layers: tuple[str, ...]
    digest: str
    title: str
    licence: str

    @property
    def name(self) -> str:
        """Of the recipe."""
        return str(self.model.description["name"])

    @property
    def class_names(self) -> list[str]:
        """Of a classifier's logits; empty where nobody named them, or there are none."""
        names = list(self.model.description.get("class_names", []))
        return names if "logits" in self.encoder.layers and len(names) == self.encoder.dims["logits"] else []

    def module(self, layers: Sequence[str] | None = None) -> FeatureModule:
        """The model as a module of plain operations."""
        return module_of(self.model, self.encoder, layers or self.layers)

    def notes(self) -> dict[str, Any]:
        """What goes into the files of other runtimes."""
        from striate import __version__

        return {
            "striate": __version__,
            "name": self.name,
            "model": self.digest,
            "layers": {name: self.encoder.dims[name] for name in self.layers},
            "image_shape": list(self.encoder.image_shape),
            "class_names": self.class_names,
            "preprocessing": preprocessing(self),
            "licence": self.licence,
        }


def trained(
    source: Path,
    layers: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    licence: str = "unknown",
    title: str | None = None,
) -> Trained:
    """Load what is to be exported.

    Args:
        source: a run, a folder of an earlier export, or an encoder file.
        layers: by default the features that encode gives, and a classifier's logits.
        size: (height, width) of the pictures, for patch models; by default of those trained on.
        licence: for cards.
        title: for cards; by default the recipe's name.

    Raises:
        BadInput: there is no model, or no such layer.
    """
    model = load_model(source)
    shape = model.image_shape if size is None else (model.image_shape[0], *size)
    encoder = model.encoder(shape)
    wanted = check_layers(layers or _usual(encoder), encoder.layers)
    file = encoder_file(source)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()[:16]
    name = str(model.description["name"])
    return Trained(source, file, model, encoder, tuple(dict.fromkeys(wanted)), digest, title or name, licence)


def _usual(encoder: Encoder) -> list[str]:
    features = next(name for name in reversed(encoder.layers) if name != "logits")
    return [features, *(["logits"] if "logits" in encoder.layers else [])]


def preprocessing(subject: Trained) -> str:
    """What happens to pictures before the model, in words."""
    model, settings = subject.model, subject.model.preprocessor.settings
    channels, height, width = subject.encoder.image_shape
    colours = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    taken = f"uint8 levels 0 to 255, {colours}, planar (n, {channels}, {height}, {width})"
    if model.parts.convnet is not None:
        crop, divide = model.parts.convnet.spec.input[1], model.parts.convnet.divide
        less = "less the mean picture" + (f", divided by {divide:g}" if divide != 1 else "")
        return f"{taken}; the centre crop of {crop}x{crop} pixels, {less}"
    contrast = "each {}'s mean taken out and its standard deviation made about 50 levels; ".format(
        "picture" if settings.patch is None else "patch"
    )
    where = "" if settings.patch is None else f"every patch of {settings.patch}x{settings.patch} pixels: "
    return f"{taken}; {where}{contrast if settings.contrast else ''}{_map(settings)}"


def _map(settings: PreprocessSettings) -> str:
    deleted = f", the {settings.delete} least significant directions deleted" if settings.delete else ""
    ridge = f", {settings.epsilon:g} added to eigenvalues" if settings.epsilon else ""
    return {
        "whiten": f"mean removed, ZCA whitening{deleted}{ridge}",
        "delete": f"mean removed{deleted}",
        "standardise": "each pixel less its mean, divided by its standard deviation",
        "scale": "divided by 255",
        "mean": "less the mean picture",
    }[settings.kind]
