"""Whether what was written says what the run says, on real pictures where there are any."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import torch
from torch import Tensor

from striate.app.exporting.trained import Trained
from striate.app.looking import sample_of_run
from striate.draws import generator
from striate.errors import BadInput, StriateError
from striate.images import ImageStore

TOLERANCE = 1e-4
_PICTURES = 64


@dataclass(frozen=True)
class Pictures:
    """What is checked on.

    Attributes:
        levels: uint8 (n, c, h, w).
        origin: where they are from, in words.
    """

    levels: np.ndarray
    origin: str


@dataclass(frozen=True)
class Check:
    """How far the written model's features are from the run's.

    Attributes:
        differences: by layer, the largest |a - b| / max(|b|, root mean square of b over the layer), b the run's.
        rounding: the same of the run itself beside its module in float64: what float32 makes of these weights and pictures.
        count: pictures.
        origin: where they are from, in words.
    """

    differences: Mapping[str, float]
    rounding: Mapping[str, float]
    count: int
    origin: str

    @property
    def largest(self) -> float:
        """Of all layers."""
        return max(self.differences.values())


def pictures_for(subject: Trained, store: Path | None = None) -> Pictures:
    """Pictures of a store, else of the run's own, else random ones.

    Raises:
        BadInput: the store's pictures are not of the model's shape.
    """
    shape = subject.encoder.image_shape
    if store is not None:
        opened = ImageStore(store)
        if opened.shape != shape:
            raise BadInput(f"{store} holds pictures {opened.shape}, the model takes {shape}: give another --check, or --size")
        levels = opened[np.linspace(0, len(opened) - 1, min(_PICTURES, len(opened))).astype(int)]
        return Pictures(levels, f"pictures of {store.name}")
    own = sample_of_run(subject.source, _PICTURES) if (subject.source / "recipe.yaml").exists() else None
    if own is not None and own.shape[1:] == shape:
        return Pictures(own, "pictures it was trained on")
    random = generator(0, "export-check").integers(0, 256, (_PICTURES, *shape), dtype=np.uint8)
    return Pictures(random, "random pictures (its own are not at hand: --check STORE names others)")


def check(subject: Trained, pictures: Pictures, other: Callable[[np.ndarray], Sequence[np.ndarray | Tensor]]) -> Check:
    """Hold what was written against the run.

    Args:
        subject: the run's.
        pictures: to check on.
        other: pictures to the features of the subject's layers, as what was written gives them.
    """
    wanted = subject.encoder.encode(pictures.levels, subject.layers)
    # All at once and one alone: the batch is to be free.
    found = [torch.as_tensor(one) for one in other(pictures.levels)]
    alone = [torch.as_tensor(one) for one in other(pictures.levels[:1])]
    differences = {
        name: max(difference(whole, wanted[name]), difference(single, wanted[name][:1], scale_of(wanted[name])))
        for name, whole, single in zip(subject.layers, found, alone, strict=True)
    }
    exact = subject.module().double()(torch.from_numpy(pictures.levels))
    rounding = {name: difference(wanted[name], one) for name, one in zip(subject.layers, exact, strict=True)}
    return Check(differences, rounding, len(pictures.levels), pictures.origin)


def scale_of(features: Tensor) -> float:
    """The root mean square of a layer."""
    return float(features.double().square().mean().sqrt())


def difference(found: Tensor, wanted: Tensor, scale: float | None = None) -> float:
    """The largest |a - b| / max(|b|, scale); infinite where shapes differ or anything is no number.

    Args:
        found: a.
        wanted: b.
        scale: by default the root mean square of b: a feature near zero is not asked for digits that float32 has not got.
    """
    if found.shape != wanted.shape:
        return float("inf")
    b = wanted.double()
    scale = scale_of(b) if scale is None else scale
    off = ((found.double() - b).abs() / b.abs().clamp_min(max(scale, 1e-30))).max()
    return float(off.nan_to_num(float("inf")))


def insist(found: Check, tolerance: float, form: str, source: Path | PurePath) -> None:
    """Raise `StriateError` if what was written is further from the run than it may be.

    A layer of large weights can be rounded by more than the tolerance in either: twice that on both sides is no fault.
    """
    for name, off in found.differences.items():
        allowed = max(tolerance, 4 * found.rounding[name])
        if not off <= allowed:
            raise StriateError(
                f"{source}: as {form} its {name} differs by up to {off:.1e} of its size, {allowed:.0e} are allowed: nothing "
                "was written; --tolerance allows more"
            )
