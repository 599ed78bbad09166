"""A trained network of stages: enough to be kept, loaded and used as an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from striate.models.encoder import RowMaker, RowsEncoder
from striate.models.sparse.filtering import autoencode
from striate.models.sparse.net import SparseNet
from striate.models.sparse.responses import padded
from striate.models.sparse.shapes import Sides, sides
from striate.models.sparse.spec import NetSpec, stage_of

# Pictures whose maps are held at once.
_AT_ONCE = 256


@dataclass(frozen=True)
class TrainedSparseNet:
    """A network's description and its filters.

    Attributes:
        spec: its description.
        state: filters by name, as `SparseNet.state` gives them.
        tied_decoder: whether it rebuilds with the encoder's own weights.
        pool_floor: the paper's epsilon.
    """

    spec: NetSpec
    state: Mapping[str, Tensor]
    tied_decoder: bool = False
    pool_floor: float = 1e-2

    @property
    def filters(self) -> Tensor:
        """The first stage's filters, place by place, (places x maps, channels, size, size)."""
        first = self.state["stage1.encoder"]
        return first.flatten(0, 2).permute(0, 3, 1, 2)

    def to(self, device: torch.device | str) -> TrainedSparseNet:
        """The same on another device."""
        return replace(self, state={name: tensor.to(device) for name, tensor in self.state.items()})

    def build(self) -> SparseNet:
        """The network itself, where its filters are."""
        net = SparseNet(self.spec, self.tied_decoder, self.pool_floor)
        return net.to(self.state["stage1.encoder"].device).load(self.state)

    def rebuilt(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What the first stage sees of preprocessed pictures (n, pixels), and what it makes of it again, (n, c, h, w) both."""
        net = self.build()
        stage, x = net.stages[0], net.maps(rows)
        encoder, decoder = (stage.operand(one, x.dtype) for one in (stage.encoder, stage.decoder_or_encoder))
        inputs = padded(x, stage.spec.pad)
        with torch.inference_mode():
            _, made = autoencode(inputs, encoder, decoder, stage.places)
        return inputs.permute(3, 2, 0, 1), made.permute(3, 2, 0, 1)

    def describe(self) -> dict[str, Any]:
        """What the tensors do not say, as JSON."""
        return {
            "input": list(self.spec.input),
            "stages": [asdict(stage) for stage in self.spec.stages],
            "input_norm": self.spec.input_norm,
            "tied_decoder": self.tied_decoder,
            "pool_floor": self.pool_floor,
        }

    @staticmethod
    def restore(description: Mapping[str, Any], state: Mapping[str, Tensor]) -> TrainedSparseNet:
        """The network that `describe` and `state` were taken from."""
        channels, height, width = description["input"]
        stages = tuple(stage_of(stage) for stage in description["stages"])
        spec = NetSpec((channels, height, width), stages, description["input_norm"])
        return TrainedSparseNet(spec, dict(state), description["tied_decoder"], description["pool_floor"])


def layer_shapes(spec: NetSpec) -> dict[str, tuple[int, int, int]]:
    """(maps, height, width) of every layer by name, lowest first."""
    return {name: shape for number, one in enumerate(sides(spec), start=1) for name, shape in _layers(number, one)}


def _layers(number: int, one: Sides) -> list[tuple[str, tuple[int, int, int]]]:
    return [(f"filter{number}", one.filtered), (f"pool{number}", one.pooled), (f"norm{number}", one.output)]


def sparse_encoder(rows: RowMaker, trained: TrainedSparseNet) -> RowsEncoder:
    """The network as an encoder; features of a layer are its maps, flattened as (maps, height, width)."""
    net = trained.build()
    dims = {name: maps * height * width for name, (maps, height, width) in layer_shapes(trained.spec).items()}

    def activities(seen: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        wanted = [name for name in layers if name in dims]
        parts: dict[str, list[Tensor]] = {name: [] for name in wanted}
        for start in range(0, len(seen), _AT_ONCE):
            with torch.inference_mode():
                found = net.activities(seen[start : start + _AT_ONCE], wanted) if wanted else {}
            for name, made in found.items():
                parts[name].append(flat(made))
        return {name: torch.cat(part) if part else torch.empty(0, dims[name]) for name, part in parts.items()}

    return RowsEncoder(rows, dims, activities)


def flat(maps: Tensor) -> Tensor:
    """Maps (height, width, maps, batch) as rows (batch, maps x height x width)."""
    return maps.permute(3, 2, 0, 1).flatten(1).float()
