"""A convolutional net as a torch module, built from its description; parameters are named after layers (or their keys)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.convnet.layers import Activation, Conv, Dense, Dropout, Layer, Local, NetSpec, Norm, Pool, Window
from striate.models.convnet.local import local_filters
from striate.models.convnet.response import normalise
from striate.models.convnet.shapes import Counted, count

Learned = Conv | Local | Dense


class Parameters(nn.Module):
    """Weights and biases of one layer, as torch's own layers name them.

    Attributes:
        weight, bias: parameters.
        flow: set by a trainer that updates a dense layer's weights by itself (`Flow`); None otherwise.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.flow: Flow | None = None


class Flow:
    """What passes a dense layer whose weights' gradient is never made: it is a product that the update takes in pieces.

    Attributes:
        operand: the weights in the products' format.
        anchor: asked for a gradient, so that the backward pass comes by; it gets none.
        inputs: (n, in) of the last forward pass.
        above: (n, units), what flowed back in the last backward pass.
    """

    def __init__(self, operand: Tensor) -> None:
        self.operand = operand
        self.anchor = torch.zeros((), device=operand.device, requires_grad=True)
        self.inputs: Tensor | None = None
        self.above: Tensor | None = None


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, flow: Flow) -> Tensor:
        ctx.flow, ctx.needed = flow, x.requires_grad
        flow.inputs = x
        return x @ flow.operand.t()

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        ctx.flow.above = above
        return above @ ctx.flow.operand if ctx.needed else None, torch.zeros_like(ctx.flow.anchor), None


