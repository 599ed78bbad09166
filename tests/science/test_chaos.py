"""Asynchronous training under fire: processes killed at random moments, dozens of times, and what is left of it.

Every minibatch leaves a mark of its own (tests/marking.py), and replicas write down what they learn from: so of each it is
known how often it was learned from and how often it was applied. What is asserted holds whichever moments are hit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import crews
import marking
from striate.cluster.replica import Pace
from striate.draws import generator

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from fire import Fire, burn

pytestmark = pytest.mark.science

STEPS, STEP_S, SHARDS = 4000, 0.01, 2


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """Its processes find the learners of `crews` and `marking`."""
    with crews.engine() as connected:
        yield connected


class Burned:
    """A run of marks under fire, and what became of it."""

    def __init__(self, ray: ModuleType, folder: Path, whats: Sequence[str], **crew: Any) -> None:
        random = generator(0, f"chaos {len(whats)} {sorted(set(whats))}")
        made = marking.fleet(ray, crews.crew(folder, replicas=3, shards=SHARDS, **crew), STEPS, folder / "log", STEP_S)
        self.fire = Fire(ray, made, [str(what) for what in random.permutation(list(whats))], random)
        moments = sorted(random.integers(STEPS // 20, STEPS * 9 // 10, len(whats)).tolist())
        self.longest_s = burn(made, self.fire, STEPS, moments)
        self.marks, self.told = marking.Marks(ray, made, folder / "log"), made.counted()
        made.close()
        back = [kill.back_s for kill in self.fire.kills if kill.back_s is not None]
        print(f"{dict(self.fire.killed)}, back in {max(back):.1f} s at most, longest step {self.longest_s:.1f} s: {self.told}")

    def check(self, least: int) -> None:
        """The run has ended (how soon things come back is for the benchmark `chaos` to say; a hang is the time-out's)."""
        # As many kills as were wanted but for a few for which nobody was left at the end.
        assert sum(self.fire.killed.values()) >= least
        # On a busy machine one more may have been silent for too long.
        assert self.told["replicas_lost"] >= self.fire.killed["replica"]


@pytest.mark.timeout(600)
def test_what_a_killed_replica_had_not_sent_is_learned_from_again(ray: ModuleType, tmp_path: Path) -> None:
    """No shard dies: every minibatch is in every shard, whoever had learned from it and was killed before that was sent."""
    burned = Burned(ray, tmp_path, ["replica"] * 24)
    burned.check(least=20)
    burned.marks.check(burned.told["minibatches_redone"])
    assert burned.told["lost"] == burned.told["repeated"] == 0 and (burned.marks.applied >= 1).all()


@pytest.mark.timeout(600)
def test_what_killed_shards_have_lost_is_counted(ray: ModuleType, tmp_path: Path) -> None:
    """Gaps in what a life left are pushes that were lost with a shard: no gap without a loss, no loss without a minibatch."""
    burned = Burned(ray, tmp_path, ["replica"] * 16 + ["shard"] * 8)
    burned.check(least=20)
    burned.marks.check(burned.told["minibatches_redone"])
    gaps = [_gaps(kept) for shard in range(SHARDS) for kept in burned.marks.kept(shard)]
    # A kill within a few hundredths of a second of a snapshot loses nothing; eight such, once in 10^5 runs.
    assert burned.told["lost"] > 0
    assert sum(gaps) <= burned.told["lost"] <= (burned.marks.learned - burned.marks.applied).sum()


def _gaps(kept: Sequence[bool]) -> int:
    """How often minibatches are not there, though a later one of the same life is."""
    return [there for there, _ in groupby(kept)][:-1].count(False)


@pytest.mark.timeout(600)
def test_rounds_go_on_whoever_is_killed(ray: ModuleType, tmp_path: Path) -> None:
    """Everybody waits for everybody, so a kill that is not noticed would hang them all."""
    burned = Burned(ray, tmp_path, ["replica"] * 6 + ["shard"] * 4, pace=Pace(rounds=True), patience_s=20.0)
    burned.check(least=6)
    marks = burned.marks
    # Each round's marks are divided by how many took part.
    assert (marks.learned >= 1).all() and (marks.applied <= marks.learned + 1e-6).all()
