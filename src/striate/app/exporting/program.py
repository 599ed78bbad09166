"""A program of torch.export (.pt2): the model with its preprocessing, to be run by torch without Striate."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from striate.app.exporting.trained import Trained
from striate.errors import StriateError
from striate.models.module import FeatureModule

# Beside the program in its file, as JSON.
NOTES = "striate.json"


def traced(module: FeatureModule) -> ExportedProgram:
    """The module's operations, for any number of pictures.

    Raises:
        StriateError: it does something that cannot be traced.
    """
    example = torch.zeros(2, *module.input_shape, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
        # Errors of tracing are of many unrelated classes.
        except Exception as error:
            raise StriateError(f"this model cannot be traced by torch.export: {str(error).splitlines()[0][:200]}") from None


def write_program(subject: Trained, file: Path) -> None:
    """Write it, with what the model is as JSON beside the operations."""
    program = traced(subject.module())
    # Opened here: torch has words for names that do not end in .pt2, as temporary ones do not.
    with file.open("wb") as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, opened, extra_files={NOTES: json.dumps(subject.notes())})


def open_program(file: Path) -> Callable[[np.ndarray], Sequence[Tensor]]:
    """A program's file as a function of pictures."""
    with file.open("rb") as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(opened).module()
    return lambda levels: module(torch.from_numpy(levels))
