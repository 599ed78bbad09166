"""Shapes, parameters and multiply-adds of a net, by arithmetic alone: what tables print and errors name."""

from __future__ import annotations

import math
from dataclasses import dataclass

from striate.errors import BadInput
from striate.models.convnet.layers import Conv, Dense, Layer, Local, NetSpec, Pool

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Counted:
    """One layer of a net.

    Attributes:
        layer: itself.
        input: shape of what enters it, (maps, height, width) or (units,).
        output: shape of what leaves it.
        weights: how many.
        biases: how many.
        products: multiply-adds of a forward pass for one picture.
    """

    layer: Layer
    input: Shape
    output: Shape
    weights: int = 0
    biases: int = 0
    products: int = 0

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases

    @property
    def neurons(self) -> int:
        """Units that leave it."""
        return math.prod(self.output)


def count(spec: NetSpec) -> tuple[Counted, ...]:
    """Every layer with its shapes and sizes.

    Raises:
        BadInput: a layer that does not fit what comes before it.
    """
    counted: list[Counted] = []
    shape: Shape = spec.input
    for layer in spec.layers:
        found = _count(layer, shape)
        if min(found.output) < 1:
            raise BadInput(f"{spec.name}: {layer.name} has nothing to see: {shape} enters it, {found.output} would leave")
        counted.append(found)
        shape = found.output
    return tuple(counted)


def parameters(spec: NetSpec) -> int:
    """Weights and biases of the whole net."""
    return sum(one.parameters for one in count(spec))


def training_flop(spec: NetSpec) -> int:
    """Floating-point operations of one picture's forward and backward pass; nothing flows back into the pixels."""
    learned = [one for one in count(spec) if one.products]
    return 2 * (3 * sum(one.products for one in learned) - learned[0].products)


def _count(layer: Layer, shape: Shape) -> Counted:
    if isinstance(layer, Dense):
        inputs = math.prod(shape)
        return Counted(layer, shape, (layer.units,), inputs * layer.units, layer.units, inputs * layer.units)
    if isinstance(layer, Conv | Local | Pool) and len(shape) != 3:
        raise BadInput(f"{layer.name} needs maps, but {shape} enters it")
    if isinstance(layer, Conv):
        return _count_conv(layer, shape)
    if isinstance(layer, Local):
        maps, *edges = shape
        height, width = (edge + 2 * layer.pad - layer.size + 1 for edge in edges)
        places, inputs = height * width, maps * layer.size**2
        weights = inputs * layer.maps * places
        return Counted(layer, shape, (layer.maps, height, width), weights, layer.maps * places, weights)
    if isinstance(layer, Pool):
        return Counted(layer, shape, (shape[0], *(pooled(edge, layer) for edge in shape[1:])))
    return Counted(layer, shape, shape)


def _count_conv(layer: Conv, shape: Shape) -> Counted:
    maps, *edges = shape
    if maps % layer.groups or layer.maps % layer.groups:
        raise BadInput(f"{layer.name}: {maps} maps in and {layer.maps} out cannot be split into {layer.groups} columns")
    height, width = ((edge + 2 * layer.pad + layer.pad_end - layer.size) // layer.stride + 1 for edge in edges)
    weights = layer.maps * (maps // layer.groups) * layer.size**2
    return Counted(layer, shape, (layer.maps, height, width), weights, layer.maps, weights * height * width)


def pooled(edge: int, layer: Pool) -> int:
    """Squares along an edge."""
    steps = (edge - layer.size) / layer.stride
    count = (math.ceil(steps) if layer.ceil else math.floor(steps)) + 1
    # A square that would begin outside is none.
    return count - 1 if layer.ceil and (count - 1) * layer.stride >= edge else count
