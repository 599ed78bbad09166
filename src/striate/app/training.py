"""Running an experiment into a run directory: what `train`, `resume`, `learn` and `demo` share."""

from __future__ import annotations

import fcntl
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import load_file

import striate
from striate.app.alike import facts
from striate.app.build import Experiment, Resumed, build, open_store
from striate.app.load import load_model, save_model
from striate.app.pooled import pooled
from striate.app.recipe import Recipe, check_recipe
from striate.app.replicas import Asked, check_crew, crewed
from striate.app.screen import Screen, Task
from striate.app.yaml import dump_yaml, read_yaml
from striate.cluster.parallel import Share, agreed, any_process, check_alike
from striate.compute import keep_memory
from striate.errors import BadInput, Interrupted, StriateError
from striate.files import full_disk, is_full_disk
from striate.images.work import Each, one_by_one
from striate.preprocess import Preprocessor
from striate.train import Hooks, Run, save_start, train
from striate.train.checkpoint import read_json, write_tensors, write_text
from striate.train.learner import Learner
from striate.train.run import machine, read_metrics

# Enough filters for a sheet and for stable shares of edges, points and noise (standard error 2.5 points at most).
_SNAPSHOT_FILTERS = 400
# What the progress bar shows of the metrics, by the name it shows.
_SHOWN = {"reconstruction_error": "error", "loss": "loss", "error": "error", "hidden_activity": "active"}


def new_run(
    recipe: Recipe,
    path: Path,
    screen: Screen,
    init: Path | None = None,
    share: Share | None = None,
    profile: bool = False,
    replicas: Asked | None = None,
) -> dict[str, Any]:
    """Train a recipe into a new run directory; returns the last metrics and where things are.

    Args:
        recipe: what to train.
        path: the run directory.
        screen: where to speak.
        init: a run to take the weights of.
        share: this process's place, where several train it.
        profile: whether to find out where steps' time goes.
        replicas: how many are to train it, each at its own pace; None: this process alone, or its share.

    Raises:
        BadInput: the directory holds a run already, or the recipe does not fit its pictures.
        Interrupted, Diverged: see `striate.train.loop`.
    """
    if (path / "run.json").exists():
        raise BadInput(f"{path} holds a run already: resume it with `striate resume {path}`, or name another with --run")
    share = share or Share()
    _check_alike(share, recipe)
    with _gatherers(recipe, replicas) as each:
        experiment = build(recipe, screen.say, share=share, profile=profile, each=each or one_by_one)
    check_crew(experiment, replicas)
    with agreed(share):
        if init is not None:
            experiment.subject.take(load_model(init).rbm.state(), f"--init {init}")
    run = Run(path, recipe.train.keep)
    write_text(path / "recipe.yaml", dump_yaml(_resolved(experiment).model_dump(mode="json")))
    save_preprocessor(path, experiment.preprocessor)
    save_start(experiment.subject.learner, run)
    _save_model(experiment, run)
    # Comes last and makes it a run: what is killed before this line is begun anew, after it resumed.
    run.describe(
        striate=striate.__version__,
        command=sys.argv,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        store_digest=experiment.store.digest,
        streamed=experiment.streamed,
        cluster=experiment.subject.spread,
        **machine(),
    )
    with crewed(experiment, run, screen, replicas) as crew:
        return _train(crew, run, screen, profile)


