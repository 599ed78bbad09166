"""``striate.load(run)``: a trained model as an Encoder, from the one file that people copy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from striate.app import model_checks as checks
from striate.app.model_files import FORMAT_VERSION, MODEL_FILE, read_model_file, upgraded
from striate.app.model_files import encoder_file as encoder_file
from striate.compute import choose_device
from striate.errors import BadInput, StriateError
from striate.models.autoencoder import Autoencoder, autoencoder_encoder
from striate.models.classifier import LogisticNet, net_encoder
from striate.models.convnet.trained import ConvNetEncoder, TrainedConvNet
from striate.models.encoder import Encoder
from striate.models.rbm import RBM
from striate.models.rbm.encode import PatchEncoder, rbm_encoder
from striate.models.sparse.trained import TrainedSparseNet, sparse_encoder
from striate.models.top import Top, with_logits
from striate.preprocess import Preprocessor
from striate.train.checkpoint import write_tensors


@dataclass(frozen=True)
class Parts:
    """A model without its preprocessing: RBMs, the lowest first, or one of the others; on `sparse` there may be a `top`."""

    rbms: tuple[RBM, ...] = ()
    net: LogisticNet | None = None
    autoencoder: Autoencoder | None = None
    convnet: TrainedConvNet | None = None
    sparse: TrainedSparseNet | None = None
    top: Top | None = None

    def to(self, device: torch.device | str) -> Parts:
        """The same on another device."""
        return Parts(
            tuple(rbm.to(device) for rbm in self.rbms),
            self.net and self.net.to(device),
            self.autoencoder and self.autoencoder.to(device),
            self.convnet and self.convnet.to(device),
            self.sparse and self.sparse.to(device),
            self.top and self.top.to(device),
        )

    @property
    def rebuilds(self) -> bool:
        """Whether it makes pictures anew of what it knows of them: what was taught classes does not."""
        return self.net is None and self.convnet is None and self.top is None

    def filters(self) -> Tensor:
        """Filters in the space of the preprocessed pictures, (units, pixels): the top RBM's, a net's lowest layer's; of a
        convolutional net its first layer's kernels, of a sparse autoencoder its first stage's, (filters, channels, size, size).

        Those of a deeper RBM are sums of the filters below it, weighted by its weights.
        """
        if self.convnet is not None:
            return self.convnet.kernels
        if self.sparse is not None:
            return self.sparse.filters
        if self.net is not None:
            return self.net.weights[0]
        if self.autoencoder is not None:
            return self.autoencoder.weights[0]
        filters = self.rbms[-1].weights
        for rbm in reversed(self.rbms[:-1]):
            filters = filters @ rbm.weights
        return filters


@dataclass(frozen=True)
class TrainedModel:
    """What encoder.safetensors holds: a model, its preprocessing, and the shape of the pictures it was trained on."""

    parts: Parts
    preprocessor: Preprocessor
    image_shape: tuple[int, int, int]
    description: dict[str, Any]

    @property
    def rbm(self) -> RBM:
        """The top RBM.

        Raises:
            BadInput: it is a net.
        """
        if not self.parts.rbms:
            raise BadInput(f"{self.description['name']} is no run of RBMs, which is expected here")
        return self.parts.rbms[-1]

    def filter_pictures(self) -> Tensor:
        """The filters as pictures, (units, channels, height, width)."""
        filters = self.parts.filters()
        return filters if filters.ndim == 4 else filters.view(-1, *self.preprocessor.shape)

    def to(self, device: torch.device | str) -> TrainedModel:
        """The same on another device."""
        return replace(self, parts=self.parts.to(device), preprocessor=self.preprocessor.to(device))

    def encoder(self, image_shape: tuple[int, int, int] | None = None) -> Encoder:
        """The model as an encoder where its tensors are; a patch model reads pictures of any shape its patches fit into."""
        if self.parts.convnet is not None:
            return ConvNetEncoder(self.parts.convnet, self.preprocessor.mean)
        if self.parts.sparse is not None:
            stages = sparse_encoder(self.preprocessor, self.parts.sparse)
            return stages if self.parts.top is None else with_logits(self.preprocessor, stages, self.parts.top)
        if self.parts.net is not None:
            return net_encoder(self.preprocessor, self.parts.net)
        if self.parts.autoencoder is not None:
            return autoencoder_encoder(self.preprocessor, self.parts.autoencoder)
        if self.preprocessor.settings.patch is None:
            return rbm_encoder(self.preprocessor, self.parts.rbms)
        return PatchEncoder(self.preprocessor, self.rbm, image_shape or self.image_shape)


def save_model(
    run: Path,
    parts: Parts,
    preprocessor: Preprocessor,
    image_shape: tuple[int, int, int],
    name: str,
    class_names: Sequence[str] = (),
) -> None:
    """Write encoder.safetensors into a run: tensors of model and preprocessing, everything else in its header."""
    from striate import __version__

    description = {
        "format": "striate-encoder",
        "version": FORMAT_VERSION,
        "striate": __version__,
        "name": name,
        "layers": [rbm.describe() for rbm in parts.rbms],
        "preprocess": preprocessor.describe(),
        "image_shape": list(image_shape),
        "class_names": list(class_names),
    }
    tensors = {f"preprocess.{key}": tensor for key, tensor in preprocessor.state().items()}
    for level, rbm in enumerate(parts.rbms):
        tensors |= {f"layers.{level}.{key}": tensor for key, tensor in rbm.state().items()}
    if parts.net is not None:
        tensors |= {f"net.{key}": tensor for key, tensor in parts.net.state().items()}
    if parts.autoencoder is not None:
        description["autoencoder"] = parts.autoencoder.describe()
        tensors |= {f"autoencoder.{key}": tensor for key, tensor in parts.autoencoder.state().items()}
    if parts.convnet is not None:
        description["convnet"] = parts.convnet.describe()
        tensors |= {f"convnet.{key}": tensor for key, tensor in parts.convnet.state.items()}
    if parts.sparse is not None:
        description["sparse"] = parts.sparse.describe()
        tensors |= {f"sparse.{key}": tensor for key, tensor in parts.sparse.state.items()}
    if parts.top is not None:
        description["top"] = parts.top.describe()
        tensors |= {f"top.{key}": tensor for key, tensor in parts.top.state().items()}
    # `format` is what readers of the Hugging Face Hub look for in a file of torch's tensors.
    # One entry: of several, safetensors writes the order that chance gives them, and the file's digest would change.
    write_tensors(run / MODEL_FILE, tensors, {"striate": json.dumps(description)})


def load_model(run: str | Path) -> TrainedModel:
    """The model of a run directory, of an exported folder, or of an encoder file by itself.

    Raises:
        BadInput: none is there yet, it is damaged, or newer than this Striate.
    """
    path, file = Path(run), encoder_file(run)
    if not file.exists():
        hint = "it has not saved a model yet" if (path / "run.json").exists() else "expected a run directory"
        raise BadInput(f"{run} has no {MODEL_FILE}: {hint}")
    description, tensors = read_model_file(file)
    try:
        return _restored(*upgraded(description, tensors))
    except StriateError as error:
        raise BadInput(f"{file} is damaged: {error}") from None
    except KeyError as error:
        raise BadInput(f"{file} is damaged: it lacks {error}") from None
    # Whatever else a lying description or tensor runs into on its way.
    except (TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise BadInput(f"{file} is damaged: {' '.join(str(error).split())[:200]}") from None


def _restored(description: dict[str, Any], tensors: Mapping[str, Tensor]) -> TrainedModel:
    checks.check_tensors(tensors)
    channels, height, width = description["image_shape"]
    image_shape = channels, height, width
    preprocessor = Preprocessor.restore(description["preprocess"], _part(tensors, "preprocess."))
    checks.check_preprocessor(preprocessor, image_shape)
    rbms = tuple(RBM.restore(layer, _part(tensors, f"layers.{level}.")) for level, layer in enumerate(description["layers"]))
    checks.check_rbms(rbms, preprocessor.dim)
    prefixes = ("net.", "autoencoder.", "convnet.", "sparse.", "top.")
    net, autoencoder, convnet, sparse, top = (_part(tensors, prefix) for prefix in prefixes)
    parts = Parts(
        rbms,
        LogisticNet.restore(net) if net else None,
        Autoencoder.restore(description["autoencoder"], autoencoder) if autoencoder else None,
        TrainedConvNet.restore(description["convnet"], convnet) if convnet else None,
        TrainedSparseNet.restore(description["sparse"], sparse) if sparse else None,
        Top.restore(description["top"], top) if top else None,
    )
    for dense, given in ((parts.net, net), (parts.autoencoder, autoencoder)):
        if dense is not None:
            checks.check_dense(dense, preprocessor.dim, given)
    if parts.convnet is not None:
        checks.check_convnet(parts.convnet, image_shape)
    if parts.sparse is not None:
        checks.check_sparse(parts.sparse, image_shape)
    if parts.top is not None:
        checks.check_top(parts.top, parts.sparse)
    if parts == Parts():
        raise BadInput("there is no model in it")
    return TrainedModel(parts, preprocessor, image_shape, description)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def load(run: str | Path, image_shape: tuple[int, int, int] | None = None, device: str = "cpu") -> Encoder:
    """A trained model as an encoder: ``striate.load("runs/patches").encode(images)``.

    Args:
        run: a run directory, an exported folder, or an encoder file.
        image_shape: (channels, height, width) of the pictures to encode, for patch models; by default those trained on.
        device: where to compute: `cpu`, `cuda`, `cuda:1`, or `auto` for the first GPU if there is one. Features come back to
            the processor's memory wherever that is.

    Raises:
        BadInput: there is no model, or no such device.
    """
    return load_model(run).to(choose_device(device)).encoder(image_shape)
