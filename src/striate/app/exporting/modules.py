"""A trained model of any kind as one torch module: preprocessing, then its layers."""

from __future__ import annotations

from collections.abc import Sequence

from striate.app.load import TrainedModel
from striate.models.convnet import module as convnet
from striate.models.encoder import Encoder
from striate.models.module import FeatureModule, Rows, Steps, autoencoder_steps, net_steps, stack_steps
from striate.models.rbm.encode import PatchEncoder
from striate.models.rbm.module import Levels, PatchLayer
from striate.models.sparse.module import sparse_steps
from striate.models.top import Scores


def module_of(model: TrainedModel, encoder: Encoder, layers: Sequence[str]) -> FeatureModule:
    """The module that gives what the encoder gives.

    Args:
        model: from `load_model`.
        encoder: of that model, for pictures of the shape wanted.
        layers: of the encoder's.
    """
    shape, parts = encoder.image_shape, model.parts
    if parts.convnet is not None:
        crop = convnet.Crop(model.preprocessor.mean, parts.convnet.spec.input[1], parts.convnet.divide)
        module = FeatureModule(crop, convnet.net_steps(parts.convnet), layers, shape)
    elif isinstance(encoder, PatchEncoder):
        patches = PatchLayer(model.preprocessor, model.rbm, encoder.places, encoder.regions)
        module = FeatureModule(Levels(), [("hidden1", patches)], layers, shape)
    else:
        module = FeatureModule(Rows(model.preprocessor), _steps(model), layers, shape)
    return module.requires_grad_(False).eval()


def _steps(model: TrainedModel) -> Steps:
    parts = model.parts
    if parts.sparse is not None:
        return [*sparse_steps(parts.sparse), *([] if parts.top is None else [("logits", Scores(parts.top))])]
    if parts.net is not None:
        return net_steps(parts.net)
    if parts.autoencoder is not None:
        return autoencoder_steps(parts.autoencoder)
    return stack_steps(parts.rbms)
