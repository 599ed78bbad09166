"""What a replica is told, and what it makes of that in its own process: the experiment as the driver has it.

Recipe, model, preprocessing and the learner's state travel; prepared rows lie in shared memory, or are streamed from pictures
that the replica's own machine has.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from striate.app.alike import check_here
from striate.app.build import Experiment, Resumed, build
from striate.app.load import Parts, TrainedModel, load_model
from striate.app.recipe import Recipe, check_recipe
from striate.app.yaml import read_yaml
from striate.cluster.asynchronous.actors import Workbench
from striate.cluster.asynchronous.crew import Crew
from striate.cluster.own_places import OwnPlaces
from striate.cluster.parallel import Share
from striate.cluster.shards import as_tensor
from striate.cluster.tiled import TiledLearner
from striate.models.sparse.trained import TrainedSparseNet
from striate.preprocess import Preprocessor
from striate.train import MemoryRows, Run
from striate.train.checkpoint import read_json
from striate.train.sparse import SparseLearner

_PREPROCESSING, _MODEL = ("preprocessor.json", "preprocessor.safetensors"), "encoder.safetensors"


@dataclass(frozen=True)
class Ticket:
    """Everything a replica is told.

    Attributes:
        recipe: resolved.
        files: of the run, by name.
        streamed: whether rows are read from the store.
        state: the learner's; in memory that the processes of a machine share.
        threads: of a process.
        facts: what must be the same there, see `striate.app.alike`.
        network: for a replica of several processes: its shapes. The model's file is none of theirs: no process is to hold a
            second whole model, if only for a moment.
    """

    recipe: dict[str, Any]
    files: dict[str, bytes]
    streamed: bool
    state: dict[str, np.ndarray]
    threads: int
    facts: dict[str, str]
    network: TrainedSparseNet | None = None


def ticket_of(experiment: Experiment, run: Run, state: Mapping[str, Tensor], crew: Crew, known: dict[str, str]) -> Ticket:
    """For replicas of an experiment that begin in a learner's state, on machines of which some facts are to be alike."""
    recipe = read_yaml(run.path / "recipe.yaml")
    recipe["data"]["store"] = str(experiment.store.path.resolve())
    learner, network = experiment.subject.learner, None
    if crew.processes > 1:
        assert isinstance(learner, SparseLearner)
        network = TrainedSparseNet(learner.net.spec, {}, learner.net.tied_decoder, learner.net.pool_floor)
    names = _PREPROCESSING if network is not None else (*_PREPROCESSING, _MODEL)
    files = {name: (run.path / name).read_bytes() for name in names}
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}
    return Ticket(recipe, files, experiment.streamed, arrays, crew.job.threads, known, network)


def bring(ticket: Ticket, rows: np.ndarray | None, share: Share | None = None) -> Workbench:
    """In a replica's process: the experiment in the state that the driver's was in; of several, this one's places.

    Raises:
        BadInput: that machine has other pictures, or other versions.
    """
    recipe = check_recipe(ticket.recipe, "the driver's recipe")
    check_here(recipe, ticket.facts)
    if recipe.train.workers is None:
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"workers": ticket.threads})})
    prepared = None if rows is None else MemoryRows(as_tensor(rows))
    experiment = build(recipe, lambda line: None, _resumed(ticket, recipe), share, rows=prepared)
    learner = experiment.subject.learner
    if share is None:
        learner.load_state({name: torch.from_numpy(array.copy()) for name, array in ticket.state.items()})
        return Workbench(learner, experiment.batches.at)
    assert isinstance(learner, TiledLearner)
    learner.load_state({name: as_tensor(array) for name, array in ticket.state.items()})
    return Workbench(OwnPlaces(learner), experiment.batches.at)


def _resumed(ticket: Ticket, recipe: Recipe) -> Resumed:
    folder = Path(tempfile.mkdtemp(prefix="striate-replica-"))
    try:
        for name, content in ticket.files.items():
            (folder / name).write_bytes(content)
        fitted = Preprocessor.restore(*_read(folder))
        if ticket.network is None:
            return Resumed(load_model(folder), fitted, ticket.streamed)
    finally:
        shutil.rmtree(folder)
    network = replace(ticket.network, state={name: as_tensor(array) for name, array in ticket.state.items()})
    model = TrainedModel(Parts(sparse=network), fitted, network.spec.input, {"name": recipe.name})
    return Resumed(model, fitted, ticket.streamed)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    described, tensors = (folder / name for name in _PREPROCESSING)
    return read_json(described), load_file(tensors)
