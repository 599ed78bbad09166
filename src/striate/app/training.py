"""Running an experiment into a run directory: what `train`, `resume`, `learn` and `demo` share."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import load_file

import striate
from striate.app.build import Experiment, build
from striate.app.load import load_model, save_model
from striate.app.recipe import Recipe, check_recipe
from striate.app.screen import Screen
from striate.app.yaml import dump_yaml, read_yaml
from striate.errors import BadInput, Diverged, Interrupted, StriateError
from striate.preprocess import Preprocessor
from striate.train import Hooks, Run, train
from striate.train.checkpoint import read_json, write_tensors, write_text
from striate.train.run import machine

# Enough filters for a sheet and for stable shares of edges, points and noise (standard error 2.5 points at most).
_SNAPSHOT_FILTERS = 400


def new_run(recipe: Recipe, path: Path, screen: Screen, init: Path | None = None) -> dict[str, Any]:
    """Train a recipe into a new run directory; returns the last metrics and where things are.

    Raises:
        BadInput: the directory holds a run already, or the recipe does not fit its pictures.
        Interrupted, Diverged: see `striate.train.loop`.
    """
    if (path / "run.json").exists():
        raise BadInput(f"{path} holds a run already: resume it with `striate resume {path}`, or name another with --run")
    experiment = build(recipe, screen.say)
    if init is not None:
        _take_weights(experiment, init)
    run = Run(path, recipe.train.keep)
    write_text(path / "recipe.yaml", dump_yaml(recipe.model_dump(mode="json")))
    save_preprocessor(path, experiment.preprocessor)
    run.describe(
        striate=striate.__version__,
        command=sys.argv,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        store_digest=experiment.store.digest,
        streamed=experiment.streamed,
        **machine(),
    )
    return _train(experiment, run, screen, resume=False)


def resume_run(path: Path, screen: Screen) -> dict[str, Any]:
    """Go on with a run exactly where it was.

    Raises:
        BadInput: no run is there, or its pictures are not the ones it began with.
    """
    described = read_json(path / "run.json")
    recipe = check_recipe(read_yaml(path / "recipe.yaml"), str(path / "recipe.yaml"))
    state_file = path / "preprocessor.safetensors"
    preprocessor = None
    if state_file.exists():
        preprocessor = Preprocessor.restore(read_json(path / "preprocessor.json"), load_file(state_file))
    experiment = build(recipe, screen.say, preprocessor=preprocessor, streamed=described.get("streamed"))
    if experiment.store.digest != described["store_digest"]:
        raise BadInput(
            f"{recipe.data.store} has changed since this run began (digest {experiment.store.digest}, was "
            f"{described['store_digest']}): begin a new run, with --init {path} to start from its weights"
        )
    return _train(experiment, Run(path, recipe.train.keep), screen, resume=True)


def save_preprocessor(path: Path, preprocessor: Preprocessor) -> None:
    """Keep the fitted preprocessing, which a resumed run must not fit again."""
    import json

    write_tensors(path / "preprocessor.safetensors", preprocessor.state())
    write_text(path / "preprocessor.json", json.dumps(preprocessor.describe()))


def _take_weights(experiment: Experiment, init: Path) -> None:
    known = load_model(init).rbm.state()
    own = experiment.learner.rbm.state()
    for name, tensor in own.items():
        if name not in known or known[name].shape != tensor.shape:
            found = tuple(known[name].shape) if name in known else "none"
            raise BadInput(f"--init {init}: its {name} has shape {found}, this model's is {tuple(tensor.shape)}")
        tensor.copy_(known[name])
    experiment.learner.refresh()


def _train(experiment: Experiment, run: Run, screen: Screen, *, resume: bool) -> dict[str, Any]:
    learner, loop = experiment.learner, experiment.loop
    screen.say(_headline(experiment))
    last: dict[str, float] = {}
    begun = time.monotonic()
    run.describe(status="running")
    if warning := run.open_events(0):
        screen.say(warning)
    try:
        with (
            _stop_requests() as stop,
            screen.progress("training", loop.total_steps * experiment.recipe.train.batch_size, "images") as task,
        ):

            def progress(steps: int, metrics: dict[str, float]) -> None:
                last.update(metrics)
                shown = {"error": f"{metrics['reconstruction_error']:.4g}", "active": f"{metrics['hidden_activity']:.3f}"}
                task.advance(steps * experiment.recipe.train.batch_size, **shown)

            hooks = Hooks(
                progress=progress,
                snapshot=lambda step: _snapshot(experiment, run, step),
                saved=lambda: _save_model(experiment, run),
                stop=lambda: stop["asked"],
            )
            if resume:
                newest = max(run.checkpoints.steps(), default=0)
                task.advance(newest * experiment.recipe.train.batch_size)
            train(learner, experiment.batches, run, loop, hooks, resume)
        run.describe(status="done", steps=learner.step_number)
    except Interrupted as stopped:
        run.describe(status="interrupted", steps=learner.step_number)
        run.note(str(stopped))
        raise
    except (Diverged, StriateError) as error:
        run.describe(status="failed", reason=str(error))
        run.note(str(error))
        raise
    finally:
        run.close()
    return {"run": str(run.path), "steps": learner.step_number, "wall_s": round(time.monotonic() - begun, 2), **last}


def _headline(experiment: Experiment) -> str:
    learner = experiment.learner
    dtype = "bf16" if learner.dtype == torch.bfloat16 else "fp32"
    hidden, visible = learner.rbm.weights.shape
    return (
        f"{experiment.recipe.name}: {visible} visible x {hidden} hidden units, {len(experiment.rows):,} rows, "
        f"{experiment.loop.total_steps:,} steps of {experiment.recipe.train.batch_size}, {experiment.device} in {dtype}, "
        f"{torch.get_num_threads()} threads{', streamed from disk' if experiment.streamed else ''}"
    )


def _snapshot(experiment: Experiment, run: Run, step: int) -> None:
    """Keep some filters as the model holds them, always the same units, (k, c, h, w)."""
    weights = experiment.learner.rbm.weights
    units = torch.linspace(0, len(weights) - 1, min(_SNAPSHOT_FILTERS, len(weights))).long().to(weights.device)
    run.snapshots.mkdir(exist_ok=True)
    pictures = weights[units].view(-1, *experiment.preprocessor.shape)
    write_tensors(run.snapshots / f"step-{step:08d}.safetensors", {"weights": pictures, "units": units})


def _save_model(experiment: Experiment, run: Run) -> None:
    rbm = experiment.learner.rbm.to("cpu")
    save_model(run.path, rbm, experiment.preprocessor, experiment.store.shape, experiment.recipe.name)


@contextmanager
def _stop_requests() -> Iterator[dict[str, bool]]:
    """Ctrl-C and SIGTERM only ask; the loop answers between steps. A second Ctrl-C stops at once."""
    stop = {"asked": False}

    def ask(number: int, frame: FrameType | None) -> None:
        if stop["asked"]:
            raise KeyboardInterrupt
        stop["asked"] = True

    try:
        previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:
        # Signals belong to the main thread; elsewhere the caller stops us some other way.
        previous = {}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
