"""A small store and trainings in processes of their own, to be killed there. (Processes cannot import the modules of tests.)"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import subprocess
import sys
from multiprocessing.context import ForkServerContext
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
  checkpoint_every_s: 0.02
"""
TOTAL_STEPS = 450


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


def striate(*arguments: object, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
    """The program, as a person runs it."""
    command = [sys.executable, "-m", "striate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)


def quiet(arguments: list[str]) -> None:
    """The program's main function, for a process that is forked with everything loaded; exits with its code."""
    from striate.app.main import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = main(arguments)
    sys.exit(code)


def clean_server() -> ForkServerContext:
    """Processes forked from one that has the modules loaded: starting one takes milliseconds, so many can be killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training", "striate.app.training", "torch.utils.tensorboard"])
    return context