def resume_run(
    path: Path,
    screen: Screen,
    store: Path | None = None,
    share: Share | None = None,
    profile: bool = False,
    replicas: Asked | None = None,
) -> dict[str, Any]:
    """Go on with a run exactly where it was.

    As many processes as before share the model in the same way; another number chooses anew.

    Args:
        path: the run directory.
        screen: where to speak.
        store: where the run's pictures are now, if they were moved.
        share: this process's place, where several train it.
        profile: whether to find out where steps' time goes.
        replicas: as for a new run; any number, whatever it had before.

    Raises:
        BadInput: no run is there, or its pictures are not the ones it began with.
    """
    described = read_json(path / "run.json")
    recipe = run_recipe(path)
    if store is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"store": store})})
    share = share or Share()
    _check_alike(share, recipe)
    digest = open_store(recipe).digest
    if digest != described["store_digest"]:
        raise BadInput(
            f"{recipe.data.store} has changed since this run began (digest {digest[:12]}, was "
            f"{described['store_digest'][:12]}): begin a new run, with --init {path} to start from its weights"
        )
    fitted = Preprocessor.restore(read_json(path / "preprocessor.json"), load_file(path / "preprocessor.safetensors"))
    spread = described.get("cluster") or {}
    if spread.get("processes") == share.count:
        chosen = {"mode": spread["mode"], "parts": spread["parts"]}
        recipe = recipe.model_copy(update={"cluster": recipe.cluster.model_copy(update=chosen)})
    # Its numbers come from the checkpoint; the model gives the shapes without training a patch model for the start again.
    experiment = build(recipe, screen.say, Resumed(load_model(path), fitted, described["streamed"]), share, profile)
    run = Run(path, recipe.train.keep)
    if spread.get("processes") != share.count:
        run.describe(cluster=experiment.subject.spread)
    with crewed(experiment, run, screen, replicas) as crew:
        return _train(crew, run, screen, profile)


def _gatherers(recipe: Recipe, replicas: Asked | None) -> AbstractContextManager[Each | None]:
    """Whoever gathers what preprocessing is fitted on: the cluster that will train, where that is whole pictures."""
    whole = recipe.preprocess.patch is None and replicas is not None
    return pooled(replicas.address if whole and replicas else None, None, torch.get_num_threads())


def _check_alike(share: Share, recipe: Recipe) -> None:
    with agreed(share):
        own = facts(recipe)
    check_alike(share, own)


def run_recipe(path: Path) -> Recipe:
    """The resolved recipe of a run."""
    return check_recipe(read_yaml(path / "recipe.yaml"), str(path / "recipe.yaml"))


def _resolved(experiment: Experiment) -> Recipe:
    """The recipe with everything decided that a resumed run must not decide anew, from wherever it is resumed."""
    recipe = experiment.recipe
    dtype = recipe.train.dtype if recipe.train.dtype != "auto" else _dtype_name(experiment)
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"store": experiment.store.path.resolve()}),
            "train": recipe.train.model_copy(update={"dtype": dtype}),
        }
    )


def save_preprocessor(path: Path, preprocessor: Preprocessor) -> None:
    """Keep the fitted preprocessing, which a resumed run must not fit again."""
    write_tensors(path / "preprocessor.safetensors", preprocessor.state())
    write_text(path / "preprocessor.json", json.dumps(preprocessor.describe()))


def _train(experiment: Experiment, run: Run, screen: Screen, profile: bool) -> dict[str, Any]:
    learner = experiment.subject.learner
    keep_memory()
    screen.say(_headline(experiment))
    begun = time.monotonic()
    total = experiment.loop.total_steps * experiment.recipe.train.batch_size
    with (
        _locked(run),
        _recorded(run, learner),
        _stop_requests() as stop,
        screen.progress("training", total, "images") as task,
    ):
        train(learner, experiment.batches, run, experiment.loop, _hooks(experiment, run, screen, task, stop))
    metrics = read_metrics(run.path)
    last = metrics[-1] if metrics else {}
    if profile and experiment.subject.profile is not None:
        last = {**last, "profile": experiment.subject.profile()}
        write_text(run.path / "profile.json", json.dumps(last["profile"], indent=1))
    return {"run": str(run.path), "steps": learner.step_number, "wall_s": round(time.monotonic() - begun, 2)} | last


