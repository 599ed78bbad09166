"""AlexNet with every difference between the paper, its authors' code and later nets as a named switch.

Sources: Krizhevsky, Sutskever, Hinton 2012 (`paper`); the code its authors released in 2025, configuration 145 (`source`) and
its one-column half (`half`); the one-GPU net of cuda-convnet2, whose parameters torchvision's AlexNet shares (`one-gpu`).
Counts and values: docs/convnets.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from striate.errors import BadInput
from striate.models.convnet.layers import Activation, Conv, Dense, Dropout, Layer, NetSpec, Norm, Pool, Start, Window

_POWER = 0.75
_WINDOW = 5


@dataclass(frozen=True)
class Switches:
    """One reading of the net.

    Attributes:
        maps: of the five convolutions.
        first: edge and stride of the first convolution's filters; smaller ones for small pictures, all of which they see.
        columns: two halves that see only their own maps, but for the third convolution and the fully connected layers.
        cross_talk: whether the third convolution sees both columns.
        input: how an 11x11 filter with stride 4 fits 55 times: `pad-end` 224 pixels, zeros beyond the right and the bottom;
            `crop-227`; `pad-2` 224 pixels, zeros all round, the grid moved by two pixels.
        order: of what follows the first two convolutions; `none` leaves normalisation out.
        places_norm: a further normalisation, within maps, after the second convolution's.
        alpha: the factor on the sum of squares, as written.
        alpha_per_map: whether it is divided by the window's size, as code does and the paper's formula does not.
        k: what the denominator starts from.
        columns_normalised_together: whether windows cross from one column's maps to the other's.
        pool: edge of pooling squares with stride 2; 3 overlaps, 2 does not.
        deep_std: standard deviation of the third to fifth convolutions' start.
        dense_std: of the two hidden fully connected layers'; the other layers' is 0.01.
        ones: whether the biases that the paper names start at 1.
        torch_start: start all parameters as torch's layers do.
        dropout: `after` the first two fully connected layers, `before` them, or `none`.
        inverted_dropout: scale while training rather than at test time.
        extra_conv: a sixth convolution over the last pooling layer, for more classes.
        activation: of all hidden layers.
        units: of the two hidden fully connected layers.
        keys: names of parameters in a state dict, ours or torchvision's.
    """

    maps: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    first: tuple[int, int] = (11, 4)
    columns: int = 2
    cross_talk: bool = True
    input: Literal["pad-end", "crop-227", "pad-2"] = "pad-end"
    order: Literal["relu-norm-pool", "norm-pool-relu", "relu-pool-norm", "none"] = "relu-norm-pool"
    places_norm: bool = False
    alpha: float = 1e-4
    alpha_per_map: bool = False
    k: float = 2.0
    columns_normalised_together: bool = False
    pool: int = 3
    deep_std: float = 0.01
    dense_std: float = 0.01
    ones: bool = True
    torch_start: bool = False
    dropout: Literal["after", "before", "none"] = "after"
    inverted_dropout: bool = False
    extra_conv: bool = False
    activation: Literal["relu", "tanh"] = "relu"
    units: int = 4096
    keys: Literal["striate", "torchvision"] = "striate"


_PAPER = Switches()
_SOURCE = replace(_PAPER, order="norm-pool-relu", places_norm=True, alpha_per_map=True, deep_std=0.03)

PROFILES: dict[str, Switches] = {
    "paper": _PAPER,
    "source": _SOURCE,
    "half": replace(_SOURCE, maps=(48, 128, 192, 192, 256), columns=1),
    "one-gpu": Switches(
        maps=(64, 192, 384, 256, 256),
        columns=1,
        input="pad-2",
        order="none",
        ones=False,
        torch_start=True,
        dropout="before",
        inverted_dropout=True,
        keys="torchvision",
    ),
    "caffenet": replace(
        _PAPER, input="crop-227", order="relu-pool-norm", alpha_per_map=True, k=1.0, columns_normalised_together=True,
        inverted_dropout=True,
    ),
    "six-conv": replace(_SOURCE, extra_conv=True),
    # The paper's net for pictures of 32x32, where its ablations can be rerun in minutes. Layers of few inputs start larger:
    # with the paper's 0.01 the error stays at chance for a thousand steps.
    "small": replace(
        _SOURCE, maps=(48, 96, 128, 128, 96), first=(5, 1), units=512, places_norm=False, deep_std=0.05, dense_std=0.03
    ),
}  # fmt: skip

_TORCHVISION = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}


def profile(name: str, changes: Mapping[str, Any] | None = None) -> Switches:
    """A profile's switches with some of them changed.

    Raises:
        BadInput: there is no such profile or switch.
    """
    if name not in PROFILES:
        raise BadInput(f"no net {name!r}: profiles are {', '.join(PROFILES)}")
    known = {field.name for field in fields(Switches)}
    unknown = set(changes or {}) - known
    if unknown:
        raise BadInput(f"no switch {sorted(unknown)[0]!r}: there are {', '.join(sorted(known))}")
    made = dict(changes or {})
    for key in ("maps", "first"):
        if key in made:
            made[key] = tuple(made[key])
    return replace(PROFILES[name], **made)


def alexnet(switches: Switches, classes: int = 1000, name: str = "alexnet", crop: int | None = None) -> NetSpec:
    """The net that switches describe.

    Args:
        switches: one reading.
        classes: units of the last layer.
        name: for people.
        crop: edge of the crops, where it is not the net's own 224 or 227: smaller pictures make smaller maps.
    """
    edge = crop or (28 if switches.first[1] == 1 else 227 if switches.input == "crop-227" else 224)
    hidden = (
        *_first(switches),
        *_second(switches),
        *_deep(switches),
        *_dense(switches, "fc6"),
        *_dense(switches, "fc7"),
        Dense("fc8", classes, _start(switches, 0.01, False), _key(switches, "fc8")),
    )
    return NetSpec(name, (3, edge, edge), hidden)


def _start(switches: Switches, std: float, ones: bool) -> Start:
    return Start(std, 1.0 if ones and switches.ones else 0.0, uniform=switches.torch_start)


def _key(switches: Switches, name: str) -> str | None:
    return _TORCHVISION.get(name) if switches.keys == "torchvision" else None


def _first(switches: Switches) -> tuple[Layer, ...]:
    # Three zeros at the right and the bottom are what the source's bounds test amounts to at 224 pixels.
    pad, pad_end = {"pad-end": (0, 3), "crop-227": (0, 0), "pad-2": (2, 0)}[switches.input]
    size, stride = switches.first
    if stride == 1:
        pad, pad_end = size // 2, 0
    conv = Conv(
        "conv1", switches.maps[0], size, stride, pad, pad_end, 1, _start(switches, 0.01, False), _key(switches, "conv1")
    )
    return conv, *_after(switches, 1)


def _second(switches: Switches) -> tuple[Layer, ...]:
    start = _start(switches, 0.01, True)
    conv = Conv("conv2", switches.maps[1], 5, 1, 2, groups=switches.columns, start=start, key=_key(switches, "conv2"))
    return conv, *_after(switches, 2)


def _after(switches: Switches, number: int) -> tuple[Layer, ...]:
    """Nonlinearity, normalisation and pooling in the order asked for."""
    scale = switches.alpha / (_WINDOW if switches.alpha_per_map else 1)
    groups = 1 if switches.columns_normalised_together else switches.columns
    norms: tuple[Layer, ...] = (Norm(f"norm{number}", Window("maps", _WINDOW, scale, _POWER, switches.k, groups)),)
    if switches.places_norm and number == 2:
        # The source's second normalisation: squares of 5 by 5 places of one map, 1e-3 shared among them, from 1.
        norms = (*norms, Norm("norm2-places", Window("places", _WINDOW, 1e-3 / _WINDOW**2, _POWER, 1.0)))
    parts: dict[str, tuple[Layer, ...]] = {
        "relu": (Activation(f"{switches.activation}{number}", switches.activation),),
        "norm": norms,
        "pool": (Pool(f"pool{number}", "max", switches.pool),),
    }
    order = "relu-pool" if switches.order == "none" else switches.order
    return tuple(layer for part in order.split("-") for layer in parts[part])


def _deep(switches: Switches) -> tuple[Layer, ...]:
    std, kind = switches.deep_std, switches.activation
    crossing = 1 if switches.cross_talk else switches.columns
    layers: list[Layer] = []
    for number, groups, ones in ((3, crossing, False), (4, switches.columns, True), (5, switches.columns, True)):
        name = f"conv{number}"
        start = _start(switches, std, ones)
        layers += [
            Conv(name, switches.maps[number - 1], 3, 1, 1, groups=groups, start=start, key=_key(switches, name)),
            Activation(f"{kind}{number}", kind),
        ]
    layers.append(Pool("pool5", "max", switches.pool))
    if switches.extra_conv:
        layers += [
            Conv("conv6", switches.maps[4], 3, 1, 1, groups=switches.columns, start=_start(switches, std, True)),
            Activation(f"{kind}-conv6", kind),
        ]
    return tuple(layers)


def _dense(switches: Switches, name: str) -> tuple[Layer, ...]:
    dense: tuple[Layer, ...] = (
        Dense(name, switches.units, _start(switches, switches.dense_std, True), _key(switches, name)),
        Activation(f"{switches.activation}{name[2:]}", switches.activation),
    )
    drop = (Dropout(f"drop{name[2:]}", 0.5, switches.inverted_dropout),)
    return {"after": dense + drop, "before": drop + dense, "none": dense}[switches.dropout]
