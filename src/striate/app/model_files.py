"""Models' files of every version: read into today's form, or refused in a line.

A model of one version of the format loads in all later ones: whoever changes the format raises `FORMAT_VERSION` and adds to
`_UPGRADES` what makes the last version's files into today's. Small files of every version and kind are in tests/stored/, with
the features they gave when they were made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from striate.errors import BadInput

FORMAT_VERSION = 2
MODEL_FILE = "encoder.safetensors"
HUB_FILE = "model.safetensors"

Contents = tuple[dict[str, Any], dict[str, Tensor]]


def encoder_file(run: str | Path) -> Path:
    """The file that holds the model of a run, or of an exported folder; the path itself where it is no directory."""
    path = Path(run)
    if not path.is_dir():
        return path
    return next((path / name for name in (MODEL_FILE, HUB_FILE) if (path / name).exists()), path / MODEL_FILE)


def read_model_file(file: Path) -> Contents:
    """Description and tensors of a model's file, of whatever version it is; `upgraded` makes them today's.

    Raises:
        BadInput: it is no model's file, is damaged, or is newer than this Striate.
    """
    if not file.is_file():
        raise BadInput(f"{file} is no model of Striate's: it is no file")
    try:
        with safe_open(file, "pt") as opened:
            header = (opened.metadata() or {}).get("striate")
            if header is None:
                raise BadInput(f"{file} is no model of Striate's: its header does not describe one")
            description = json.loads(header)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
    except BadInput:
        raise
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        raise BadInput(f"{file} is no model of Striate's: {error}") from None
    version = description.get("version") if isinstance(description, dict) else None
    if type(version) is not int or version < 1:
        raise BadInput(f"{file} is no model of Striate's: its header names no version")
    if version > FORMAT_VERSION:
        raise BadInput(newer(file, version, description.get("striate")))
    return description, tensors


def upgraded(description: dict[str, Any], tensors: dict[str, Tensor]) -> Contents:
    """What a file of an earlier version holds, as one of today's would."""
    while (version := description["version"]) < FORMAT_VERSION:
        description, tensors = _UPGRADES[version](description, tensors)
    return description, tensors


def newer(file: Path, version: int, writer: object) -> str:
    """What to do about a file from the future."""
    from striate import __version__

    known = isinstance(writer, str) and re.fullmatch(r"\d+(\.\w+){0,4}", writer) is not None
    remedy = f"pip install 'striate>={writer}'" if known else "install a newer Striate"
    return f"{file} is of version {version}, this Striate ({__version__}) reads up to version {FORMAT_VERSION}: {remedy}"


def _to_2(description: dict[str, Any], tensors: dict[str, Tensor]) -> Contents:
    """Version 1 held one RBM as `model`; version 2 holds any number of layers."""
    kept = {key: value for key, value in description.items() if key not in ("kind", "model")}
    moved = {f"layers.0.{key[6:]}" if key.startswith("model.") else key: tensor for key, tensor in tensors.items()}
    return {**kept, "version": 2, "layers": [description["model"]], "class_names": []}, moved


# version -> what makes of its files those of the next one
_UPGRADES: dict[int, Callable[[dict[str, Any], dict[str, Tensor]], Contents]] = {1: _to_2}
