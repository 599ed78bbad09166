"""Probing a run on labelled stores: what `probe`, `learn` and `demo` share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.app.encoders import check_layer
from striate.app.encoding import block_size, blocks
from striate.app.load import load
from striate.app.screen import Screen
from striate.errors import BadInput
from striate.images import ImageStore
from striate.measure import ProbeResult, judge, probe
from striate.measure.logistic import as_labels
from striate.models.encoder import Encoder
from striate.show import figures as draw
from striate.train.checkpoint import write_text

# Features up to this size stay float32; beyond it they are kept in half the bytes.
_LARGE_BYTES = 1 << 30


def probe_run(
    run: Path,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    class_names: list[str],
    screen: Screen,
    layer: str | None = None,
) -> dict[str, Any]:
    """Probe raw pixels and a run's features, write probe.json and the confusion matrix into the run.

    Args:
        run: a run directory.
        train: pictures uint8 (n, c, h, w) and labels (n,).
        test: the same, of other pictures.
        class_names: for the figure.
        screen: where progress goes.
        layer: by default the last but for a net's logits.

    Returns:
        Summaries of `pixels` and `features`, and of the net's own answers where the run is a net.
    """
    channels, height, width = train[0].shape[1:]
    if test[0].shape[1:] != train[0].shape[1:]:
        raise BadInput(f"training pictures are {train[0].shape[1:]}, test pictures {test[0].shape[1:]}: they must agree")
    encoder = load(run, (channels, height, width))
    layer = layer or next(name for name in reversed(encoder.layers) if name != "logits")
    screen.say(f"probing raw pixels ({channels * height * width:,} dimensions, {len(train[0]):,} pictures)")
    pixels = probe(_pixels(train[0]), train[1], _pixels(test[0]), test[1])
    screen.say(f"probing {layer} ({encoder.dims.get(layer, 0):,} dimensions)")
    features = probe(
        encode_all(encoder, train[0], layer, screen), train[1], encode_all(encoder, test[0], layer, screen), test[1]
    )
    result = {
        "pixels": pixels.summary(),
        "features": features.summary(),
        "layer": layer,
        "protocol": features.protocol,
        "run": str(run),
    }
    shown = features
    if "logits" in encoder.layers:
        shown = _judge_net(encoder, train, test, screen)
        result["net"] = shown.summary()
    write_text(run / "probe.json", json.dumps({**result, "confusion": shown.confusion.tolist()}))
    _draw(run, shown, class_names)
    return result


def _judge_net(
    encoder: Encoder, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], screen: Screen
) -> ProbeResult:
    """A net's own answers on pictures it has not seen."""
    predicted = encode_all(encoder, test[0], "logits", screen).argmax(dim=1)
    classes, inputs = encoder.dims["logits"], encoder.dims["pixels"]
    protocol = "the trained net's own answers"
    return judge(predicted, as_labels(test[1]), classes, len(train[0]), inputs, 0.0, protocol=protocol)


def _draw(run: Path, features: ProbeResult, class_names: list[str]) -> None:
    names = class_names if len(class_names) >= len(features.confusion) else [str(i) for i in range(len(features.confusion))]
    (run / "figures").mkdir(exist_ok=True)
    (run / "figures" / "confusion.png").write_bytes(draw.matrix(features.confusion, names[: len(features.confusion)]))


def _pixels(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).flatten(1).float().div_(255)


def encode_all(encoder: Encoder, pictures: np.ndarray | ImageStore, layer: str, screen: Screen) -> Tensor:
    """Features of many pictures, (n, dim), with progress."""
    layer = check_layer(layer, encoder)
    dim = encoder.dims[layer]
    dtype = torch.float32 if len(pictures) * dim * 4 <= _LARGE_BYTES else torch.bfloat16
    out, done = torch.empty(len(pictures), dim, dtype=dtype), 0
    with screen.progress("encoding", len(pictures), "pictures") as task:
        for block in blocks(encoder, pictures, layer, block_size(encoder, layer)):
            out[done : done + len(block)] = torch.from_numpy(block)
            done += len(block)
            task.advance(len(block))
    return out


def labelled(store: ImageStore, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A store's labelled pictures and their labels; with a limit, the first so many of them.

    Raises:
        BadInput: none has a label.
    """
    positions = np.flatnonzero(store.labels >= 0)[:limit]
    if len(positions) == 0:
        raise BadInput(
            f"{store.path} has no labels, which a probe needs: import from one folder a class, or give a label column"
        )
    return store[positions], store.labels[positions]
