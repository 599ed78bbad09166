"""Predictions for a whole store, with probabilities, and abstaining from those one is not sure of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from striate.app.classifier_file import Classifier
from striate.app.features import kept_features
from striate.app.screen import Screen
from striate.errors import BadInput
from striate.files import write_whole
from striate.images import ImageStore
from striate.measure.abstaining import Selective, selective, threshold_for_error

_AT_ONCE = 2048


def abstaining(classifier: Classifier, least: float | None, error: float | None, sure: float = 0.95) -> Selective | None:
    """The least probability that is answered: given, or such that answers err at most so often; None answers everything.

    Raises:
        BadInput: nothing was held out to find it on.
    """
    confidence, right = classifier.held_out
    if error is None:
        return None if least is None else selective(confidence, right, least)
    if len(confidence) == 0:
        raise BadInput(
            "--abstain-error needs labelled pictures held out, and a class of this classifier has one label only: "
            "give more labels, or a least probability with --abstain"
        )
    return threshold_for_error(confidence, right, error, sure)


def predict(
    run: Path, classifier: Classifier, store: ImageStore, out: Path, rule: Selective | None, screen: Screen
) -> dict[str, Any]:
    """Write a row a picture: key, class, probability, abstained, all probabilities; tell how many got an answer.

    Raises:
        BadInput: the classifier is another model's, or that does not fit the pictures.
    """
    features = kept_features(run, store, classifier.about["layer"], screen)
    if features.about["model"] != classifier.about["model"]:
        raise BadInput(
            f"the classifier was learned on the features of {classifier.about['name']} (model {classifier.about['model']}), "
            f"{run} holds model {features.about['model']}: give the run it came from, or learn it again"
        )
    parts = [
        classifier.probabilities(torch.from_numpy(features.rows(start, start + _AT_ONCE)))
        for start in range(0, len(store), _AT_ONCE)
    ]
    probabilities = np.concatenate(parts)
    threshold = rule.threshold if rule else 0.0
    given = probabilities.max(axis=1) >= threshold
    about = {"format": "striate-predictions", "version": 1, "threshold": threshold, "of": store.digest, **classifier.about}
    _write(out, store.keys, probabilities, given, classifier.class_names, about)
    return {
        "predictions": str(out),
        "count": len(store),
        "given": int(given.sum()),
        "coverage": round(float(given.mean()), 4),
        "threshold": round(threshold, 4),
    }


def _write(
    out: Path, keys: list[str], probabilities: np.ndarray, given: np.ndarray, class_names: list[str], about: dict[str, Any]
) -> None:
    best = probabilities.argmax(axis=1)
    table = pa.table(
        {
            "key": keys,
            "class": pa.array([class_names[one] for one in best], pa.string()),
            "probability": probabilities[np.arange(len(best)), best],
            "abstained": ~given,
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), probabilities.shape[1]),
        }
    )
    table = table.replace_schema_metadata({"striate": json.dumps(about)})
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
