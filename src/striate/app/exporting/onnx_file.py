"""One ONNX file: the model with its preprocessing, any number of pictures at a time.

Weights stay inside the file, which holds 2 GB at most: the default of torch's exporter puts them into a second one that is lost
on the first copy.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from striate.app.exporting.program import traced
from striate.app.exporting.trained import Trained
from striate.errors import BadInput, StriateError

OPSET = 20
_MOST_BYTES = (1 << 31) - (1 << 20)


def write_onnx(subject: Trained, file: Path) -> None:
    """Write it.

    Raises:
        BadInput: the extra `export` is not installed.
        StriateError: it is too large for one file, or has an operation that ONNX has not.
    """
    onnx = _needed("onnx")
    _needed("onnxscript")
    module = subject.module()
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    if size > _MOST_BYTES:
        raise StriateError(
            f"{subject.source} has {size / 1e9:.1f} GB of parameters, one ONNX file holds 2 GB: use --format program, or a "
            "lower --layer"
        )
    program = traced(module)
    with _quiet():
        try:
            made = torch.onnx.export(
                program,
                (),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=["pictures"],
                output_names=list(subject.layers),
                verbose=False,
            )
        # Whatever the exporter stumbles over, the model has an operation that it does not know.
        except Exception as error:
            raise StriateError(
                f"{subject.source} cannot be written as ONNX ({first_line(error)}): use --format program"
            ) from None
    assert made is not None
    proto = made.model_proto
    _describe(proto, subject, onnx)
    onnx.save_model(proto, str(file))


def _describe(proto: Any, subject: Trained, onnx: Any) -> None:
    """Name the free axis, and say what the model is."""
    free = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == free:
                dim.dim_param = "n"
    notes = subject.notes()
    proto.producer_name, proto.producer_version = "striate", notes["striate"]
    proto.doc_string = f"{subject.title}: {notes['preprocessing']}"
    onnx.helper.set_model_props(
        proto, {key: value if isinstance(value, str) else json.dumps(value) for key, value in notes.items()}
    )


def open_onnx(file: Path) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
    """An ONNX file as a function of pictures, by onnxruntime on the processor.

    Raises:
        BadInput: the extra `export` is not installed.
    """
    runtime = _needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda levels: session.run(None, {"pictures": levels})


def first_line(error: Exception) -> str:
    """What an error says first, cut short."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return said[0][:200]


def _needed(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise BadInput(f"--format onnx needs {name}: pip install 'striate[export]'") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's words on libraries that are not needed here."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
