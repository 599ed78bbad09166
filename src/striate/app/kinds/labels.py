"""Labelled positions to train on, and those held out."""

from __future__ import annotations

import numpy as np

from striate.app.kinds.kind import Prepared
from striate.draws import generator
from striate.errors import BadInput

# As many classes as this are believed of any number of pictures.
_MANY = 1000


def split_labelled(prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Positions of labelled pictures to train on, and of those held out, each in order.

    Raises:
        BadInput: patches, no labels, one class, labels that are no classes, or fewer pictures than a batch.
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
    _check_classes(prepared, len(labelled))
    order = generator(prepared.recipe.seed, "validation").permutation(labelled)
    held = int(train.validation * len(order))
    return np.sort(order[held:]), np.sort(order[:held])


def _check_classes(prepared: Prepared, labelled: int) -> None:
    """A label beyond the names is a mistake; without names, so is one far beyond the number of pictures."""
    names = len(prepared.class_names)
    if names and prepared.classes > names:
        raise BadInput(
            f"labels go up to {prepared.classes - 1}, but the pictures' store names {names} classes: import it again"
        )
    if prepared.classes > max(_MANY, labelled):
        raise BadInput(
            f"labels go up to {prepared.classes - 1} for {labelled:,} pictures: are these classes? number them 0, 1, 2, ..."
        )
