"""A linear classifier on top of another model's last layer: its weights, and the scale that features are brought to first.

Features of stages of pooling are all positive and of any size; less their mean and divided by their deviation, one learning
rate serves whatever is below. Divided by the root of their number besides, a picture's features have a length of about one, so
that neither does it depend on how many there are.
Source: Le et al. 2012, section 5. Differs: the scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.errors import BadInput
from striate.models.encoder import RowMaker, RowsEncoder

Kind = Literal["softmax", "one-against-all"]

# Of the root mean square deviation: what hardly varies is not blown up.
_LEAST_DEVIATION = 0.1


@dataclass(frozen=True)
class Top:
    """A linear classifier of features.

    Attributes:
        weights: (classes, features).
        bias: (classes,).
        centre: (features,), what is taken off first.
        scale: (features,), what they are divided by then.
        kind: what its scores are of: one softmax, or a logistic regression a class.
    """

    weights: Tensor
    bias: Tensor
    centre: Tensor
    scale: Tensor
    kind: Kind = "softmax"

    def __post_init__(self) -> None:
        classes, features = self.weights.shape
        for name, tensor, shape in (
            ("bias", self.bias, (classes,)),
            ("centre", self.centre, (features,)),
            ("scale", self.scale, (features,)),
        ):
            if tuple(tensor.shape) != shape:
                raise BadInput(f"a classifier of {features} features has a {name} of {tuple(tensor.shape)}, expected {shape}")

    def scaled(self, features: Tensor) -> Tensor:
        """Features (batch, features) as the weights want them."""
        return (features - self.centre) / self.scale

    def logits(self, features: Tensor) -> Tensor:
        """Scores (batch, classes) of features (batch, features)."""
        return F.linear(self.scaled(features), self.weights, self.bias)

    def to(self, device: torch.device | str) -> Top:
        """The same on another device."""
        weights, bias, centre, scale = (tensor.to(device) for tensor in self.state().values())
        return Top(weights, bias, centre, scale, self.kind)

    def state(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        return {"weights": self.weights, "bias": self.bias, "centre": self.centre, "scale": self.scale}

    def describe(self) -> dict[str, Any]:
        """What the tensors do not say, as JSON."""
        return {"kind": self.kind}

    @staticmethod
    def restore(description: Mapping[str, Any], state: Mapping[str, Tensor]) -> Top:
        """The classifier that `describe` and `state` were taken from.

        Raises:
            BadInput: it is of no kind that is known here, or its tensors do not fit one another.
        """
        kind = description["kind"]
        if kind not in ("softmax", "one-against-all"):
            raise BadInput(f"a classifier's kind is softmax or one-against-all, found {str(kind)[:40]!r}")
        return Top(state["weights"], state["bias"], state["centre"], state["scale"], kind)


def new_top(features: Tensor, classes: int, kind: Kind) -> Top:
    """A classifier that says the same of every picture.

    Args:
        features: (n, features) of some pictures, which the scale is taken from.
        classes: how many.
        kind: see `Top`. One against all begins at every class's share of one in so many, not at one in two.
    """
    deviation = features.std(dim=0, correction=0)
    floor = _LEAST_DEVIATION * float(deviation.square().mean().sqrt())
    deviation = deviation.clamp_min(floor) if floor else torch.ones_like(deviation)
    bias = torch.full((classes,), -math.log(max(classes - 1, 1)) if kind == "one-against-all" else 0.0)
    width = features.shape[1]
    return Top(torch.zeros(classes, width), bias, features.mean(dim=0), deviation * width**0.5, kind)


class Scores(nn.Module):
    """A classifier as a torch module of plain operations: maps or features to scores."""

    centre: Tensor
    scale: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(self, top: Top) -> None:
        super().__init__()
        for name, tensor in top.state().items():
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) to (n, classes)."""
        return F.linear((x.flatten(1) - self.centre) / self.scale, self.weights, self.bias)


def with_logits(rows: RowMaker, below: RowsEncoder, top: Top) -> RowsEncoder:
    """An encoder with a classifier on its last layer, as a further layer `logits`.

    Args:
        rows: the encoder's preprocessing.
        below: the encoder.
        top: the classifier.
    """
    last = below.layers[-1]
    dims = {name: dim for name, dim in below.dims.items() if name != "pixels"} | {"logits": len(top.weights)}

    def activities(seen: Tensor, wanted: tuple[str, ...]) -> Mapping[str, Tensor]:
        if "logits" not in wanted:
            return below.activities(seen, wanted)
        found = below.activities(seen, tuple({*wanted, last} - {"logits"}))
        return {**found, "logits": top.logits(found[last])}

    return RowsEncoder(rows, dims, activities)
