"""`striate train` and `striate resume`: a run killed, stopped or starved of disk ends in the same bits as one left alone."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import striate as package
from striate.app.load import load_model
from striate.app.training import _recorded
from striate.errors import StriateError
from striate.images import ImageStore
from striate.train import Run
from striate.train.run import read_metrics
from training import RECIPE, TOTAL_STEPS, recipe_file, small_store, start, striate


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and a recipe."""
    root = tmp_path_factory.mktemp("train")
    small_store(root / "store")
    recipe_file(root)
    return root


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The run that nothing interrupted."""
    done = striate("train", place / "tiny.yaml", f"data.store={place / 'store'}", "--run", place / "whole", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == TOTAL_STEPS
    return place / "whole"


def _status(run: Path) -> str:
    return json.loads((run / "run.json").read_text())["status"]


def _metrics(run: Path) -> list[dict[str, float]]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in read_metrics(run)]


def _assert_same_run(run: Path, reference: Path) -> None:
    """Parameters, momentum, metrics, model and snapshots, to the last bit."""
    newest = f"checkpoints/step-{TOTAL_STEPS:08d}.safetensors"
    names = [newest, "encoder.safetensors", *(f"snapshots/{file.name}" for file in (reference / "snapshots").iterdir())]
    for name in names:
        ours, theirs = load_file(run / name), load_file(reference / name)
        assert set(ours) == set(theirs)
        for tensor in theirs:
            assert torch.equal(ours[tensor], theirs[tensor]), f"{name}: {tensor}"
    assert _metrics(run) == _metrics(reference)
    assert _status(run) == "done"


def test_a_run_leaves_everything_that_it_promises(whole: Path, place: Path) -> None:
    found = {file.name for file in whole.iterdir()}
    assert {"recipe.yaml", "run.json", "metrics.jsonl", "log.txt", "checkpoints", "snapshots", "encoder.safetensors"} <= found
    assert any(name.startswith("events.out.tfevents") for name in found)
    described = json.loads((whole / "run.json").read_text())
    assert described["status"] == "done" and described["store_digest"] == ImageStore(place / "store").digest
    assert described["striate"] == package.__version__ and "train" in described["command"]
    steps = [line["step"] for line in read_metrics(whole)]
    assert steps == [*range(7, TOTAL_STEPS, 7), TOTAL_STEPS]
    assert len(list((whole / "checkpoints").glob("*.json"))) == 2
    assert len(list((whole / "snapshots").iterdir())) == 4
    assert not list(whole.rglob("*.tmp"))


def test_training_learns(whole: Path) -> None:
    """Whitened data have variance 1, so a model that knows nothing errs by 1: a tenth of it is explained at the end."""
    errors = [line["reconstruction_error"] for line in read_metrics(whole)]
    assert sum(errors[:3]) / 3 > 0.95 and sum(errors[-5:]) / 5 < 0.9


def test_the_model_encodes_pictures(whole: Path, place: Path) -> None:
    encoder = package.load(whole)
    store = ImageStore(place / "store")
    features = encoder.encode(store[:10])[encoder.layers[-1]]
    assert features.shape == (10, encoder.dims[encoder.layers[-1]]) and torch.isfinite(features).all()


def test_killed_at_random_moments_and_resumed_the_run_is_the_same_to_the_last_bit(
    whole: Path, place: Path, tmp_path: Path
) -> None:
    """kill -9 eight times or more over several runs, from before the first file to the end of training."""
    draw = random.Random(0)

    def killed_after(run: Path, seconds: float) -> bool:
        if (run / "run.json").exists():
            process = start("resume", run, said=tmp_path)
        else:
            process = start("train", place / "tiny.yaml", f"data.store={place / 'store'}", "--run", run, said=tmp_path)
        process.join(seconds)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode != 0

    killed_after(tmp_path / "warm-up", 60)
    started = time.monotonic()
    assert not killed_after(tmp_path / "timing", 60)
    length, kills, number, resumed = time.monotonic() - started, 0, 0, 0
    while kills < 8:
        run = tmp_path / f"run{number}"
        while killed_after(run, draw.uniform(0.05, 0.8) * length):
            kills += 1
            resumed += (run / "run.json").exists()
        _assert_same_run(run, whole)
        number += 1
        assert number < 60, "the runs are over before they can be killed"
    assert resumed >= 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_saves_says_how_to_go_on_and_exits_130(
    whole: Path, place: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    arguments = ["train", place / "tiny.yaml", f"data.store={place / 'store'}", "--run", run]
    process = start(*arguments, said=tmp_path)
    while len(read_metrics(run)) < 3 and process.is_alive():
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(60)
    said = (tmp_path / "error").read_text()
    assert process.exitcode == 130, said
    stopped = re.search(rf"stopped at step (\d+) of {TOTAL_STEPS}, saved: striate resume {re.escape(str(run))}$", said, re.M)
    assert stopped is not None and _status(run) == "interrupted"
    resumed = striate("resume", run)
    assert resumed.returncode == 0 and f"going on from step {stopped[1]} of {TOTAL_STEPS}" in resumed.stdout
    _assert_same_run(run, whole)


def test_streamed_and_resumed_is_the_same_too(place: Path, tmp_path: Path) -> None:
    """Whole pictures from disk (memory_gb nearly nothing); the second half after a stop at a torn metrics file."""
    arguments = ("train", place / "tiny.yaml", f"data.store={place / 'store'}", "preprocess.patch=null", "train.memory_gb=1e-9")
    first = striate(*arguments, "train.epochs=2", "--run", tmp_path / "a", "--json")
    assert first.returncode == 0 and json.loads((tmp_path / "a" / "run.json").read_text())["streamed"] is True
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    checkpoints = sorted((tmp_path / "b" / "checkpoints").iterdir())
    for file in checkpoints[-2:]:
        file.unlink()
    (tmp_path / "b" / "metrics.jsonl").write_bytes((tmp_path / "a" / "metrics.jsonl").read_bytes()[:-20])
    resumed = striate("resume", tmp_path / "b", "--json")
    assert resumed.returncode == 0 and "streamed from disk" in resumed.stderr
    for name in ("encoder.safetensors", f"checkpoints/{checkpoints[-1].name}"):
        ours, theirs = load_file(tmp_path / "b" / name), load_file(tmp_path / "a" / name)
        assert all(torch.equal(ours[tensor], theirs[tensor]) for tensor in theirs)
    assert _metrics(tmp_path / "b") == _metrics(tmp_path / "a")


def test_a_finished_run_resumes_to_itself(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    again = striate("resume", tmp_path / "run", "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["steps"] == TOTAL_STEPS
    _assert_same_run(tmp_path / "run", whole)


def test_a_damaged_newest_checkpoint_is_told_and_passed_over(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / f"step-{TOTAL_STEPS:08d}.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    resumed = striate("resume", tmp_path / "run")
    assert resumed.returncode == 0 and f"step {TOTAL_STEPS} is damaged" in resumed.stderr
    _assert_same_run(tmp_path / "run", whole)


def test_changed_pictures_are_refused_and_moved_ones_are_found(whole: Path, place: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    small_store(tmp_path / "other", 100)
    refused = striate("resume", tmp_path / "run", "--store", tmp_path / "other")
    assert refused.returncode == 2 and "has changed since this run began" in refused.stderr and "--init" in refused.stderr
    shutil.copytree(place / "store", tmp_path / "moved")
    assert striate("resume", tmp_path / "run", "--store", tmp_path / "moved").returncode == 0
    gone = striate("resume", tmp_path / "run", "--store", tmp_path / "absent")
    assert gone.returncode == 2 and gone.stderr.count("\n") == 1
    _assert_same_run(tmp_path / "run", whole)


def test_a_run_is_resumed_from_any_folder(place: Path, tmp_path: Path) -> None:
    """The store was named relative to the folder that training began in."""
    arguments = ("train", "tiny.yaml", "data.store=store", "train.epochs=1", "--run", tmp_path)
    assert striate(*arguments, folder=place).returncode == 0
    assert striate("resume", tmp_path, folder=tmp_path).returncode == 0


def test_what_auto_chose_is_kept_for_the_resumed_run(whole: Path, place: Path, tmp_path: Path) -> None:
    arguments = ("train", place / "tiny.yaml", f"data.store={place / 'store'}", "train.dtype=auto", "train.epochs=0.1")
    assert striate(*arguments, "--run", tmp_path / "run").returncode == 0
    assert re.search(r"dtype: (fp32|bf16)$", (tmp_path / "run" / "recipe.yaml").read_text(), re.M)


def test_a_full_disk_ends_in_one_line_and_with_room_the_run_goes_on(
    whole: Path, place: Path, small_disk: Path, tmp_path: Path
) -> None:
    """A real file system, filled by a stranger while training runs."""
    run = small_disk / "run"
    arguments = ["train", place / "tiny.yaml", f"data.store={place / 'store'}", "--run", run]
    process = start(*arguments, said=tmp_path)
    while len(read_metrics(run)) < 3 and process.is_alive():
        time.sleep(0.005)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while process.is_alive():
            try:
                file.write(bytes(4096))
            except OSError:
                time.sleep(0.005)
    said = (tmp_path / "error").read_text()
    lines = [line for line in said.splitlines() if line.startswith("striate:")]
    assert process.exitcode == 1 and "Traceback" not in said, said
    assert len(lines) == 1 and "the disk is full" in lines[0] and "make room" in lines[0]
    filler.unlink()
    assert striate("resume", run).returncode == 0
    _assert_same_run(run, whole)


def test_a_disk_that_fills_while_anything_is_written_is_named_and_recorded(tmp_path: Path) -> None:
    """Metrics, figures, events: whatever ran into the end of the disk."""
    run = Run(tmp_path / "run")
    with pytest.raises(StriateError, match="the disk is full"), _recorded(run, None):  # type: ignore[arg-type]
        raise OSError(errno.ENOSPC, "No space left on device")
    assert _status(run.path) == "failed"
    with pytest.raises(OSError, match="Is a directory"), _recorded(run, None):  # type: ignore[arg-type]
        raise OSError(errno.EISDIR, "Is a directory")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MiB; skipped where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_run_that_blows_up_exits_1_with_the_remedy_and_keeps_its_checkpoint(place: Path, tmp_path: Path) -> None:
    arguments = ("train", place / "tiny.yaml", f"data.store={place / 'store'}", "train.learning_rate=1e6")
    failed = striate(*arguments, "--run", tmp_path / "run")
    assert failed.returncode == 1
    assert "lower train.learning_rate" in failed.stderr and "checkpoint of step" in failed.stderr
    assert failed.stderr.count("\n") == 1 and _status(tmp_path / "run") == "failed"
    model = load_model(tmp_path / "run")
    assert torch.isfinite(model.rbm.weights).all()


def test_two_processes_never_train_one_run(whole: Path, tmp_path: Path) -> None:
    import fcntl

    shutil.copytree(whole, tmp_path / "run")
    with (tmp_path / "run" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = striate("resume", tmp_path / "run")
    assert refused.returncode == 2 and "is being trained by another process" in refused.stderr
    assert striate("resume", tmp_path / "run").returncode == 0


def test_a_run_is_never_begun_twice_in_one_place(whole: Path, place: Path) -> None:
    again = striate("train", place / "tiny.yaml", f"data.store={place / 'store'}", "--run", whole)
    assert again.returncode == 2 and f"striate resume {whole}" in again.stderr
    assert _status(whole) == "done"


def test_init_starts_a_new_run_from_the_weights_of_another(whole: Path, place: Path, tmp_path: Path) -> None:
    """With a rate of nearly nothing the weights stay where they came from; without --init they are others."""
    arguments = (
        "train",
        place / "tiny.yaml",
        f"data.store={place / 'store'}",
        "train.epochs=0.02",
        "train.learning_rate=1e-20",
    )
    assert striate(*arguments, "--run", tmp_path / "a", "--init", whole).returncode == 0
    assert striate(*arguments, "--run", tmp_path / "b").returncode == 0
    known = load_model(whole).rbm.weights
    assert torch.equal(load_model(tmp_path / "a").rbm.weights, known)
    assert not torch.allclose(load_model(tmp_path / "b").rbm.weights, known, atol=0.1)
    misfit = striate(*arguments, "model.hidden=7", "--run", tmp_path / "c", "--init", whole)
    assert misfit.returncode == 2 and "weights has shape (24, 108), this model's is (7, 108)" in misfit.stderr
    assert not (tmp_path / "c").exists()


def test_init_survives_a_kill_before_the_first_step(whole: Path, place: Path, tmp_path: Path) -> None:
    """What is on disk when run.json appears: all but the state before step 0 is taken away, and the run resumed."""
    arguments = (
        "train",
        place / "tiny.yaml",
        f"data.store={place / 'store'}",
        "train.epochs=0.02",
        "train.learning_rate=1e-20",
    )
    assert striate(*arguments, "train.keep=9", "--run", tmp_path / "a", "--init", whole).returncode == 0
    for file in (tmp_path / "a" / "checkpoints").iterdir():
        if not file.name.startswith("step-00000000"):
            file.unlink()
    assert [file.stem for file in (tmp_path / "a" / "checkpoints").glob("*.json")] == ["step-00000000"]
    assert striate("resume", tmp_path / "a").returncode == 0
    assert torch.equal(load_model(tmp_path / "a").rbm.weights, load_model(whole).rbm.weights)


def test_a_model_started_from_patches_resumes_without_training_the_patch_model_again(place: Path, tmp_path: Path) -> None:
    start = "model.start={patch: 6, stride: 5, hidden: 8, patches: 500, epochs: 1}"
    arguments = (
        "train",
        place / "tiny.yaml",
        f"data.store={place / 'store'}",
        "preprocess.patch=null",
        "train.epochs=1",
        start,
    )
    first = striate(*arguments, "--run", tmp_path / "run")
    assert first.returncode == 0 and "starting from 8 units" in first.stdout
    resumed = striate("resume", tmp_path / "run")
    assert resumed.returncode == 0 and "starting from" not in resumed.stdout


def test_a_misspelt_key_is_one_line_and_leaves_nothing_behind(place: Path, tmp_path: Path) -> None:
    answer = striate("train", place / "tiny.yaml", "model.hiden=3", "--run", tmp_path / "run")
    assert answer.returncode == 2 and not (tmp_path / "run").exists()
    assert answer.stderr == "striate: tiny.yaml: unknown key model.hiden; did you mean model.hidden?\n"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.store=", "names no pictures: add data.store=STORE"),
        ("data.store=absent", "absent"),
        ("preprocess.patch=99", "patch"),
        ("train.batch_size=100000", "train.batch_size must be from 1 to the 1500"),
        ("model.visible=bernoulli", "preprocess.kind=scale"),
        ("device=cuda:7", "device"),
        ("device=abacus", "device 'abacus' is unknown"),
        ("preprocess.delete=108", "delete"),
        ("seed=-1", "seed"),
    ],
)
def test_settings_that_do_not_fit_are_one_line_and_leave_no_run(place: Path, tmp_path: Path, override: str, words: str) -> None:
    if override == "device=cuda:7" and torch.cuda.device_count() > 7:
        pytest.skip("this machine has that many GPUs")
    store = f"data.store={place / 'store'}"
    answer = striate("train", place / "tiny.yaml", store, override, "--run", tmp_path / "run")
    assert answer.returncode == 2 and words in answer.stderr and answer.stderr.count("\n") == 1, answer.stderr
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_store_of_another_version_is_one_line(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "store", tmp_path / "s")
    header = json.loads((tmp_path / "s" / "store.json").read_text())
    (tmp_path / "s" / "store.json").write_text(json.dumps({**header, "version": 99}))
    answer = striate("train", place / "tiny.yaml", f"data.store={tmp_path / 's'}", "--run", tmp_path / "run")
    assert answer.returncode == 2 and "version" in answer.stderr and "99" in answer.stderr and answer.stderr.count("\n") == 1


def test_a_model_of_another_version_or_a_damaged_one_is_one_line(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    file = tmp_path / "run" / "encoder.safetensors"
    data = file.read_bytes()
    for damaged, words in (
        (data.replace(b'\\"version\\": 2', b'\\"version\\": 9'), "version 9"),
        (data[:500], "is no model"),
        (b"", "is no model"),
    ):
        assert damaged != data
        file.write_bytes(damaged)
        answer = striate("show", tmp_path / "run", "filters")
        assert answer.returncode == 2 and words in answer.stderr and answer.stderr.count("\n") == 1


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        answer = striate("resume", path)
        assert answer.returncode == 2 and "is no run" in answer.stderr and answer.stderr.count("\n") == 1


def test_dry_run_prints_the_resolved_recipe_and_trains_nothing(place: Path, tmp_path: Path) -> None:
    answer = striate("train", place / "tiny.yaml", "model.hidden=77", "--dry-run", "--run", tmp_path / "run")
    assert answer.returncode == 0 and "hidden: 77" in answer.stdout and not (tmp_path / "run").exists()
    (tmp_path / "again.yaml").write_text(answer.stdout)
    again = striate("train", tmp_path / "again.yaml", "--dry-run")
    assert again.stdout == answer.stdout


def test_the_schema_accepts_the_recipe_and_knows_its_keys() -> None:
    answer = striate("train", "--schema", "--json")
    schema = json.loads(answer.stdout)["schema"]
    assert {"name", "data", "preprocess", "model", "train", "cluster", "eval", "seed"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_the_first_line_says_what_will_run_on_what(place: Path, tmp_path: Path) -> None:
    arguments = ("train", place / "tiny.yaml", f"data.store={place / 'store'}", "train.epochs=0.2")
    answer = striate(*arguments, "--run", tmp_path / "run")
    shape = "108 visible x 24 hidden units, 120 pictures, 1,500 rows, 0.2 epochs = 15 steps of 20"
    assert re.search(rf"tiny: {shape}, \w+ in fp32, \d+ threads", answer.stdout)
    assert re.search(r"about \d+ s of training ahead", answer.stdout)


def test_recipe_of_these_tests_is_what_they_say() -> None:
    """1,500 rows in batches of 20, six times."""
    assert TOTAL_STEPS == 6 * 1500 // 20 and "epochs: 6" in RECIPE
