"""Models on devices: whatever a model holds goes there, and features come back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from small_models import KINDS, VARIANTS, pictures
from striate import load
from striate.app.load import load_model
from striate.errors import BadInput
from striate.preprocess import Preprocessor


class OneDevice(TorchDispatchMode):
    """Refuses every operation on tensors of two devices but copies. (Fake convolutions would let them pass.)"""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        devices = {one.device.type for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor) and one.ndim}
        if len(devices) > 1 and function not in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            raise RuntimeError(f"{function} of tensors that are not on the same device")
        return function(*args, **(kwargs or {}))


def _faked(mode: FakeTensorMode, held: Any) -> Any:
    """A model with tensors that know shape and device alone; torch refuses to mix those of two devices, as real ones."""
    if isinstance(held, Tensor):
        return mode.from_tensor(held)
    if isinstance(held, tuple):
        return tuple(_faked(mode, one) for one in held)
    if isinstance(held, dict):
        return {name: _faked(mode, one) for name, one in held.items()}
    if isinstance(held, Preprocessor):
        state = {name: tensor for name, tensor in held.state().items() if not name.startswith("colour")}
        return Preprocessor(held.settings, held.shape, _faked(mode, state))
    if dataclasses.is_dataclass(held) and not isinstance(held, type):
        return dataclasses.replace(held, **{field.name: _faked(mode, getattr(held, field.name)) for field in _fields(held)})
    return held


def _fields(held: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(held) if field.init]


@pytest.mark.parametrize("kind", [*KINDS, *VARIANTS])
def test_no_tensor_of_a_model_is_left_behind_and_features_come_back(kind: str, tmp_path: Path) -> None:
    """On a device that is not the processor, a product with a tensor that stayed there raises."""
    model = (KINDS | VARIANTS)[kind]().save(tmp_path / "run", kind)
    some = pictures(model.image_shape)[:5]
    real = model.encoder().encode(some, model.encoder().layers)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        encoder = _faked(mode, model).to("meta").encoder()
        with OneDevice():
            found = encoder.encode(some, encoder.layers)
    assert {name: tuple(made.shape) for name, made in found.items()} == {n: tuple(made.shape) for n, made in real.items()}
    assert {made.device.type for made in found.values()} == {"cpu"}


def test_tensors_of_two_devices_do_raise_here(tmp_path: Path) -> None:
    """The test above would see a model whose preprocessing was left on the processor."""
    model = KINDS["gaussian"]().save(tmp_path / "run", "gaussian")
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        faked = _faked(mode, model)
        half = dataclasses.replace(faked, parts=faked.parts.to("meta"))
        with OneDevice(), pytest.raises(RuntimeError, match="same device"):
            half.encoder().encode(pictures((3, 4, 4)))


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_device_named_gives_the_same_features(device: str, tmp_path: Path) -> None:
    """Where there is no GPU, `auto` is the processor; where there is one, numbers agree within float32's rounding."""
    for kind, make in KINDS.items():
        model = make().save(tmp_path / kind, kind)
        some = pictures(model.image_shape)
        found, expected = load(tmp_path / kind, device=device).encode(some), model.encoder().encode(some)
        for name, made in expected.items():
            torch.testing.assert_close(found[name], made, rtol=1e-3, atol=1e-4, msg=f"{kind} {name}")


def test_a_moved_preprocessor_keeps_its_colours(tmp_path: Path) -> None:
    """Components of colour are made into arrays, which on other devices cannot be."""
    model = KINDS["convnet"]().save(tmp_path / "run", "convnet")
    moved = load_model(tmp_path / "run").to("meta").preprocessor
    assert moved.mean.device.type == "meta"
    assert moved.colour is not None and model.preprocessor.colour is not None
    np.testing.assert_array_equal(moved.colour.vectors, model.preprocessor.colour.vectors)


def test_devices_that_are_not_there_are_named(tmp_path: Path) -> None:
    KINDS["gaussian"]().save(tmp_path / "run", "gaussian")
    with pytest.raises(BadInput, match="device 'abacus' is unknown"):
        load(tmp_path / "run", device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(BadInput, match="device 'cuda' was asked for, but"):
            load(tmp_path / "run", device="cuda")
