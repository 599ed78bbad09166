"""Imagined machines beside processes: the loss that real replicas come to."""

from __future__ import annotations

from pathlib import Path

import pytest

import crews
import racing
from striate.cluster.asynchronous.fleet import Fleet
from striate.cluster.replica import Pace
from striate.cluster.virtual import Machines, Team, train
from striate.train.sparse import SparseLearner

STEPS, WARM = 120, 10


def really(ray: object, folder: Path, replicas: int, every: int) -> float:
    """The loss at the end of a run of processes."""
    pace = Pace(every, every, ahead="adagrad")
    crew = crews.crew(
        folder, replicas=replicas, shards=2, rule="adagrad", pace=pace, warm_start_steps=WARM if replicas > 1 else 0
    )
    whole = racing.learner()
    fleet = Fleet(whole, crew, ray, racing.bring, dict, None, STEPS, 8, lambda line: None)  # type: ignore[arg-type]
    fleet.load_state(whole.state())
    crews.run(fleet, STEPS)
    fleet.close()
    return racing.loss(whole)


def imagined(replicas: int, every: int, seed: int) -> float:
    """The same on machines with messages of a fiftieth of a step."""
    pace = Pace(every, every, ahead="adagrad")
    team = Team(replicas, "adagrad", pace, shards=2, warm_start_steps=WARM if replicas > 1 else 0)
    course = train(
        team, Machines(1.0, jitter=0.2, latency_s=0.01, update_s=0.01), racing.learner, racing.batch, STEPS, racing.loss, STEPS,
        seed,
    )  # fmt: skip
    return course.looks[-1].value


def plainly() -> float:
    """One process, no replicas."""
    alone: SparseLearner = racing.learner()
    for step in range(STEPS):
        alone.step(racing.batch(step))
    return racing.loss(alone)


@pytest.mark.science
@pytest.mark.timeout(900)
@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("replicas", [1, 2])
def test_real_replicas_come_to_the_loss_that_imagined_ones_do(tmp_path: Path, replicas: int, every: int) -> None:
    """Three runs of each, from the same start on the same minibatches: as near as those of one kind are to one another.

    Spreads are of three runs; a tenth of what was learned is allowed beside them. One at every step is plain training.
    """
    begun = racing.loss(racing.learner())
    with crews.engine() as ray:
        real = [really(ray, tmp_path / f"{number}", replicas, every) for number in range(3)]
    virtual = [imagined(replicas, every, seed) for seed in range(3)]
    spread = max(real) - min(real) + max(virtual) - min(virtual)
    apart = abs(sum(real) - sum(virtual)) / 3
    learned = begun - plainly()
    print(f"replicas {replicas} every {every}: real {real} virtual {virtual} begun {begun} learned {learned}")
    assert learned > 0.3 * begun
    assert apart <= spread + 0.1 * learned
    if replicas == 1 and every == 1:
        assert virtual[0] == pytest.approx(plainly(), rel=0.01)
