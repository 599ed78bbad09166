"""Several processes train one model from the command line: one run, one result, one error; killed, frozen, refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs import free_port, rank_environment
from striate.train.checkpoint import read_json
from striate.train.run import read_metrics
from training import RECIPE, clean_server, recipe_file, small_store, striate

# A layer that two processes cannot halve, statistics of bits, deviations that are learned.
SHARED = (
    RECIPE.replace("hidden: 24", "hidden: 25").replace("epochs: 6", "epochs: 4")
    + """
  data_states: true
  final_states: true
  sigma_rate: 0.01
"""
)
STEPS = 300


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, a recipe, and a run of one process."""
    folder = tmp_path_factory.mktemp("shared")
    small_store(folder / "store")
    recipe_file(folder, SHARED)
    done = striate("train", "tiny.yaml", "data.store=store", "--run", "one", "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


class Rank:
    """A program in a process of its own that takes itself for one of several."""

    def __init__(self, arguments: Sequence[object], folder: Path, environment: dict[str, str]) -> None:
        self._said = Path(tempfile.mkdtemp())
        self.process: BaseProcess = clean_server().Process(
            target=_enter, args=([str(one) for one in arguments], folder, self._said, environment)
        )
        self.process.start()

    def end(self, limit_s: float = 60) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        self.process.join(limit_s)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(f"still running after {limit_s} s: {self.error()}")
        assert self.process.exitcode is not None
        return self.process.exitcode, (self._said / "out").read_text(), self.error()

    def error(self) -> str:
        return (self._said / "error").read_text()


def _enter(arguments: list[str], folder: Path, said: Path, environment: dict[str, str]) -> None:
    import training

    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    training._enter(arguments, folder, said)


def ranks(count: int, *arguments: object, folder: Path, each: Sequence[Sequence[object]] = ()) -> list[Rank]:
    """As torchrun would start them; ``each`` process may have arguments of its own besides."""
    port = free_port()
    return [
        Rank([*arguments, *(each[rank] if each else ())], folder, rank_environment(rank, count, port)) for rank in range(count)
    ]


def same_model(one: Path, other: Path, tolerance: float) -> None:
    first, second = (load_file(run / "encoder.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=tolerance, atol=tolerance)


def test_processes_train_the_run_that_one_trains(place: Path) -> None:
    """Launched by --processes; stopped on two, resumed on three, then on one: the end is that of a run never stopped."""
    command = ("train", "tiny.yaml", "data.store=store", "--run", "two", "--processes", 2, "train.epochs=2", "--json")
    begun = striate(*command, "--profile", folder=place)
    assert begun.returncode == 0, begun.stderr
    result = json.loads(begun.stdout)
    assert result["steps"] == STEPS // 2 and result["run"] == "two"
    assert len(result["profile"]) == 2 and all(one["products"] > 0 < one["received_bytes"] for one in result["profile"])
    described = read_json(place / "two" / "run.json")
    assert described["cluster"]["processes"] == 2 and "GFLOP/s" in described["cluster"]["why"]
    assert described["status"] == "done" and (place / "two" / "profile.json").is_file()
    assert sorted(file.name for file in (place / "two" / "snapshots").iterdir()) == [
        f"step-{step:08d}.safetensors" for step in (0, 17, 67, 150)
    ]
    # Of a run that was to be this long, the numbers are those of the longer one's first half but for the schedule.
    short = striate("train", "tiny.yaml", "data.store=store", "--run", "half", "train.epochs=2", folder=place)
    assert short.returncode == 0, short.stderr
    same_model(place / "half", place / "two", 2e-4)
    expected, found = (read_metrics(place / run) for run in ("half", "two"))
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for wanted, line in zip(expected, found):
        assert line["reconstruction_error"] == pytest.approx(wanted["reconstruction_error"], rel=1e-4)


@contextmanager
def stopped_after(place: Path, run: str, job: Sequence[Rank], step: int) -> Iterator[None]:
    """Wait until a run has got so far."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        lines = read_metrics(place / run) if (place / run / "metrics.jsonl").exists() else []
        if lines and lines[-1]["step"] >= step:
            break
        assert all(one.process.is_alive() for one in job), [one.error() for one in job]
        time.sleep(0.02)
    yield


@pytest.mark.parametrize(
    "mode", ["both", *(pytest.param(mode, marks=pytest.mark.science) for mode in ("hidden", "visible", "each-update", "data"))]
)
def test_a_run_goes_on_with_other_numbers_of_processes(place: Path, mode: str) -> None:
    """Interrupted on two, then on four, ended by one."""
    run = f"moving-{mode}"
    job = ranks(2, "train", "tiny.yaml", "data.store=store", f"cluster.mode={mode}", "--run", run, folder=place)
    for count, step in ((2, 40), (4, 120)):
        if count == 4:
            job = ranks(4, "resume", run, folder=place)
        with stopped_after(place, run, job, step):
            # Any of them may be asked; all of them stop.
            os.kill(job[count - 1].process.pid or 0, signal.SIGINT)
        ends = [one.end() for one in job]
        assert {code for code, _, _ in ends} == {130}, ends
        assert "saved" in ends[0][2] and not any(error for _, _, error in ends[1:])
    done = striate("resume", run, folder=place)
    assert done.returncode == 0, done.stderr
    same_model(place / "one", place / run, 2e-4)


@pytest.mark.parametrize("victim", [1, *(pytest.param(rank, marks=pytest.mark.science) for rank in (0, 2))])
def test_a_process_that_is_killed_ends_the_job_with_its_name(place: Path, victim: int) -> None:
    """At a moment of chance's choosing."""
    run = f"killed-{victim}"
    job = ranks(3, "train", "tiny.yaml", "data.store=store", "train.epochs=200", "--run", run, folder=place)
    with stopped_after(place, run, job, random.randrange(7, 200)):
        os.kill(job[victim].process.pid or 0, signal.SIGKILL)
    begun = time.monotonic()
    ends = [one.end() for rank, one in enumerate(job) if rank != victim]
    assert time.monotonic() - begun < 20
    said = [error for _, _, error in ends if error]
    assert {code for code, _, _ in ends} == {1} and len(said) == 1, (victim, ends)
    assert f"process {victim} of 3 was killed" in said[0] or f"process {victim}, at which all others meet" in said[0]
    # What was saved goes on.
    assert (place / run / "run.json").exists()
    (going_on,) = ranks(1, "resume", run, folder=place)
    with stopped_after(place, run, [going_on], 250):
        os.kill(going_on.process.pid or 0, signal.SIGINT)
    code, _, error = going_on.end()
    assert code == 130 and "saved" in error


def launched(place: Path, run: str, *more: str) -> subprocess.Popen[str]:
    """The command as a shell starts it, with two processes, once it has begun to train."""
    command = [sys.executable, "-m", "striate", "train", "tiny.yaml", "data.store=store", "--run", run, "--processes", "2"]
    program = subprocess.Popen([*command, *more], cwd=place, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    until = time.monotonic() + 60
    while not (place / run / "metrics.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.05)
    return program


@pytest.mark.science
def test_a_killed_process_costs_a_restart_and_nothing_else(place: Path) -> None:
    """kill -9 of one of the launcher's processes; it begins them again, from the last checkpoint, and the end is the same."""
    program = launched(place, "again", "train.epochs=10", "--restarts", "1")
    children = children_of(program.pid)
    assert len(children) == 2
    os.kill(random.choice(children), signal.SIGKILL)
    _, error = program.communicate(timeout=120)
    assert program.returncode == 0, error
    assert "killed by SIGKILL" in error and "restart 1 of 1" in error
    alone = striate("train", "tiny.yaml", "data.store=store", "train.epochs=10", "--run", "quiet", folder=place)
    assert alone.returncode == 0, alone.stderr
    assert [line["step"] for line in read_metrics(place / "again")] == [line["step"] for line in read_metrics(place / "quiet")]
    same_model(place / "quiet", place / "again", 5e-3)


@pytest.mark.science
def test_ctrl_c_reaches_all_processes_and_the_message_names_the_run(place: Path) -> None:
    """Not the folder of whichever process was the first to end."""
    for number in range(3):
        program = launched(place, f"asked-{number}", "train.epochs=400")
        program.send_signal(signal.SIGINT)
        _, error = program.communicate(timeout=60)
        assert program.returncode == 130
        assert error.count("striate:") == 1 and f"saved: striate resume asked-{number}\n" in error, error


@pytest.mark.science
def test_processes_whose_launcher_is_killed_save_and_end(place: Path) -> None:
    program = launched(place, "orphans", "train.epochs=400")
    until = time.monotonic() + 60
    children = children_of(program.pid)
    program.kill()
    program.communicate()
    while any(map(runs, children)) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(children) == 2 and not any(map(runs, children))
    assert read_json(place / "orphans" / "run.json")["status"] == "interrupted"


def runs(pid: int) -> bool:
    """Whether a process is there and is more than a name that nobody has asked after."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_process_that_is_stuck_is_named_after_the_time_out(place: Path) -> None:
    job = ranks(
        2, "train", "tiny.yaml", "data.store=store", "train.epochs=200", "cluster.timeout_s=2", "--run", "stuck", folder=place
    )
    with stopped_after(place, "stuck", job, 14):
        os.kill(job[1].process.pid or 0, signal.SIGSTOP)
    code, _, error = job[0].end()
    job[1].process.kill()
    assert code == 1 and "process 1 of 2 was killed, is stuck" in error and "timeout_s is 2" in error, error
    assert error.count("striate:") == 1


@pytest.mark.parametrize(
    ("each", "said"),
    [
        ((("data.store=store",), ("data.store=other",)), "process 1 of 2 has another store of pictures"),
        ((("data.store=store",), ("data.store=store", "train.k=2")), "process 1 of 2 has another recipe"),
        ((("data.store=store",), ("data.store=missing",)), "process 1 of 2: .*missing"),
        ((("data.store=store", "model.hidden=1", "cluster.mode=hidden"),) * 2, "2 processes cannot share 1 hidden units"),
        ((("data.store=store", "model.hidden=1", "train.batch_size=21"),) * 2, "2 processes cannot share 1 hidden and .* nor"),
        ((("data.store=store",), ("data.store=store", "--init", "nowhere")), "process 1 of 2: .*nowhere"),
        ((("data.store=store", "train.centring=true"),) * 2, "train.centring=True is for one process"),
        ((("data.store=store", "train.batch_size=21", "cluster.mode=data"),) * 2, "21 cannot be shared evenly by 2"),
        ((("data.store=store", "model.kind=patch-rbms"),) * 2, "trained by one process; 2 were started"),
    ],
)
def test_what_cannot_work_together_is_refused_at_the_start_once(
    place: Path, tmp_path: Path, each: Sequence[Sequence[str]], said: str
) -> None:
    if not (place / "other").exists():
        small_store(place / "other", 80)
    job = ranks(2, "train", "tiny.yaml", "--run", tmp_path / "run", folder=place, each=each)
    ends = [one.end() for one in job]
    errors = [error for _, _, error in ends if error]
    assert {code for code, _, _ in ends} == {2}, ends
    assert len(errors) == 1 and errors[0].count("\n") == 1
    import re

    assert re.search(said, errors[0]), errors
    assert not (tmp_path / "run" / "run.json").exists()


def test_processes_that_cannot_meet_say_so(place: Path, tmp_path: Path) -> None:
    command = ("train", "tiny.yaml", "data.store=store", "cluster.timeout_s=1.5", "--run", tmp_path / "run")
    # Nobody is there.
    code, _, error = Rank(command, place, rank_environment(1, 2, free_port())).end()
    assert code == 2 and "found nobody at 127.0.0.1" in error and error.count("\n") == 1, error
    # Somebody else is there.
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, error = Rank(command, place, rank_environment(0, 2, taken.getsockname()[1])).end()
    assert code == 2 and "choose another MASTER_PORT" in error and error.count("\n") == 1, error
    # The first waits for a second that never comes.
    code, _, error = Rank(command, place, rank_environment(0, 2, free_port())).end()
    assert code == 1 and "process 1 of 2" in error and error.count("\n") == 1, error


def test_a_second_layer_and_other_runs_weights_are_shared_too(place: Path) -> None:
    """A deep belief net's upper layer, on activities that every process works out from its own pictures; --init for all."""
    base = ("train", "tiny.yaml", "data.store=store", "train.epochs=1", "train.sigma_rate=0", "--run")
    whole = ("preprocess.patch=null", "model.hidden=17")
    above = ("preprocess.patch=null", "model.below=low", "model.visible=bernoulli", "model.hidden=11")
    for run, more, count in (
        ("low", whole, 1),
        ("high-1", above, 1),
        ("high-2", (*above, "cluster.mode=both"), 2),
        ("begun-1", (*whole, "--init", "low"), 1),
        ("begun-2", (*whole, "--init", "low", "cluster.mode=visible"), 2),
    ):
        ends = [one.end() for one in ranks(count, *base, run, *more, folder=place)]
        assert [code for code, _, _ in ends] == [0] * count, ends
    same_model(place / "high-1", place / "high-2", 2e-4)
    same_model(place / "begun-1", place / "begun-2", 2e-4)
    assert len([name for name in load_file(place / "high-2" / "encoder.safetensors") if name.endswith("weights")]) == 2
    refused = ranks(2, *base, "bad", "preprocess.patch=null", "model.hidden=18", "--init", "low", folder=place)
    ends = [one.end() for one in refused]
    assert ends[0][0] == 2 and "--init low: its weights has shape (17," in ends[0][2]


def test_a_machine_that_does_not_see_the_run_is_sent_it(place: Path, tmp_path: Path) -> None:
    """Resumed where the second process knows no folder of that name; it leaves nothing behind there."""
    command = ("train", "tiny.yaml", "data.store=store", "train.epochs=40", "cluster.mode=both", "--run", "here")
    job = ranks(2, *command, folder=place)
    with stopped_after(place, "here", job, 14):
        os.kill(job[0].process.pid or 0, signal.SIGINT)
    assert [one.end()[0] for one in job] == [130, 130]
    step = read_json(place / "here" / "run.json")["steps"]
    job = ranks(2, "resume", folder=place, each=[["here"], [tmp_path / "nowhere"]])
    with stopped_after(place, "here", job, step + 30):
        os.kill(job[1].process.pid or 0, signal.SIGTERM)
    ends = [one.end() for one in job]
    assert [code for code, _, _ in ends] == [130, 130] and f"going on from step {step}" in ends[0][1]
    assert not (tmp_path / "nowhere").exists()


def test_a_number_of_processes_is_a_number(place: Path) -> None:
    done = striate("train", "tiny.yaml", "--processes", "none", folder=place)
    assert done.returncode == 2 and "expected a number of processes" in done.stderr
    # Abbreviated, it is understood, and not by the processes that it starts.
    done = striate("train", "tiny.yaml", "data.store=missing", "--proc", "2", folder=place)
    assert done.returncode == 2 and done.stderr.count("striate:") == 1 and "missing" in done.stderr


def test_double_precision_and_a_profile_work_in_one_process(place: Path) -> None:
    command = ("train", "tiny.yaml", "data.store=store", "train.dtype=fp64", "train.epochs=1", "--run", "double", "--json")
    done = striate(*command, "--profile", folder=place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["profile"][0]["received_bytes"] == 0
    newest = max((place / "double" / "checkpoints").glob("*.safetensors"))
    assert load_file(newest)["weights"].dtype == torch.float64
    refused = striate("train", "krizhevsky2012/cifar-80sec", "data.store=store", "train.dtype=fp64", folder=place)
    assert refused.returncode == 2 and "fp64 is for model.kind=rbm" in refused.stderr