class ConvNet(nn.Module):
    """A net of convolutions, pooling, normalisation and fully connected layers.

    Args:
        spec: its description.
        draws: of the weights' start; None leaves them empty, to be filled from a state dict.

    Attributes:
        spec: its description.
        counted: every layer with its shapes.
        compiled: whether normalisation goes through torch's compiler.
    """

    def __init__(self, spec: NetSpec, draws: Draws | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.counted = count(spec)
        self.compiled = False
        self._steps = _fused_steps(spec.layers)
        self._learned: dict[str, Parameters] = {}
        for one in self.counted:
            if isinstance(one.layer, Learned):
                module = _parameters(one, draws)
                _place(self, one.layer.key or one.layer.name, module)
                # Beside the tree of modules, which may be nested, a plain map by the layers' names.
                self._learned[one.layer.name] = module

    def layer(self, name: str) -> Parameters:
        """A layer's parameters."""
        return self._learned[name]

    @property
    def layer_parameters(self) -> Mapping[str, Parameters]:
        """Every layer's parameters, in order, by name."""
        return self._learned

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits (n, classes) of crops `(n, *spec.input)`, mean subtracted.

        Args:
            x: the crops.
            masks: while training, for each dropout layer by name ones and zeros of its input's shape (`mask_shapes`).
        """
        for layer in self._steps:
            x = self._layer(layer, x, masks)
        return x

    def activities(self, x: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        """What leaves the layers asked for, by name, at test time.

        Raises:
            BadInput: there is no such layer.
        """
        missing = set(layers) - {layer.name for layer in self.spec.layers}
        if missing:
            there = ", ".join(layer.name for layer in self.spec.layers)
            raise BadInput(f"no layer {sorted(missing)[0]!r}: this net has {there}")
        found = {}
        for layer in self.spec.layers:
            x = self._layer(layer, x, None)
            if layer.name in layers:
                found[layer.name] = x
        return found

    def mask_shapes(self, count: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the masks that training a batch of so many pictures takes, by dropout layer."""
        return {one.layer.name: (count, *one.input) for one in self.counted if isinstance(one.layer, Dropout)}

    def _layer(self, layer: Layer | Window, x: Tensor, masks: Mapping[str, Tensor] | None) -> Tensor:
        if isinstance(layer, Window):
            return normalise(x, layer, self.compiled)
        return compute(layer, x, self._learned.get(layer.name), masks, compiled=self.compiled)


def compute(
    layer: Layer,
    x: Tensor,
    held: Parameters | None,
    masks: Mapping[str, Tensor] | None,
    groups: int | None = None,
    compiled: bool = False,
) -> Tensor:
    """What leaves a layer.

    Args:
        layer: its description.
        x: what enters it.
        held: its parameters, if it has any.
        masks: as `ConvNet.forward` takes them.
        groups: in place of the layer's own, for a part of it.
        compiled: whether normalisation goes through torch's compiler.
    """
    if isinstance(layer, Pool):
        if layer.kind == "max":
            return F.max_pool2d(x, layer.size, layer.stride, ceil_mode=layer.ceil)
        return F.avg_pool2d(x, layer.size, layer.stride, ceil_mode=layer.ceil, count_include_pad=False)
    if isinstance(layer, Norm):
        return normalise(x, layer.window if groups is None else replace(layer.window, groups=groups), compiled)
    if isinstance(layer, Activation):
        return torch.relu(x) if layer.kind == "relu" else torch.tanh(x)
    if isinstance(layer, Dropout):
        return _drop(layer, x, masks)
    assert held is not None
    if isinstance(layer, Conv):
        if layer.pad_end:
            x = F.pad(x, (0, layer.pad_end, 0, layer.pad_end))
        return F.conv2d(x, held.weight, held.bias, layer.stride, layer.pad, groups=groups or layer.groups)
    if isinstance(layer, Local):
        return local_filters(x, held.weight, held.bias, layer.size, layer.pad)
    return _dense(x, held)


def _dense(x: Tensor, held: Parameters) -> Tensor:
    # Units see maps in (maps, height, width) order, however memory lies.
    x = x.flatten(1) if x.ndim == 2 else x.contiguous().flatten(1)
    if held.flow is None or not torch.is_grad_enabled():
        return F.linear(x, held.weight, held.bias)
    dtype = held.flow.operand.dtype
    return _Through.apply(x.to(dtype), held.flow.anchor, held.flow) + held.bias.to(dtype)


def _fused_steps(layers: tuple[Layer, ...]) -> tuple[Layer | Window, ...]:
    """The layers, a ReLU and the normalisation across maps after it taken as one."""
    steps: list[Layer | Window] = []
    for layer in layers:
        before = steps[-1] if steps else None
        if (
            isinstance(layer, Norm)
            and layer.window.across == "maps"
            and isinstance(before, Activation)
            and before.kind == "relu"
        ):
            steps[-1] = replace(layer.window, relu=True)
        else:
            steps.append(layer)
    return tuple(steps)


def _drop(layer: Dropout, x: Tensor, masks: Mapping[str, Tensor] | None) -> Tensor:
    keep = 1 - layer.share
    if masks is None:
        return x if layer.inverted else x * keep
    mask = masks[layer.name].to(x.dtype)
    return x * (mask / keep if layer.inverted else mask)


def _parameters(one: Counted, draws: Draws | None) -> Parameters:
    layer = one.layer
    assert isinstance(layer, Learned)
    if isinstance(layer, Conv):
        shape: tuple[int, ...] = (layer.maps, one.input[0] // layer.groups, layer.size, layer.size)
        biases: tuple[int, ...] = (layer.maps,)
    elif isinstance(layer, Local):
        places = math.prod(one.output[1:])
        shape, biases = (places, layer.maps, one.input[0] * layer.size**2), (places, layer.maps)
    else:
        shape, biases = (layer.units, math.prod(one.input)), (layer.units,)
    if draws is None:
        return Parameters(torch.empty(shape), torch.empty(biases))
    if layer.start.uniform:
        bound = 1 / math.sqrt(shape[-1] if isinstance(layer, Local) else math.prod(shape[1:]))
        weight = draws.uniform(layer.name, shape).mul_(2 * bound).sub_(bound)
        return Parameters(weight, draws.uniform(f"{layer.name}.bias", biases).mul_(2 * bound).sub_(bound))
    return Parameters(draws.normal(layer.name, shape).mul_(layer.start.std), torch.full(biases, layer.start.bias))


def _place(root: nn.Module, key: str, module: nn.Module) -> None:
    """Register a module under a dotted key, as nested containers would."""
    *outer, last = key.split(".")
    for name in outer:
        if not hasattr(root, name):
            root.add_module(name, nn.Module())
        root = getattr(root, name)
    root.add_module(last, module)
