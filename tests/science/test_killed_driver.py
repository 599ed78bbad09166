"""Runs of replicas whose driver is killed again and again, as real commands: they end, learn as others do, leave nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from processes import Process, alive, below
from striate.draws import generator
from striate.train.checkpoint import CheckpointFolder
from striate.train.run import read_metrics
from training import recipe_file, small_store, start, striate

pytestmark = pytest.mark.science

KILLS, EPOCHS, STEPS = 4, 60, 4500
# A killed driver's processes of Ray's end with it, but for two that try for a minute to tell a server that is gone.
_GONE_S = 90.0


class Killed:
    """A run whose driver dies as often as is wanted.

    Attributes:
        processes: that its drivers had begun when they died.
        shared: files in shared memory that would outlive them.
        reached: the newest checkpoint at each death.
    """

    def __init__(self, place: Path, kills: int) -> None:
        self.run, self._place, self._random = place / "killed", place, generator(0, "killed driver")
        self.processes: list[Process] = []
        self.shared: list[str] = []
        self.reached: list[int] = []
        for number in range(kills):
            self._sit(number)

    def _sit(self, number: int) -> None:
        """A sitting, and its end: at any moment from its first, or soon after it has saved something."""
        said = self._place / f"said{number}"
        said.mkdir()
        before = self._newest()
        driver = start(*(_train(self._place, self.run) if number == 0 else ("resume", self.run, "--replicas", 2)), said=said)
        if number % 2:
            time.sleep(8 * self._random.random())
        else:
            until = time.monotonic() + 100
            while self._newest() <= before and time.monotonic() < until:
                assert driver.is_alive(), (said / "error").read_text()
                time.sleep(0.05)
            time.sleep(self._random.random())
        self._kill(driver)
        self.reached.append(self._newest())

    def _newest(self) -> int:
        return max(CheckpointFolder(self.run / "checkpoints").steps(), default=0)

    def _kill(self, driver: BaseProcess) -> None:
        assert driver.pid is not None
        begun = below(driver.pid)
        self.processes += begun
        self.shared += [file for one in begun for file in one.shared()]
        driver.kill()
        driver.join()


def _train(place: Path, run: Path) -> tuple[object, ...]:
    longer = (f"train.epochs={EPOCHS}", "train.log_every=10", "train.checkpoint_every_s=0.5", "cluster.exchange.shards=2")
    return "train", place / "tiny.yaml", f"data.store={place / 'store'}", *longer, "--run", run, "--replicas", 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store and a recipe."""
    root = tmp_path_factory.mktemp("drivers")
    small_store(root / "store")
    recipe_file(root)
    yield root


def _late_error(run: Path) -> float:
    """Over the last third of the run, where the curve is flat."""
    return float(np.mean([line["reconstruction_error"] for line in read_metrics(run) if line["step"] > STEPS * 2 // 3]))


def _left(run: Path) -> set[str]:
    """What a run leaves, but for TensorBoard's files, of which every sitting writes one."""
    return {one.name for one in run.iterdir() if not one.name.startswith("events.")}


@pytest.mark.timeout(900)
def test_a_driver_that_is_killed_again_and_again_is_resumed_to_the_end(place: Path) -> None:
    """Its curves have every line once, and end where those of an undisturbed run end."""
    killed = Killed(place, KILLS)
    done = striate("resume", killed.run, "--replicas", 2, limit_s=300)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert killed.reached == sorted(killed.reached) and killed.reached[0] > 0
    steps = [line["step"] for line in read_metrics(killed.run)]
    assert steps == list(range(10, STEPS + 1, 10))
    calm = place / "calm"
    assert striate(*_train(place, calm), limit_s=300).returncode == 0
    ours, theirs = _late_error(killed.run), _late_error(calm)
    print(f"killed at {killed.reached}: error {ours:.5f}, undisturbed {theirs:.5f}")
    assert abs(ours / theirs - 1) < 0.02
    assert _left(killed.run) == _left(calm)
    until = time.monotonic() + _GONE_S
    while (left := alive(killed.processes)) and time.monotonic() < until:
        time.sleep(0.5)
    assert not [one.name for one in left] and killed.processes and not killed.shared
