"""``--replicas R --processes P``: what each process of a replica holds, and which models can be held so."""

from __future__ import annotations

from typing import Any

from striate.app.build import Experiment
from striate.app.kinds.tiled import chosen_grid
from striate.cluster.by_process import border_bytes, by_process, shards_by_process
from striate.cluster.flat import Flat
from striate.cluster.tiles import Grid
from striate.errors import BadInput
from striate.train.exchanged import Exchanged
from striate.train.sparse import SparseLearner

_PARAMETERS_A_SHARD = 64_000_000


def sections_of(experiment: Experiment, processes: int) -> list[list[Exchanged]] | None:
    """What each process of a replica exchanges, by rank; None where one does everything.

    Raises:
        BadInput: see `gang_grid`.
    """
    if processes == 1:
        return None
    grid, learner = gang_grid(experiment, processes), experiment.subject.learner
    assert isinstance(learner, SparseLearner)
    return by_process(learner, grid)


def gang_grid(experiment: Experiment, processes: int) -> Grid:
    """How the processes of a replica share its places.

    Raises:
        BadInput: this kind of model has none, or the recipe's grid is of another number of processes.
    """
    learner, recipe = experiment.subject.learner, experiment.recipe
    if not isinstance(learner, SparseLearner):
        raise BadInput(
            f"replicas of several processes share the places of model.kind=sparse, found {recipe.model.kind}: give --replicas "
            "or --processes, not both"
        )
    return chosen_grid(recipe.cluster.grid, processes, learner.net.spec)


def gang_bytes(experiment: Experiment, processes: int) -> list[int]:
    """What each process of a replica receives from the others in a step; nothing where there is one."""
    learner = experiment.subject.learner
    if processes == 1 or not isinstance(learner, SparseLearner):
        return []
    return border_bytes(learner, gang_grid(experiment, processes), experiment.recipe.train.batch_size)


def num_shards(experiment: Experiment, processes: int) -> int:
    """As many as the recipe says; else one for every 64 million parameters, and one at least for every process that has any."""
    learner, asked = experiment.subject.learner, experiment.recipe.cluster.exchange.shards
    sections = sections_of(experiment, processes) or [learner.exchanged() if hasattr(learner, "exchanged") else []]
    sizes = _sizes(sections)
    return asked or max(-(-sum(sizes) // _PARAMETERS_A_SHARD), sum(size > 0 for size in sizes))


def check_gang(experiment: Experiment, processes: int) -> None:
    """Refuse what replicas of several processes cannot do.

    Raises:
        BadInput: naming the key.
    """
    sections = sections_of(experiment, processes)
    if sections is not None:
        if experiment.device.type != "cpu":
            raise BadInput(
                f"replicas of several processes compute on processors, found device={experiment.recipe.device} "
                f"({experiment.device}): set device=cpu, or leave --processes out"
            )
        flat = Flat([one for section in sections for one in section])
        shards_by_process(flat, _sizes(sections), num_shards(experiment, processes))


def described(experiment: Experiment, processes: int) -> dict[str, Any]:
    """For the run's record; nothing where replicas are one process each."""
    if processes == 1:
        return {}
    grid = gang_grid(experiment, processes)
    return {"processes_a_replica": grid.count, "grid": [grid.rows, grid.columns]}


def _sizes(sections: list[list[Exchanged]]) -> list[int]:
    return [sum(one.size for one in section) for section in sections]
