"""What a unit wants: the picture that it answers most among pictures of equal contrast, for any kind of model.

Contrast is the norm of the preprocessed picture, as models see it: of equal norm on whitened rows, pictures look like pictures;
on pixels the best would be the finest noise that the unit can make something of.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from striate.app.exploring.layers import Layer
from striate.app.exporting.modules import module_of
from striate.app.load import TrainedModel
from striate.app.screen import Screen
from striate.images import ImageStore
from striate.measure.stimulus import optimal_stimulus
from striate.models.encoder import Encoder
from striate.models.module import Dense, FeatureModule, Rows

_NORM_PICTURES = 500
_STARTS, _STEPS = 2, 60


def is_climbed(model: TrainedModel) -> bool:
    """Whether there is something to look for: of patches the filter itself is the answer, and shown already."""
    return model.preprocessor.settings.patch is None


def wanted(model: TrainedModel, encoder: Encoder, layer: Layer, unit: int, store: ImageStore, screen: Screen) -> np.ndarray:
    """The optimal stimulus, uint8 (channels, height, width).

    Args:
        model: any but one of patches.
        encoder: of that model.
        layer: one of its layers.
        unit: by the largest of its answers, where it answers at several places.
        store: pictures of the usual contrast.
        screen: whose check may end it.
    """
    module = module_of(model, encoder, [layer.name])
    _open(module)
    ready = model.preprocessor

    def respond(rows: Tensor) -> Tensor:
        screen.check()
        [found] = module.above(rows) if isinstance(module.first, Rows) else module(ready.invert(rows))
        return found.view(len(rows), layer.units, layer.places).amax(dim=2)[:, unit]

    some = store[np.linspace(0, len(store) - 1, min(_NORM_PICTURES, len(store))).astype(int)]
    norm = float(ready.apply(some).norm(dim=1).mean())
    best = optimal_stimulus(respond, ready.dim, norm, starts=_STARTS, steps=_STEPS)
    return ready.invert(best.row[None]).clamp(0, 255).round().to(torch.uint8)[0].numpy()


def _open(module: FeatureModule) -> None:
    """Take the last layer's sigmoid off: it changes no order, and where it is flat there is nothing to climb."""
    last = module.steps[-1]
    last = last[-1] if isinstance(last, nn.Sequential) else last
    if isinstance(last, Dense):
        last.sigmoid = False
