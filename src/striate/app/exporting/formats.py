"""The formats that a trained model is exported in, each checked after it was written, before it gets its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.app.exporting.checking import TOLERANCE, Check, Pictures, check, insist, pictures_for
from striate.app.exporting.folders import open_folder, write_card_folder, write_huggingface_folder
from striate.app.exporting.onnx_file import OPSET, open_onnx, write_onnx
from striate.app.exporting.program import open_program, write_program
from striate.app.exporting.trained import Trained
from striate.errors import BadInput
from striate.files import write_folder, write_whole

Features = Callable[[np.ndarray], Sequence[np.ndarray | Tensor]]


@dataclass(frozen=True)
class Format:
    """One of them.

    Attributes:
        write: a model to a file, or into an empty folder.
        open: what was written as a function of pictures, which gives the features of the model's layers.
        suffix: what the names of such files end in; empty for folders.
        says: in words.
    """

    write: Callable[[Trained, Path], None]
    open: Callable[[Trained, Path], Features]
    suffix: str
    says: str

    @property
    def is_folder(self) -> bool:
        """Whether it is one."""
        return not self.suffix


def _open_folder(subject: Trained, folder: Path) -> Features:
    return open_folder(folder, subject.layers, subject.encoder.image_shape)


FORMATS = {
    "onnx": Format(write_onnx, lambda _, file: open_onnx(file), ".onnx", "one ONNX file, for any runtime"),
    "program": Format(write_program, lambda _, file: open_program(file), ".pt2", "a program of torch.export, for torch alone"),
    "safetensors": Format(write_card_folder, _open_folder, "", "the model's file with a card"),
    "huggingface": Format(write_huggingface_folder, _open_folder, "", "a folder for the Hugging Face Hub"),
}


def export_model(
    subject: Trained,
    out: Path,
    form: str,
    store: Path | None = None,
    overwrite: bool = False,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Write a model in one of `FORMATS`, held against the run on pictures.

    Args:
        subject: the model.
        out: a file or, for the formats that are folders, a folder.
        form: of `FORMATS`.
        store: pictures to check on; by default the run's own.
        overwrite: replace what is there.
        tolerance: the largest relative difference allowed (see `Check`).

    Returns:
        The verb's result.

    Raises:
        BadInput: no such format, the target is there already, or an extra is missing.
        StriateError: it cannot be written so, differs too much, or the disk is full; nothing is left.
    """
    chosen = FORMATS[form]
    if not chosen.is_folder:
        _refuse(out, chosen.suffix, overwrite)
    pictures = pictures_for(subject, store)
    found: list[Check] = []

    def write(target: Path) -> None:
        chosen.write(subject, target)
        found.append(_checked(subject, chosen, target, pictures))
        insist(found[0], tolerance, form, subject.source)

    if chosen.is_folder:
        write_folder(out, write, overwrite)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, write)
    return _result(subject, out, form, found[0])


def _checked(subject: Trained, chosen: Format, target: Path, pictures: Pictures) -> Check:
    with torch.inference_mode():
        return check(subject, pictures, chosen.open(subject, target))


def format_of(out: Path) -> str:
    """The format that a file's name asks for; `onnx` where it asks for none."""
    return next((name for name, one in FORMATS.items() if one.suffix and out.suffix == one.suffix), "onnx")


def _refuse(out: Path, suffix: str, overwrite: bool) -> None:
    if out.is_dir():
        raise BadInput(f"{out} is a folder: this format is one file")
    if out.suffix != suffix:
        raise BadInput(f"{out}: files of this format have names that end in {suffix}")
    if out.exists() and not overwrite:
        raise BadInput(f"{out} is there already: choose another name, or give --overwrite")


def _result(subject: Trained, out: Path, form: str, found: Check) -> dict[str, Any]:
    files = [file for file in out.rglob("*") if file.is_file()] if out.is_dir() else [out]
    return {
        "run": str(subject.source),
        "out": str(out),
        "format": form,
        **({"opset": OPSET} if form == "onnx" else {}),
        "model": subject.digest,
        "image_shape": list(subject.encoder.image_shape),
        "layers": {name: subject.encoder.dims[name] for name in subject.layers},
        "bytes": sum(file.stat().st_size for file in files),
        "checked": {
            "pictures": found.count,
            "of": found.origin,
            "largest_relative_difference": found.largest,
            "layers": dict(found.differences),
            "rounding_of_the_run": max(found.rounding.values()),
        },
    }
