"""What convolutional nets are described by: a list of small frozen layers, read by `net.py`, counted by `shapes.py`.

Names are the field's: maps, filter size, stride, groups (columns). Sources: Krizhevsky, Sutskever, Hinton 2012, section 3;
cuda-convnet's layer files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Start:
    """How a layer's parameters start, and how they are treated while training.

    Attributes:
        std: standard deviation of the weights' normal start.
        bias: every bias's start.
        decay: weight decay of the weights, in place of the recipe's; biases never decay.
        uniform: weights and biases uniform in +-1/sqrt(inputs) instead, as torch's own layers start.
    """

    std: float = 0.01
    bias: float = 0.0
    decay: float | None = None
    uniform: bool = False


@dataclass(frozen=True)
class Conv:
    """Filters shared by all places.

    Attributes:
        name: of the layer.
        maps: filters.
        size: edge of a filter.
        stride: pixels from one application to the next.
        pad: zeros on all four sides.
        pad_end: further zeros at the right and the bottom only.
        groups: filters of a group see the maps of their group alone: the paper's columns.
        start: of its parameters.
        key: of its parameters in a state dict, where that is not the name.
    """

    name: str
    maps: int
    size: int
    stride: int = 1
    pad: int = 0
    pad_end: int = 0
    groups: int = 1
    start: Start = field(default_factory=Start)
    key: str | None = None


@dataclass(frozen=True)
class Local:
    """Filters of their own at every place (untied weights), with a bias each; stride 1."""

    name: str
    maps: int
    size: int
    pad: int = 0
    start: Start = field(default_factory=Start)
    key: str | None = None


@dataclass(frozen=True)
class Dense:
    """Fully connected units."""

    name: str
    units: int
    start: Start = field(default_factory=Start)
    key: str | None = None


@dataclass(frozen=True)
class Pool:
    """Summaries of overlapping (or not) squares of each map.

    Attributes:
        name: of the layer.
        kind: largest or average; an average at the ragged edge is over the places there are.
        size: edge of the square.
        stride: pixels from one square to the next.
        ceil: squares that stick out over the edge count, as in cuda-convnet.
    """

    name: str
    kind: Literal["max", "average"]
    size: int = 3
    stride: int = 2
    ceil: bool = False


@dataclass(frozen=True)
class Window:
    """What responses are normalised by.

    Attributes:
        across: `maps` at one place, or `places` of one map.
        size: maps in the window, or edge of its square. An even window of maps begins size // 2 maps before.
        scale: factor on the sum of squares (the paper's alpha; its authors' code, Caffe and torch divide alpha by the window).
        power: beta.
        k: what the sum is added to.
        groups: windows never cross from one group of maps to the next.
        relu: cut responses at zero first, in the same pass.
    """

    across: Literal["maps", "places"]
    size: int
    scale: float
    power: float = 0.75
    k: float = 2.0
    groups: int = 1
    relu: bool = False


@dataclass(frozen=True)
class Norm:
    """Response normalisation: x / (k + scale * sum of squares over a window)^power."""

    name: str
    window: Window


@dataclass(frozen=True)
class Activation:
    """A nonlinearity."""

    name: str
    kind: Literal["relu", "tanh"] = "relu"


@dataclass(frozen=True)
class Dropout:
    """Units left out at random while training.

    Attributes:
        name: of the layer.
        share: left out.
        inverted: kept units are scaled up while training (torch); otherwise all are scaled down at test time (the paper).
    """

    name: str
    share: float = 0.5
    inverted: bool = False


Layer = Conv | Local | Dense | Pool | Norm | Activation | Dropout


@dataclass(frozen=True)
class NetSpec:
    """A net.

    Attributes:
        name: for people.
        input: (channels, height, width) of what it sees: a crop.
        layers: in the order of computation; the last gives the classes' logits.
    """

    name: str
    input: tuple[int, int, int]
    layers: tuple[Layer, ...]

    @property
    def learned(self) -> tuple[Conv | Local | Dense, ...]:
        """Layers with parameters."""
        return tuple(layer for layer in self.layers if isinstance(layer, Conv | Local | Dense))

    @property
    def classes(self) -> int:
        """Units of the last layer."""
        last = self.learned[-1]
        assert isinstance(last, Dense)
        return last.units
