"""Models' files that lie, are cut, or are newer than this Striate: one line each, and never a crash."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import striate as package
from small_models import KINDS, pictures, save_all
from striate.app.load import load_model
from striate.errors import BadInput
from training import striate


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_all(tmp_path_factory.mktemp("models"))


def description_of(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        return json.loads(json.loads(opened.read(length))["__metadata__"]["striate"])


def changed(models: Path, kind: str, target: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], Any]) -> Path:
    """A model's file with something else in its description or its tensors."""
    file = models / kind / "encoder.safetensors"
    description, tensors = description_of(file), load_file(file)
    description = change(description, tensors) or description
    save_file(tensors, target / "m.safetensors", {"striate": json.dumps(description)})
    return target / "m.safetensors"


def refusal(file: Path) -> str:
    """What loading says; it says it in one line that names the file."""
    with pytest.raises(BadInput) as error:
        package.load(file)
    message = str(error.value)
    assert message.startswith(str(file)) and "\n" not in message and len(message) < len(str(file)) + 400
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_any_tensor_that_is_missing_or_of_another_shape_is_named(kind: str, models: Path, tmp_path: Path) -> None:
    # Every tensor of every kind in turn; what only looks are made of (spectrum, colours) may be missing.
    for name in load_file(models / kind / "encoder.safetensors"):
        if name.rpartition(".")[2] in ("spectrum", "colour_deviations", "colour_vectors"):
            continue

        def gone(_: dict[str, Any], tensors: dict[str, Tensor], name: str = name) -> None:
            del tensors[name]

        def longer(_: dict[str, Any], tensors: dict[str, Tensor], name: str = name) -> None:
            tensors[name] = torch.zeros(*(edge + 1 for edge in tensors[name].shape), 1)

        def whole(_: dict[str, Any], tensors: dict[str, Tensor], name: str = name) -> None:
            tensors[name] = tensors[name].to(torch.int64)

        for change in (gone, longer):
            assert "is damaged" in refusal(changed(models, kind, tmp_path, change)), name
        assert f"its {name} is of int64, expected floats" in refusal(changed(models, kind, tmp_path, whole))


@pytest.mark.parametrize("kind", KINDS)
def test_no_description_makes_a_model_crash(kind: str, models: Path, tmp_path: Path) -> None:
    # Every value of the description, however deep, replaced by what it is not; some harmless ones may pass.
    description = description_of(models / kind / "encoder.safetensors")
    shape = package.load(models / kind).image_shape
    levels = pictures(shape, 2)

    def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path, *(found for key, one in inner for found in paths(one, (*path, key)))]

    for path in paths(description)[1:]:
        for lie in (None, -1, 10**30, "x" * 300, [], {}, [[]], True, 1.5):

            def lying(found: dict[str, Any], _: dict[str, Tensor], path: tuple[Any, ...] = path, lie: Any = lie) -> None:
                at: Any = found
                for key in path[:-1]:
                    at = at[key]
                at[path[-1]] = lie

            file = changed(models, kind, tmp_path, lying)
            try:
                encoder = package.load(file)
                if encoder.image_shape == shape:
                    encoder.encode(levels, encoder.layers)
            except BadInput as error:
                assert str(error).startswith(str(file)) and "\n" not in str(error), (path, lie)


def test_headers_that_lie_are_one_line(models: Path, tmp_path: Path) -> None:
    whole = (models / "patches" / "encoder.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    first = next(name for name in header if name != "__metadata__")

    def with_header(text: bytes) -> bytes:
        return struct.pack("<Q", len(text)) + text + whole[8 + length :]

    def lying(**fields: Any) -> bytes:
        return with_header(json.dumps({**header, first: {**header[first], **fields}}).encode())

    deep = json.dumps({**header, "__metadata__": {"striate": "[" * 100_000}}).encode()
    for data in (
        b"",
        whole[: len(whole) // 2],
        struct.pack("<Q", 2**63) + whole[8:],
        struct.pack("<Q", 90 << 20) + whole[8:],
        with_header(b"[" * 100_000),
        with_header(deep),
        lying(shape=[2**40, 2**40]),
        lying(data_offsets=[0, 2**50]),
        lying(data_offsets=[-4, 0]),
        lying(dtype="F99"),
        with_header(json.dumps({**header, "__metadata__": {"format": "pt"}}).encode()),
        with_header(json.dumps({**header, "__metadata__": {"striate": "[1, 2]"}}).encode()),
        with_header(json.dumps({**header, "__metadata__": {"striate": '{"version": "two"}'}}).encode()),
    ):
        (tmp_path / "m.safetensors").write_bytes(data)
        assert "is no model of Striate's" in refusal(tmp_path / "m.safetensors")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "encoder.safetensors")
    with pytest.raises(BadInput, match="it is no file"):
        load_model(tmp_path)


def test_a_huge_net_in_a_description_takes_no_memory(models: Path, tmp_path: Path) -> None:
    # 10^9 classes on 64 units would be 256 GB.
    def huge(description: dict[str, Any], _: dict[str, Tensor]) -> None:
        description["convnet"]["classes"] = 10**9

    assert "fc10.weight has shape (3, " in refusal(changed(models, "convnet", tmp_path, huge))


@pytest.mark.parametrize(
    ("writer", "remedy"),
    [
        ("0.9.1", "pip install 'striate>=0.9.1'"),
        ("1.0; rm -rf ~", "install a newer Striate"),
        (None, "install a newer Striate"),
    ],
)
def test_a_newer_file_names_the_striate_to_install(writer: str | None, remedy: str, models: Path, tmp_path: Path) -> None:
    file = changed(models, "binary", tmp_path, lambda known, _: {**known, "version": 9, "striate": writer})
    message = refusal(file)
    assert "is of version 9, this Striate (" in message and message.endswith(f"reads up to version 2: {remedy}")


def test_the_command_says_it_in_one_line(models: Path, tmp_path: Path) -> None:
    def gone(_: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        del tensors["layers.0.weights"]

    file = changed(models, "gaussian", tmp_path, gone)
    for arguments in (("export", file, tmp_path / "m.onnx"), ("show", file, "filters")):
        done = striate(*arguments)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and "it lacks 'weights'" in done.stderr, done.stderr
