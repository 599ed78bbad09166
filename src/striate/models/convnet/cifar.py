"""The CIFAR-10 nets of cuda-convnet, and the four-layer net of figure 1.

Source: cuda-convnet's example layers (80sec, 19pct, 18pct, 13pct, 11pct): biases learn at twice the weights' rate and do not
decay, pooling counts squares that stick out, inputs are pixel levels less the mean image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from striate.errors import BadInput
from striate.models.convnet.layers import Activation, Conv, Dense, Layer, Local, NetSpec, Norm, Pool, Start, Window

Kind = Literal["relu", "tanh"]


def _conv(number: int, maps: int, std: float, decay: float) -> Conv:
    return Conv(f"conv{number}", maps, 5, 1, 2, start=Start(std, decay=decay))


def _pool(number: int, kind: Literal["max", "average"]) -> Pool:
    return Pool(f"pool{number}", kind, 3, 2, ceil=True)


def _relu(number: int, kind: Kind = "relu") -> Activation:
    return Activation(f"{kind}{number}", kind)


def _three(decay: float, norms: bool = False) -> list[Layer]:
    """Three convolutions, each pooled; on small pictures, with normalisation within maps after the first two."""
    layers: list[Layer] = [_conv(1, 32, 1e-4, decay), _pool(1, "max"), _relu(1)]
    if norms:
        layers.append(_places(1))
    layers += [_conv(2, 32, 0.01, decay), _relu(2), _pool(2, "average")]
    if norms:
        layers.append(_places(2))
    return [*layers, _conv(3, 64, 0.01, decay), _relu(3), _pool(3, "average")]


def _places(number: int) -> Norm:
    return Norm(f"norm{number}", Window("places", 3, 5e-5 / 9, 0.75, 1.0))


def _80sec(classes: int) -> list[Layer]:
    dense: list[Layer] = [Dense("fc64", 64, Start(0.1, decay=0.03)), _relu(4), Dense("fc10", classes, Start(0.1, decay=0.03))]
    return [*_three(0.004), *dense]


def _19pct(classes: int) -> list[Layer]:
    return [*_three(0.004), Dense("fc10", classes, Start(0.01, decay=3.0))]


def _18pct(classes: int) -> list[Layer]:
    return [*_three(0.004, norms=True), Dense("fc10", classes, Start(0.01, decay=1.0))]


def _13pct(classes: int) -> list[Layer]:
    return _local_net(classes, 32, None, 0.004)


def _11pct(classes: int) -> list[Layer]:
    return _local_net(classes, 64, 1e-3, 0.01)


def _local_net(classes: int, third: int, scale: float | None, head_decay: float) -> list[Layer]:
    """Two convolutions, two locally connected layers; cross-map normalisation after the first pooling, before the second."""

    def norm(number: int) -> list[Layer]:
        return [Norm(f"norm{number}", Window("maps", 9, scale / 9, 0.75, 1.0))] if scale is not None else []

    local = Start(0.04, decay=0.004)
    return [
        Conv("conv1", 64, 5, 1, 2, start=Start(1e-4, decay=0.0)),
        _relu(1),
        _pool(1, "max"),
        *norm(1),
        Conv("conv2", 64, 5, 1, 2, start=Start(0.01, decay=0.0)),
        _relu(2),
        *norm(2),
        _pool(2, "max"),
        Local("local3", third, 3, 1, start=local),
        _relu(3),
        Local("local4", 32, 3, 1, start=local),
        _relu(4),
        Dense("fc10", classes, Start(0.01, decay=head_decay)),
    ]


def _race(kind: Kind) -> Callable[[int], list[Layer]]:
    """Figure 1 names neither the net nor the rates, only `four-layer` and no regularisation: here three convolutions and a
    classifier.

    Weights start as the paper's do (0.01), on levels less the mean. Started in scale with their inputs (1 / sqrt(inputs),
    inputs of deviation 1), tanh units are as fast as rectified ones: the race is about starts as much as about units.
    """

    def layers(classes: int) -> list[Layer]:
        made: list[Layer] = []
        for number, maps in enumerate((32, 32, 64), start=1):
            start = Start(0.01, decay=0.0)
            made += [Conv(f"conv{number}", maps, 5, 1, 2, start=start), _relu(number, kind), _pool(number, "max")]
        return [*made, Dense("fc10", classes, Start(0.01, decay=0.0))]

    return layers


_NETS: dict[str, tuple[int, Callable[[int], list[Layer]]]] = {
    "80sec": (32, _80sec),
    "19pct": (32, _19pct),
    "18pct": (32, _18pct),
    "13pct": (24, _13pct),
    "11pct": (24, _11pct),
    "race-relu": (32, _race("relu")),
    "race-tanh": (32, _race("tanh")),
}
NAMES = tuple(_NETS)


def cifar_net(name: str, classes: int = 10, crop: int | None = None, channels: int = 3) -> NetSpec:
    """One of the nets by name, for crops of its own edge or another.

    Raises:
        BadInput: there is no such net.
    """
    if name not in _NETS:
        raise BadInput(f"no net {name!r}: there are {', '.join(NAMES)}")
    edge, layers = _NETS[name]
    return NetSpec(name, (channels, crop or edge, crop or edge), tuple(layers(classes)))
