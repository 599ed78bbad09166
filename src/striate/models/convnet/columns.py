"""The net's columns as parts of their own, each on its own device, which meet only where a layer sees all maps.

Source: Krizhevsky et al. 2012, section 3.5: two GPUs, cross-talk in the third convolution and the dense layers alone. What a
column computes knows no device and no process. Here all live in one process, on one device or two; `striate.cluster.columns`
gives each a process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from striate.errors import BadInput
from striate.models.convnet.layers import Conv, Dense, Dropout, Layer, Local, NetSpec, Norm
from striate.models.convnet.net import ConvNet, Parameters, compute


def check_columns(spec: NetSpec, columns: int) -> None:
    """Raise `BadInput` unless every layer of a net can be shared evenly by so many columns."""
    for layer in spec.layers:
        if isinstance(layer, Local):
            raise BadInput(f"{spec.name}: locally connected layers have no columns ({layer.name})")
        size = layer.maps if isinstance(layer, Conv) else layer.units if isinstance(layer, Dense) else columns
        if size % columns:
            raise BadInput(f"{spec.name}: {size} maps or units of {layer.name} cannot be shared by {columns} columns")
        if isinstance(layer, Conv) and layer.groups not in (1, columns):
            raise BadInput(f"{spec.name}: {layer.name} has {layer.groups} groups, not {columns}")
        if isinstance(layer, Norm) and layer.window.across == "maps" and layer.window.groups != columns:
            raise BadInput(f"{spec.name}: {layer.name} normalises across columns, which are on different devices")


def share(tensor: Tensor, column: int, columns: int) -> Tensor:
    """A column's part of a parameter of the whole net: its own maps or units, all of their inputs."""
    size = tensor.shape[0] // columns
    return tensor[column * size : (column + 1) * size]


class Column(nn.Module):
    """One column: its share of every layer.

    Args:
        spec: the whole net's description.
        state: the whole net's parameters.
        column: which, from 0.
        columns: of how many.

    Raises:
        BadInput: the net cannot be shared so.
    """

    def __init__(self, spec: NetSpec, state: Mapping[str, Tensor], column: int, columns: int) -> None:
        super().__init__()
        check_columns(spec, columns)
        self.spec, self.column, self.columns = spec, column, columns
        self._held: dict[str, Parameters] = {}
        for layer in spec.learned:
            key = layer.key or layer.name
            parts = (share(state[f"{key}.{part}"], column, columns).clone() for part in ("weight", "bias"))
            self._held[layer.name] = Parameters(*parts)
            self.add_module(layer.name, self._held[layer.name])

    def layer(self, name: str) -> Parameters:
        """Its share of a layer's parameters."""
        return self._held[name]

    def sees_all(self, layer: Layer) -> bool:
        """Whether a layer needs every column's maps."""
        first = self.spec.learned[0]
        return layer is not first and (isinstance(layer, Dense) or (isinstance(layer, Conv) and layer.groups == 1))

    def apply_layer(self, layer: Layer, x: Tensor, masks: Mapping[str, Tensor] | None) -> Tensor:
        """One layer of this column; `x` are its own maps, or everyone's where the layer sees all; masks are the whole net's."""
        if isinstance(layer, Dropout) and masks is not None:
            whole = masks[layer.name]
            size = whole.shape[1] // self.columns
            masks = {layer.name: whole[:, self.column * size : (self.column + 1) * size].to(x.device)}
        return compute(layer, x, self._held.get(layer.name), masks, groups=1)


class Columns(nn.Module):
    """All columns in one process, each on its device.

    Args:
        net: the net to take apart; its parameters are copied.
        devices: one a column.
    """

    def __init__(self, net: ConvNet, devices: Sequence[torch.device | str]) -> None:
        super().__init__()
        self.spec, self._devices = net.spec, [torch.device(device) for device in devices]
        state = {name: tensor.detach() for name, tensor in net.state_dict().items()}
        count = len(devices)
        made = [Column(net.spec, state, column, count).to(device) for column, device in enumerate(self._devices)]
        self.columns = nn.ModuleList(made)

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits (n, classes) on the first device, for crops (n, *spec.input)."""
        columns: list[Any] = list(self.columns)
        parts = [x.to(device) for device in self._devices]
        for layer in self.spec.layers:
            if columns[0].sees_all(layer):
                parts = [torch.cat([part.to(device) for part in parts], dim=1) for device in self._devices]
            parts = [column.apply_layer(layer, part, masks) for column, part in zip(columns, parts)]
        return torch.cat([part.to(self._devices[0]) for part in parts], dim=1)

    def whole(self) -> dict[str, Tensor]:
        """The parameters of the net in one piece, on the CPU."""
        return merged(self.spec, [column.state_dict() for column in self.columns])


def merged(spec: NetSpec, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The whole net's parameters from its columns'."""
    return {
        f"{layer.key or layer.name}.{part}": torch.cat([state[f"{layer.name}.{part}"].detach().cpu() for state in states])
        for layer in spec.learned
        for part in ("weight", "bias")
    }
