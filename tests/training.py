"""A small store and trainings in processes of their own, to be killed there. (Processes cannot import the modules of tests.)"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from striate.draws import generator
from striate.images import ArraySource, import_images

# Checkpoints as often as can be, lines of metrics at steps that fall between them.
RECIPE = """
name: tiny
preprocess: {kind: whiten, patch: 6, patches: 1500, epsilon: 1}
model: {hidden: 24, sigma: 0.5, hidden_bias: -2.0}
train:
  epochs: 6
  batch_size: 20
  learning_rate: 1e-2
  momentum_steps: 100
  sparsity_target: 0.1
  log_every: 7
  snapshots: 4
  dtype: fp32
  checkpoint_every_s: 0.05
"""
TOTAL_STEPS = 450

# Stages of filters on pictures of noise, which any grid of processes can share.
STAGES = """
name: stages
preprocess: {kind: standardise, contrast: true}
model:
  kind: sparse
  stages:
    - {size: 5, maps: 4, pool: 2, norm: 3}
    - {size: 4, maps: 4, pool: 2, norm: 0}
train: {epochs: 4, batch_size: 16, learning_rate: 1e-2, schedule: constant, log_every: 4, dtype: fp32}
"""


def small_store(path: Path, count: int = 120, labelled: bool = True) -> Path:
    """Pictures of 16x16 with bars at places of their own; the label says whether they lie or stand."""
    random = generator(0, "small-store")
    images = random.integers(0, 60, (count, 3, 16, 16), dtype=np.uint8)
    for i, image in enumerate(images):
        at = random.integers(0, 14)
        if i % 2:
            image[:, at : at + 2, :] += 150
        else:
            image[:, :, at : at + 2] += 150
    labels = np.arange(count) % 2 if labelled else None
    import_images(ArraySource(images, labels, ["standing", "lying"] if labelled else []), path, workers=1)
    return path


def recipe_file(folder: Path, text: str = RECIPE) -> Path:
    """The recipe above as a file."""
    file = folder / "tiny.yaml"
    file.write_text(text)
    return file


def striate(*arguments: object, folder: Path | None = None, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, forked from one with everything loaded: milliseconds to start, not seconds."""
    with tempfile.TemporaryDirectory() as said:
        process = start(*arguments, folder=folder, said=Path(said))
        process.join(limit_s)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"striate {' '.join(map(str, arguments))} took longer than {limit_s} s")
        out, error = ((Path(said) / name).read_text() for name in ("out", "error"))
    assert process.exitcode is not None
    return subprocess.CompletedProcess(list(arguments), process.exitcode, out, error)


def start(*arguments: object, folder: Path | None = None, said: Path) -> BaseProcess:
    """Begin such a process; what it prints goes to the files `out` and `error` in the folder `said`."""
    process = clean_server().Process(target=_enter, args=([str(argument) for argument in arguments], folder, said))
    process.start()
    return process


def _enter(arguments: list[str], folder: Path | None, said: Path) -> None:
    from striate.app.main import entry

    for number, name in ((1, "out"), (2, "error")):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT), number)
    if folder is not None:
        os.chdir(folder)
    # A forked server ignores Ctrl-C; a program that a shell starts does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["striate", *arguments]
    entry()


def clean_server() -> ForkServerContext:
    """The server that forks them. (There is one for all tests: it loads what the imports' tests want, too.)"""
    # As the program itself does before it loads torch.
    os.environ["TORCH_CPP_LOG_LEVEL"] = "FATAL"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["training", "killing", "striate.app.training", "striate.app.looking", "torch.utils.tensorboard"]
    )
    return context


def stages_of_one(folder: Path) -> None:
    """A store, the recipe of stages as `tiny.yaml`, and the run `one` of one process."""
    pictures = generator(0, "tiled").integers(0, 256, (64, 1, 16, 15), dtype="uint8")
    import_images(ArraySource(pictures, None), folder / "store", workers=1)
    recipe_file(folder, STAGES)
    done = striate("train", "tiny.yaml", "data.store=store", "--run", "one", folder=folder)
    assert done.returncode == 0, done.stderr
