"""Each column of a convolutional net in a process of its own. Source: Krizhevsky et al. 2012, section 3.5.

Columns exchange maps before the third convolution and units before each dense layer; on the way back each column's part of what
flows back is the sum of what all columns send. Every process sees the same crops and computes the loss of all classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from striate.models.convnet import ConvNet
from striate.models.convnet.columns import Column, merged
from striate.models.convnet.net import Parameters


class _Gather(torch.autograd.Function):
    """All columns' maps side by side; backward, this column's share of the sum over processes."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, summed: bool) -> Tensor:
        ctx.summed, ctx.width = summed, own.shape[1]
        # Wherever channels lie in memory, processes speak of the same order.
        own = own.contiguous()
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own)
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        above = above.contiguous()
        if ctx.summed:
            above = above.clone()
            dist.all_reduce(above)
        start = dist.get_rank() * ctx.width
        return above[:, start : start + ctx.width], None


class ColumnProcess(nn.Module):
    """This process's column of a net; to be trained by `ConvnetLearner` as the whole net would be.

    Args:
        net: the whole net; the same in every process.

    Raises:
        BadInput: it cannot be shared by as many columns as there are processes.
    """

    def __init__(self, net: ConvNet) -> None:
        super().__init__()
        state = {name: tensor.detach() for name, tensor in net.state_dict().items()}
        self.spec, self.compiled = net.spec, False
        self._shapes = net.mask_shapes
        self.column = Column(net.spec, state, dist.get_rank(), dist.get_world_size())

    def layer(self, name: str) -> Parameters:
        """This column's share of a layer's parameters."""
        return self.column.layer(name)

    @property
    def layer_parameters(self) -> Mapping[str, Parameters]:
        """Every layer's share, by name."""
        return {layer.name: self.column.layer(layer.name) for layer in self.spec.learned}

    def mask_shapes(self, count: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the whole net's dropout masks: every process draws the same and uses its part."""
        return self._shapes(count)

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits of all classes, in every process."""
        for layer in self.spec.layers:
            if self.column.sees_all(layer):
                x = _Gather.apply(x, True)
            x = self.column.apply_layer(layer, x, masks)
        # Every process goes on to the same loss: nothing is to be added up on the way back.
        return _Gather.apply(x, False)

    def whole(self) -> dict[str, Tensor] | None:
        """The parameters of the net in one piece, in the first process; None in the others."""
        own = {name: tensor.detach().cpu() for name, tensor in self.column.state_dict().items()}
        found: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
        dist.gather_object(own, found)
        return merged(self.spec, found) if found is not None else None
