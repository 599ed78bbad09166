"""Labelled positions to train on, and those held out."""

from __future__ import annotations

import numpy as np

from striate.app.kinds.kind import Prepared
from striate.draws import generator
from striate.errors import BadInput


def split_labelled(prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Positions of labelled pictures to train on, and of those held out, each in order.

    Raises:
        BadInput: patches, no labels, one class, or fewer pictures than a batch.
    """
    train = prepared.recipe.train
    if prepared.labels is None:
        raise BadInput("a net is trained on whole labelled pictures: leave preprocess.patch out")
    if train.patience is not None and not train.validation:
        raise BadInput("train.patience needs pictures to judge by: set train.validation, for example 0.1")
    labelled = np.flatnonzero(prepared.labels.numpy() >= 0)
    if len(labelled) < train.batch_size or prepared.classes < 2:
        raise BadInput(
            f"a net learns from labels: these pictures have {len(labelled):,} in {prepared.classes} classes (a batch has "
            f"{train.batch_size}); import from one folder a class, or give a label column"
        )
    order = generator(prepared.recipe.seed, "validation").permutation(labelled)
    held = int(train.validation * len(order))
    return np.sort(order[held:]), np.sort(order[:held])
