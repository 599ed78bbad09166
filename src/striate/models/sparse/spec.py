"""The locally connected sparse autoencoder described: stages of filtering, L2 pooling and local contrast normalisation.

Source: Le et al. 2012, section 3.2 and figure 1. What the paper leaves open (strides, padding, the width of the Gaussian, the
constant under the root, bounds on weights) is a field here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from striate.errors import BadInput

Sharing = Literal["untied", "tiled", "tied"]


@dataclass(frozen=True)
class StageSpec:
    """One stage: three of the paper's nine layers.

    Attributes:
        size: edge of a receptive field; filters see all maps below.
        stride: pixels from one field to the next.
        maps: filters at each place.
        pad: rows and columns of zeros added to what the stage sees, half before, half after; of an odd number one more after.
        pool: edge of the neighbourhood of one map that is pooled.
        pool_stride: from one pool to the next.
        pool_pad: as `pad`, before pooling.
        pool_maps: edge of the neighbourhood of maps, on a square torus of them, that is pooled besides: topographic ICA.
        norm: edge of the Gaussian window of contrast normalisation; 0 for none.
        norm_edges: `crop` what lies within half a window of the border, or `keep` it with windows cut off there.
        norm_floor: least divisor.
        sharing: whether places have filters of their own (`untied`), share them every `tile` places, or all share one bank.
        tile: see there.
        pool_group: so many maps in a row are pooled into one: independent subspaces.
    """

    size: int = 18
    stride: int = 1
    maps: int = 8
    pad: int = 0
    pool: int = 5
    pool_stride: int = 1
    pool_pad: int = 0
    pool_maps: int = 1
    norm: int = 5
    norm_edges: Literal["crop", "keep"] = "crop"
    norm_floor: float = 0.01
    sharing: Sharing = "untied"
    tile: int = 2
    pool_group: int = 1

    def __post_init__(self) -> None:
        for name in ("size", "stride", "maps", "pool", "pool_stride", "pool_maps", "pool_group", "tile"):
            if getattr(self, name) < 1:
                raise BadInput(f"a stage's {name} must be at least 1, found {getattr(self, name)}")
        for name in ("norm", "pool_maps"):
            if getattr(self, name) % 2 == 0 and getattr(self, name) != 0:
                raise BadInput(
                    f"a stage's {name} is a window around a place: expected an odd number, found {getattr(self, name)}"
                )
        if min(self.pad, self.pool_pad, self.norm) < 0 or self.norm_floor <= 0:
            raise BadInput(f"a stage's pads and norm cannot be negative, nor its norm_floor 0: found {self}")
        if self.pool_maps > 1 and round(self.maps**0.5) ** 2 != self.maps:
            raise BadInput(f"pooling over maps lays them out in a square: {self.maps} maps do not fill one")

        if self.maps % self.pool_group or (self.pool_group > 1 and self.pool_maps > 1):
            raise BadInput(
                f"pool_group divides the maps, in place of pool_maps: found {self.maps} maps, groups of {self.pool_group}, "
                f"pool_maps {self.pool_maps}"
            )

    @property
    def pools(self) -> int:
        """Maps after pooling."""
        return self.maps // self.pool_group

    @property
    def period(self) -> int:
        """Places after which filters repeat; 0: never."""
        return {"untied": 0, "tiled": self.tile, "tied": 1}[self.sharing]


@dataclass(frozen=True)
class NetSpec:
    """The whole network.

    Attributes:
        input: (channels, height, width) of the pictures.
        stages: from the picture up.
        input_norm: edge of a contrast normalisation of the preprocessed picture itself; 0 for none.
    """

    input: tuple[int, int, int]
    stages: tuple[StageSpec, ...]
    input_norm: int = 0

    def __post_init__(self) -> None:
        if not self.stages:
            raise BadInput("a network needs at least one stage")
        if self.input_norm < 0 or (self.input_norm % 2 == 0 and self.input_norm != 0):
            raise BadInput(f"input_norm is a window around a pixel: expected an odd number, found {self.input_norm}")


def stage_of(values: Mapping[str, Any]) -> StageSpec:
    """A stage from a mapping; unknown keys are named.

    Raises:
        BadInput: a key or a value that no stage has.
    """
    known = {field.name for field in fields(StageSpec)}
    for key in values:
        if key not in known:
            raise BadInput(f"a stage has no {key!r}: it has {', '.join(sorted(known))}")
    return StageSpec(**values)