def _hooks(experiment: Experiment, run: Run, screen: Screen, task: Task, stop: dict[str, bool]) -> Hooks:
    size = experiment.recipe.train.batch_size
    total_steps = experiment.loop.total_steps
    begun, first, seen = time.monotonic(), 0, 0

    def resumed(step: int, warnings: list[str]) -> None:
        nonlocal begun, first, seen
        begun, first, seen = time.monotonic(), step, step
        for line in warnings:
            screen.warn(line)
            run.note(line)
        if step:
            screen.say(f"going on from step {step:,} of {total_steps:,}")
        task.skip(step * size)
        if reason := run.open_events(step + 1 if step else 0):
            screen.warn(reason)

    def progress(step: int, metrics: dict[str, float]) -> None:
        nonlocal seen
        if seen == first:
            left = (total_steps - step) * (time.monotonic() - begun) / (step - first)
            screen.say(f"about {left:.0f} s of training ahead" if left < 120 else f"about {left / 60:.0f} minutes ahead")
        shown = {name: f"{metrics[key]:.4g}" for key, name in _SHOWN.items() if key in metrics}
        task.advance((step - seen) * size, **shown)
        seen = step

    def agree(wish: int) -> int:
        return any_process(wish, experiment.device) if experiment.share.count > 1 else wish

    return Hooks(
        resumed=resumed,
        progress=progress,
        snapshot=lambda step: _snapshot(experiment, run, step),
        saved=lambda: _save_model(experiment, run),
        stop=lambda: stop["asked"],
        agree=agree,
    )


@contextmanager
def _locked(run: Run) -> Iterator[None]:
    """One process trains a run at a time."""
    with (run.path / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{run.path} is being trained by another process: wait for it, or stop it first") from None
        yield


@contextmanager
def _recorded(run: Run, learner: Learner[Any]) -> Iterator[None]:
    """Keep in run.json and log.txt how it ended, whatever way that was."""
    run.describe(status="running")
    try:
        yield
    except KeyboardInterrupt:
        step = run.checkpoints.steps()[-1]
        _note_end(run, "interrupted", f"stopped at once; saved up to step {step}: striate resume {run.path}")
        raise Interrupted(f"stopped at once; saved up to step {step}: striate resume {run.path}") from None
    except Interrupted as stopped:
        _note_end(run, "interrupted", str(stopped), steps=learner.step_number)
        raise
    except Exception as error:
        _note_end(run, "failed", str(error))
        if is_full_disk(error):
            raise full_disk(run.path) from None
        raise
    else:
        _note_end(run, "done", f"done at step {learner.step_number}", steps=learner.step_number)
    finally:
        run.close()


def _note_end(run: Run, status: str, line: str, **fields: object) -> None:
    # On a full disk there is no room for this either; the first error is the one to tell.
    with suppress(OSError, StriateError):
        run.describe(status=status, ended=line, **fields)
        run.note(line)


def _dtype_name(experiment: Experiment) -> str:
    return {torch.bfloat16: "bf16", torch.float64: "fp64"}.get(experiment.subject.learner.dtype, "fp32")


def _headline(experiment: Experiment) -> str:
    train_group = experiment.recipe.train
    return (
        f"{experiment.recipe.name}: {experiment.subject.title}, {len(experiment.store):,} pictures, "
        f"{len(experiment.subject.rows):,} rows, {train_group.epochs:g} epochs = {experiment.loop.total_steps:,} steps of "
        f"{train_group.batch_size}, {experiment.device} in {_dtype_name(experiment)}, {torch.get_num_threads()} threads"
        f"{', streamed from disk' if experiment.streamed else ''}"
        f"{f', {experiment.share.count} processes' if experiment.share.count > 1 else ''}"
    )


def _snapshot(experiment: Experiment, run: Run, step: int) -> None:
    """Keep some filters as the model holds them, always the same units, (k, c, h, w)."""
    weights = experiment.subject.filters()
    if experiment.share.rank > 0:
        # Others only take part in putting the model together.
        return
    units = torch.linspace(0, len(weights) - 1, min(_SNAPSHOT_FILTERS, len(weights))).long().to(weights.device)
    run.snapshots.mkdir(exist_ok=True)
    pictures = weights[units] if weights.ndim == 4 else weights[units].view(-1, *experiment.preprocessor.shape)
    write_tensors(run.snapshots / f"step-{step:08d}.safetensors", {"weights": pictures, "units": units})


def _save_model(experiment: Experiment, run: Run) -> None:
    store, parts = experiment.store, experiment.subject.parts()
    if experiment.share.rank > 0:
        return
    save_model(run.path, parts, experiment.preprocessor, store.shape, experiment.recipe.name, store.class_names)


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
