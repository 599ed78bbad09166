"""A net's answers on test pictures, from one view or several, of one net or a mixture; kept as Parquet."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from striate.app.load import load, load_model
from striate.app.screen import Screen
from striate.errors import BadInput
from striate.files import write_whole
from striate.images import ImageStore
from striate.measure.answers import in_order_of, judge_answers, mixture, tuned_weights
from striate.measure.views import Kind, average_views, views_of
from striate.models.convnet.trained import ConvNetEncoder

_AT_ONCE = 256


def answer(
    runs: list[Path],
    test: ImageStore,
    screen: Screen,
    views: Kind = "centre",
    tune: ImageStore | None = None,
    save: Path | None = None,
) -> dict[str, Any]:
    """Top-1 and top-5 errors of a net, or of the mixture of several.

    Args:
        runs: finished convolutional nets.
        test: labelled pictures.
        screen: where progress goes.
        views: `centre`, `ten` or `nine`.
        tune: other labelled pictures, to choose the mixture's weights on; None mixes evenly.
        save: a Parquet file for the probabilities.

    Raises:
        BadInput: a run is no convolutional net, or the pictures do not fit it.
    """
    positions = np.flatnonzero(test.labels >= 0)
    if len(positions) == 0:
        raise BadInput(f"{test.path} has no labels to judge answers by")
    labels = torch.from_numpy(test.labels[positions])
    found = [probabilities_of(run, test, positions, views, screen) for run in runs]
    weights = None
    if tune is not None:
        if tune.digest == test.digest:
            screen.warn("the weights are tuned on the very pictures that are reported: the error will look too good")
        at = np.flatnonzero(tune.labels >= 0)
        held = [probabilities_of(run, tune, at, views, screen) for run in runs]
        weights = tuned_weights(held, torch.from_numpy(tune.labels[at]))
    mixed = mixture(found, weights)
    protocol = f"{views} view{'s' if views != 'centre' else ''}, probabilities averaged, ties shared, NaN wrong"
    result = {"runs": [str(run) for run in runs], "weights": weights, "protocol": protocol, **_rounded(mixed, labels)}
    if len(runs) > 1:
        result["each"] = [_rounded(one, labels) for one in found]
    if save is not None:
        _save(save, test, positions, mixed, protocol, runs)
        result["predictions"] = str(save)
    return result


def _rounded(probabilities: Tensor, labels: Tensor) -> dict[str, Any]:
    found = asdict(judge_answers(probabilities, labels))
    top = {f"top{k}_error": round(error, 4) for k, error in found.pop("top").items()}
    return {**top, **{name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}}


def probabilities_of(run: Path, store: ImageStore, positions: np.ndarray, views: Kind, screen: Screen) -> Tensor:
    """Probabilities (n, classes) of pictures of a store, classes in the store's order where both name theirs."""
    encoder = load(run, store.shape)
    if not isinstance(encoder, ConvNetEncoder):
        raise BadInput(f"{run} is no convolutional net: views are for those; probe it with --train instead")
    if encoder.image_shape != store.shape:
        raise BadInput(f"{run} was trained on pictures {encoder.image_shape}, {store.path} holds {store.shape}")
    crop = encoder.spec.input[1]
    wanted = views_of(views, store.shape[1:], crop)
    parts = []
    with screen.progress(
        f"answering from {len(wanted)} view{'s' if len(wanted) > 1 else ''}", len(positions), "pictures"
    ) as task:
        for start in range(0, len(positions), _AT_ONCE):
            pictures = store[positions[start : start + _AT_ONCE]]
            parts.append(average_views(lambda crops: encoder.encode_crops(crops, ["logits"])["logits"], pictures, wanted, crop))
            task.advance(len(pictures))
    names = load_model(run).description.get("class_names", [])
    return in_order_of(torch.cat(parts), names, store.class_names)


def _save(file: Path, store: ImageStore, positions: np.ndarray, probabilities: Tensor, protocol: str, runs: list[Path]) -> None:
    """Keys, labels and probabilities, with how they were made in the file's metadata."""
    keys = store.keys
    values = pa.FixedSizeListArray.from_arrays(pa.array(probabilities.numpy().ravel()), probabilities.shape[1])
    table = pa.table(
        {
            "key": pa.array([keys[position] for position in positions]),
            "label": pa.array(store.labels[positions]),
            "probabilities": values,
        }
    )
    about = {"protocol": protocol, "runs": [str(run) for run in runs], "class_names": store.class_names}
    file.parent.mkdir(parents=True, exist_ok=True)
    table = table.replace_schema_metadata({"striate": json.dumps(about)})
    write_whole(file, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
