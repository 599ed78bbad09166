"""Which classes are taken for which: predictions of a quick classifier on the features, none of which saw the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from striate.app.classifying import out_of_fold
from striate.app.exploring.answered import whole_number
from striate.app.exploring.jobs import Job
from striate.app.exploring.subject import Subject
from striate.app.features import Features
from striate.app.screen import Screen
from striate.app.web.pictures import data_address, data_uri
from striate.app.web.server import page
from striate.errors import BadInput
from striate.measure.embedding import find_components, project, sample_positions
from striate.measure.intervals import wilson

_SHOWN = 60
_FEWEST = 5
# Beyond so many classes the matrix is one picture.
_MOST_CELLS = 40
# A quick classifier: this many principal components of the features.
_COMPONENTS = 256


@dataclass(frozen=True)
class Confusions:
    """Out-of-fold predictions of labelled pictures.

    Attributes:
        positions: of the labelled pictures in the store, (n,).
        truth: index into `classes`, (n,).
        said: index of the class predicted, (n,).
        probability: of that, (n,).
        classes: labels that occur, with enough pictures each.
    """

    positions: np.ndarray
    truth: np.ndarray
    said: np.ndarray
    probability: np.ndarray
    classes: np.ndarray

    def matrix(self) -> np.ndarray:
        """Counts (classes, classes): rows are the true class."""
        count = len(self.classes)
        return np.bincount(self.truth * count + self.said, minlength=count * count).reshape(count, count)


class ConfusionsPage:
    """Routes of the confusions."""

    def __init__(self, subject: Subject, environment: jinja2.Environment) -> None:
        self._subject, self._templates = subject, environment

    def routes(self) -> list[Route]:
        """The page and what it asks for."""
        return [Route("/confusions", self.confusions), Route("/api/confused", self.confused)]

    def _job(self) -> Job:
        subject = self._subject
        begun = subject.features()
        if not subject.store.labelled:
            raise BadInput("These pictures have no labels: there is nothing to confuse. Label them with `striate label`.")

        def work(screen: Screen) -> Confusions:
            return find_confusions(begun.result, subject.store.labels, screen)

        return subject.jobs.start("confusions", "training a classifier, five times on four fifths", work, begun, "classifier")

    def confusions(self, request: Request) -> Response:
        """The matrix; its cells open their pictures."""
        values: dict[str, Any] = {"why": "", "job": None, "rows": [], "names": [], "accuracy": None, "dense": None}
        try:
            job = self._job()
            if job.state == "done":
                values |= self._matrix(job.result)
            elif job.state == "failed":
                values["why"] = job.error
            else:
                values["job"] = job.told()
        except BadInput as error:
            values["why"] = str(error)
        return page(self._templates, "confusions.html.jinja", here="/confusions", **values)

    def _matrix(self, found: Confusions) -> dict[str, Any]:
        names = [self._subject.class_name(int(label)) for label in found.classes]
        matrix = found.matrix()
        right, total = int(matrix.trace()), int(matrix.sum())
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        off = shares * (1 - np.eye(len(names)))
        worst = max(float(off.max(initial=0)), 1e-9)
        rows = [
            {
                "name": name,
                "cells": [
                    {
                        "count": int(matrix[row, column]),
                        "share": float(shares[row, column]),
                        # Ten depths of colour: those of rights by their share, those of errors beside the worst one.
                        "depth": round(10 * float(shares[row, column] if row == column else shares[row, column] / worst)),
                    }
                    for column in range(len(names))
                ],
            }
            for row, name in enumerate(names)
        ]
        low, high = wilson(right, total)
        pairs = [
            {
                "row": int(row),
                "column": int(column),
                "truth": names[row],
                "said": names[column],
                "share": float(off[row, column]),
            }
            for row, column in (np.unravel_index(at, off.shape) for at in np.argsort(-off, axis=None)[:8])
            if off[row, column] > 0
        ]
        accuracy = {"value": right / total, "low": low, "high": high, "pictures": total}
        dense = data_address(dense_picture(shares)) if len(names) > _MOST_CELLS else None
        return {"rows": [] if dense else rows, "names": names, "accuracy": accuracy, "pairs": pairs, "dense": dense}

    def confused(self, request: Request) -> Response:
        """Pictures of one class that were called another (or the same), surest first."""
        job = self._job()
        if job.state != "done":
            return JSONResponse({"job": job.told()})
        found: Confusions = job.result
        truth, said = (whole_number(request.query_params.get(name), name) for name in ("truth", "said"))
        if max(truth, said) >= len(found.classes):
            raise BadInput(f"there are {len(found.classes)} classes, counted from 0")
        inside = np.flatnonzero((found.truth == truth) & (found.said == said))
        first = inside[np.argsort(-found.probability[inside], kind="stable")][:_SHOWN]
        subject = self._subject
        pictures = [
            {
                **subject.about(int(found.positions[row])),
                "image": data_uri(subject.store, int(found.positions[row])),
                "probability": round(float(found.probability[row]), 4),
            }
            for row in first
        ]
        names = [subject.class_name(int(found.classes[index])) for index in (truth, said)]
        return JSONResponse({"truth": names[0], "said": names[1], "total": len(inside), "pictures": pictures})


def dense_picture(shares: np.ndarray) -> np.ndarray:
    """A matrix of shares as a picture uint8 (3, n, n), white for none: rights green, errors red beside the worst one."""
    right = np.eye(len(shares), dtype=bool)
    worst = max(float(shares[~right].max(initial=0)), 1e-9)
    depth = np.where(right, shares, np.sqrt(shares / worst)).clip(0, 1)[None]
    colour = np.where(right[None], np.array([47, 143, 78])[:, None, None], np.array([192, 73, 47])[:, None, None])
    return np.rint(255 + depth * (colour - 255)).astype(np.uint8)


def find_confusions(features: Features, labels: np.ndarray, screen: Screen) -> Confusions:
    """Predict every labelled picture's class without its label.

    Raises:
        BadInput: fewer than two classes with five pictures each.
    """
    counts = np.bincount(labels[labels >= 0])
    classes = np.flatnonzero(counts >= _FEWEST)
    if len(classes) < 2:
        raise BadInput(f"Confusions need two classes of at least {_FEWEST} labelled pictures each; there are {len(classes)}.")
    positions = np.flatnonzero(np.isin(labels, classes))
    components = find_components(features.take(sample_positions(len(features))), _COMPONENTS)
    rows = np.concatenate(list(project(components, features.rows, len(features))))[positions]
    rows /= max(float(rows.std()), 1e-12)
    truth = np.searchsorted(classes, labels[positions])
    screen.check()
    probabilities = out_of_fold(rows, truth, len(classes))
    said = probabilities.argmax(axis=1)
    return Confusions(positions, truth, said, probabilities[np.arange(len(said)), said], classes)
