"""Whether the parts of a model that was read from a file fit one another, so that a lying file is refused when it is opened."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from striate.errors import BadInput
from striate.models.autoencoder import Autoencoder
from striate.models.classifier import LogisticNet
from striate.models.convnet.net import ConvNet
from striate.models.convnet.trained import TrainedConvNet
from striate.models.rbm import RBM, Gaussian
from striate.models.sparse.shapes import sides
from striate.models.sparse.spec import StageSpec
from striate.models.sparse.trained import TrainedSparseNet
from striate.models.top import Top
from striate.preprocess import Preprocessor

Shape = tuple[int, ...]

# More than any size or constant of a model: torch's own numbers end soon after.
_LARGEST = 1 << 31


def check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Raise `BadInput` unless all are of floats."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise BadInput(f"its {name} is of {str(tensor.dtype).removeprefix('torch.')}, expected floats")


def check_preprocessor(preprocessor: Preprocessor, image_shape: tuple[int, int, int]) -> None:
    """Raise `BadInput` unless its tensors are of its shape, and that is the pictures' (or of patches of theirs)."""
    for shape in (image_shape, preprocessor.shape):
        if not all(type(edge) is int and edge > 0 for edge in shape):
            raise BadInput(f"its pictures have the shape {list(shape)}, expected three positive numbers")
    dim, state = preprocessor.dim, preprocessor.state()
    _expect("preprocess.mean", state["mean"], (dim,))
    for name in ("forward", "backward"):
        _expect(f"preprocess.{name}", state[name], (dim,), (dim, dim))
    patch = preprocessor.settings.patch
    expected = image_shape if patch is None else (image_shape[0], patch, patch)
    if preprocessor.shape != expected:
        raise BadInput(f"its preprocessing takes {preprocessor.shape}, expected {expected}")


def check_rbms(rbms: tuple[RBM, ...], dim: int) -> None:
    """Raise `BadInput` unless each takes what the one below it gives, the lowest rows of `dim` numbers."""
    for level, rbm in enumerate(rbms):
        if rbm.num_visible != dim:
            raise BadInput(f"its layers.{level} takes {rbm.num_visible} numbers, {dim} come from below")
        if isinstance(rbm.units, Gaussian):
            _expect(f"layers.{level}.sigma", rbm.units.sigma, (dim,), ())
        dim = rbm.num_hidden


def check_dense(layers: LogisticNet | Autoencoder, dim: int, given: Collection[str]) -> None:
    """Raise `BadInput` unless a net or an autoencoder takes rows of `dim` numbers, and is all that was given by name."""
    if left := sorted(set(given) - set(layers.state())):
        raise BadInput(f"its net has {left[0]} without the weights or biases that go with it")
    taken = layers.weights[0].shape[1]
    if taken != dim:
        raise BadInput(f"its net takes {taken} numbers, its preprocessing gives {dim}")
    scale = layers.scale if isinstance(layers, Autoencoder) else layers.input_scale
    _expect("scale", scale, (dim,), ())


def check_convnet(convnet: TrainedConvNet, image_shape: tuple[int, int, int]) -> None:
    """Raise `BadInput` unless parameters are of the net's shapes, and its crops fit into the pictures."""
    spec = convnet.spec
    _expect_kinds("convnet", {"divide": convnet.divide}, {"divide": 1.0})
    if spec.input[0] != image_shape[0] or spec.input[1] > min(image_shape[1:]):
        raise BadInput(f"its crops {spec.input} cannot be cut from pictures {image_shape}")
    # On no device: a description alone should not take memory.
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in ConvNet(spec).state_dict().items()}
    _expect_all(convnet.state, expected, "convnet.")


def check_sparse(sparse: TrainedSparseNet, image_shape: tuple[int, int, int]) -> None:
    """Raise `BadInput` unless filters are of the network's shapes."""
    if sparse.spec.input != image_shape:
        raise BadInput(f"its network takes {sparse.spec.input}, its pictures are {image_shape}")
    own = {"pool_floor": sparse.pool_floor, "tied_decoder": sparse.tied_decoder, "input_norm": sparse.spec.input_norm}
    _expect_kinds("sparse", own, {"pool_floor": 0.0, "tied_decoder": False, "input_norm": 0})
    for stage in sparse.spec.stages:
        _expect_kinds("sparse.stages", asdict(stage), asdict(StageSpec()))
    expected: dict[str, Shape] = {}
    for number, one in enumerate(sides(sparse.spec), start=1):
        stage, period = one.stage, one.stage.period
        banks = [min(period, edge) if period else edge for edge in one.filtered[1:]]
        for part in ("encoder",) if sparse.tied_decoder else ("encoder", "decoder"):
            expected[f"stage{number}.{part}"] = (*banks, stage.maps, stage.size, stage.size, one.seen[0])
    _expect_all(sparse.state, expected, "sparse.")


def check_top(top: Top, sparse: TrainedSparseNet | None) -> None:
    """Raise `BadInput` unless a classifier has stages under it, and takes what the last of them gives."""
    if sparse is None:
        raise BadInput("its top stands on nothing: there are no stages under it")
    features = math.prod(sides(sparse.spec)[-1].output)
    if top.weights.shape[1] != features:
        raise BadInput(f"its top takes {top.weights.shape[1]} numbers, its stages give {features}")


def _expect_kinds(where: str, given: Mapping[str, object], like: Mapping[str, object]) -> None:
    """Refuse values that are of another type than a sample; whole numbers may stand for others, truths for none."""
    for name, sample in like.items():
        kinds = (int, float) if isinstance(sample, float) else (type(sample),)
        value = given[name]
        if type(value) not in kinds or (isinstance(value, int | float) and abs(value) > _LARGEST):
            raise BadInput(f"its {where} has {name} {str(value)[:40]!r}, expected such as {sample!r}")


def _expect_all(state: Mapping[str, Tensor], expected: Mapping[str, Shape], prefix: str) -> None:
    for name, shape in expected.items():
        if name not in state:
            raise BadInput(f"it lacks {prefix}{name}")
        _expect(prefix + name, state[name], shape)


def _expect(name: str, tensor: Tensor, *shapes: Shape) -> None:
    if tuple(tensor.shape) not in shapes:
        wanted = " or ".join(str(shape) for shape in shapes)
        raise BadInput(f"its {name} has shape {tuple(tensor.shape)}, expected {wanted}")
