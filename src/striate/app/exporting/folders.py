"""Folders that hold a model for people: the file itself, its card, its filters; and the same as Hugging Face lays it out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from striate.app.exporting.card import card_of, markdown
from striate.app.exporting.trained import Trained
from striate.app.load import TrainedModel, load
from striate.app.model_files import HUB_FILE, MODEL_FILE
from striate.show import filter_sheet, png_bytes


def write_card_folder(subject: Trained, folder: Path) -> None:
    """encoder.safetensors to the last byte, card.json, README.md, filters.png."""
    _write(subject, folder, MODEL_FILE)


def write_huggingface_folder(subject: Trained, folder: Path) -> None:
    """The same as model.safetensors, with config.json and preprocessor_config.json."""
    card = _write(subject, folder, HUB_FILE)
    _write_json(folder / "config.json", config(subject, card))
    _write_json(folder / "preprocessor_config.json", preprocessor_config(card))


def _write(subject: Trained, folder: Path, name: str) -> dict[str, Any]:
    shutil.copyfile(subject.file, folder / name)
    card = card_of(subject)
    _write_json(folder / "card.json", card)
    (folder / "README.md").write_text(markdown(card, name), encoding="utf-8")
    (folder / "filters.png").write_bytes(png_bytes(filter_sheet(_filters(subject.model))))
    return card


def _filters(model: TrainedModel) -> np.ndarray:
    """(k, c, h, w), in pixels where that is known."""
    if model.preprocessor.settings.kind == "whiten" and model.parts.sparse is None:
        return model.preprocessor.filters_to_pixels(model.parts.filters()).numpy()
    return model.filter_pictures().numpy()


def config(subject: Trained, card: Mapping[str, Any]) -> dict[str, Any]:
    """config.json: what the Hub and its libraries look for, and Striate's own description."""
    channels, height, width = subject.encoder.image_shape
    names = subject.class_names
    features = next(name for name in reversed(subject.encoder.layers) if name != "logits")
    return {
        "model_type": "striate",
        "architectures": ["StriateEncoder"],
        "num_channels": channels,
        "image_size": height if height == width else [height, width],
        "hidden_size": subject.encoder.dims[features],
        **({"id2label": dict(enumerate(names)), "label2id": {name: at for at, name in enumerate(names)}} if names else {}),
        "layers": card["layers"],
        "striate_version": card["striate"],
        "striate": subject.model.description,
    }


def preprocessor_config(card: Mapping[str, Any]) -> dict[str, Any]:
    """preprocessor_config.json: pictures go in as levels, of this size; the rest is the model's own."""
    _, height, width = card["image_shape"]
    return {
        "image_processor_type": "StriateImageProcessor",
        "size": {"height": height, "width": width},
        "do_resize": False,
        "do_rescale": False,
        "do_normalize": False,
        "data_format": "channels_first",
        "description": card["preprocessing"],
    }


def open_folder(folder: Path, layers: Sequence[str], shape: tuple[int, int, int]) -> Callable[[np.ndarray], Sequence[Tensor]]:
    """An exported folder as a function of pictures: `striate.load` of it."""
    encoder = load(folder, shape)

    def encode(levels: np.ndarray) -> list[Tensor]:
        found = encoder.encode(levels, layers)
        return [found[name] for name in layers]

    return encode


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
