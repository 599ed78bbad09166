"""What `show`, `learn` and `demo` draw of a run: sheets, curves, fits over time, and the report that holds them all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from striate.app.load import TrainedModel, load_model
from striate.errors import BadInput
from striate.images import ImageStore
from striate.measure import FilterFits, fit_filters
from striate.models.convnet.shapes import parameters
from striate.models.rbm import DeepBeliefNet
from striate.models.sparse.shapes import costs
from striate.show import Figure, Report, Section, Table, filter_sheet, pair_sheet, png_bytes, render
from striate.show import figures as draw
from striate.train.checkpoint import read_json, write_text
from striate.train.run import read_metrics

_FITTED = 2000
_PAIRS = 20
_SHOWN_IN_TIME = 100
_ACTIVITY_PICTURES = 2000
# Curves are looked for of so many stages at most.
_STAGES = 10


@dataclass(frozen=True)
class Looked:
    """A run with its filters fitted."""

    run: Path
    model: TrainedModel
    fits: FilterFits

    @property
    def shares(self) -> dict[str, float]:
        """Shares of edges, points and noise."""
        return self.fits.shares()


def look(run: Path) -> Looked:
    """Load a run's model and fit its filters (2,000 of them at most, evenly picked).

    Raises:
        BadInput: no run with a model is there.
    """
    model = load_model(run)
    return Looked(run, model, fit_filters(_some(model.filter_pictures(), _FITTED)))


def filter_sheets(looked: Looked) -> dict[str, bytes]:
    """PNGs of the filters: as the model holds them, and dewhitened into pixels where the data was whitened."""
    model = looked.model
    sheets = {"filters": png_bytes(filter_sheet(model.filter_pictures().numpy()))}
    if model.parts.convnet is not None and (columns := model.parts.convnet.columns) > 1:
        for number, part in enumerate(model.filter_pictures().chunk(columns), start=1):
            sheets[f"filters-column-{number}"] = png_bytes(filter_sheet(part.numpy(), 8))
    if model.preprocessor.settings.kind == "whiten" and model.parts.sparse is None:
        pictures = model.preprocessor.filters_to_pixels(_some(model.parts.filters(), 400))
        sheets["filters-dewhitened"] = png_bytes(filter_sheet(pictures.numpy()))
    return sheets


def _some(rows: Tensor, count: int) -> Tensor:
    return rows if len(rows) <= count else rows[torch.linspace(0, len(rows) - 1, count).long()]


def sample_pictures(looked: Looked, count: int) -> np.ndarray | None:
    """Pictures of the kind the model sees (patches for a patch model), if the run's store is still there."""
    return sample_of_run(looked.run, count, looked.model.preprocessor.settings.patch)


def sample_of_run(run: Path, count: int, patch: int | None = None) -> np.ndarray | None:
    """Evenly picked pictures that a run was trained on, or random patches of them, if its store is still there."""
    from striate.app.recipe import check_recipe
    from striate.app.yaml import read_yaml
    from striate.preprocess import draw_patches

    recipe = check_recipe(read_yaml(run / "recipe.yaml"), "recipe.yaml")
    if recipe.data.store is None:
        return None
    try:
        store = ImageStore(recipe.data.store)
    except BadInput:
        return None
    if patch is not None:
        return draw_patches(store, patch, count, recipe.seed + 1)
    return store[np.linspace(0, len(store) - 1, min(count, len(store))).astype(int)]


def reconstructions(looked: Looked, pictures: np.ndarray) -> bytes:
    """Pictures above what the model makes of them in one step of means."""
    rows = looked.model.preprocessor.apply(pictures)
    if looked.model.parts.sparse is not None:
        # In the space that the first stage sees: its contrast normalisation has no way back.
        seen, rebuilt = looked.model.parts.sparse.rebuilt(rows)
        low, high = float(seen.amin()), float(seen.amax())
        above, below = ((255 * (maps - low) / (high - low)).numpy() for maps in (seen, rebuilt))
        return png_bytes(pair_sheet(above, below))
    auto = looked.model.parts.autoencoder
    net = DeepBeliefNet(looked.model.parts.rbms) if auto is None else None
    passed = auto.decode(auto.encode(rows)) if auto is not None else net.down(net.up(rows)[-1]) if net is not None else rows
    rebuilt = looked.model.preprocessor.invert(passed)
    return png_bytes(pair_sheet(pictures.astype(np.float32), rebuilt.numpy()))


def mean_activities(looked: Looked, pictures: np.ndarray) -> np.ndarray:
    """Each hidden unit's mean activity over pictures, (hidden,)."""
    parts = looked.model.parts
    if parts.convnet is not None or parts.sparse is not None:
        encoder = looked.model.encoder()
        # Below a net's classes; of stages what the highest pools.
        layer = encoder.layers[-2] if parts.sparse is None else f"pool{len(parts.sparse.spec.stages)}"
        return encoder.encode(pictures, [layer])[layer].mean(dim=0).numpy()
    rows = looked.model.preprocessor.apply(pictures)
    if parts.autoencoder is not None:
        return parts.autoencoder.encode(rows).mean(dim=0).numpy()
    layers = parts.net.hidden(rows) if parts.net is not None else DeepBeliefNet(parts.rbms).up(rows)
    return layers[-1].mean(dim=0).numpy()


def shares_over_time(run: Path, looked: Looked) -> tuple[list[int], dict[str, list[float]], list[tuple[int, np.ndarray]]]:
    """Steps, shares of each kind at them, and the filters of each snapshot as pictures."""
    steps: list[int] = []
    shares: dict[str, list[float]] = {"edge": [], "point": [], "noise": []}
    sheets = []
    for file in sorted((run / "snapshots").glob("step-*.safetensors")):
        kept = load_file(file)
        fits = fit_filters(kept["weights"]).shares()
        steps.append(int(file.stem.removeprefix("step-")))
        for name, values in shares.items():
            values.append(fits[name])
        sheets.append((steps[-1], kept["weights"][:_SHOWN_IN_TIME].numpy()))
    return steps, shares, sheets


def write_figures(looked: Looked) -> dict[str, Path]:
    """The filter sheets as files in the run's figures/."""
    folder = looked.run / "figures"
    folder.mkdir(exist_ok=True)
    written = {}
    for name, data in filter_sheets(looked).items():
        written[name] = folder / f"{name}.png"
        written[name].write_bytes(data)
    return written


def write_report(run: Path, credits: tuple[str, ...] = ()) -> tuple[Path, Looked]:
    """Draw everything of a run into its report.html."""
    looked = look(run)
    write_figures(looked)
    report = _report(looked, credits)
    path = run / "report.html"
    write_text(path, render(report))
    return path, looked


def _report(looked: Looked, credits: tuple[str, ...]) -> Report:
    described = read_json(looked.run / "run.json")
    probe = _read_probe(looked.run)
    metrics = read_metrics(looked.run)
    shares = looked.shares
    headline = [(f"{100 * shares['edge']:.0f}%", "of filters are oriented edges")]
    if probe:
        headline.append((f"{100 * probe['features']['accuracy']:.1f}%", "of test pictures named rightly from features"))
        headline.append((f"{100 * probe['pixels']['accuracy']:.1f}%", "from raw pixels"))
    if metrics:
        headline.append((f"{metrics[-1]['seconds']:.0f} s", "of training"))
    pictures = sample_pictures(looked, _ACTIVITY_PICTURES)
    sections = [_filters_section(looked), _time_section(looked), _learning_section(looked, metrics)]
    if pictures is not None:
        sections.insert(2, _data_section(looked, pictures))
    if probe:
        sections.insert(0, _probe_section(looked.run, probe))
    sections.append(_recipe_section(looked.run, described))
    title = f"What {looked.model.description['name']} learned"
    shape = _shape_in_words(looked.model.preprocessor.shape)
    whitened = ", whitened" if looked.model.preprocessor.settings.kind == "whiten" else ""
    subtitle = f"{_sizes_in_words(looked.model)} ({shape}{whitened})"
    return Report(title, subtitle, headline, sections, credits)


def _sizes_in_words(model: TrainedModel) -> str:
    if model.parts.convnet is not None:
        return f"the net {model.parts.convnet.name}, {parameters(model.parts.convnet.spec):,} parameters"
    if model.parts.sparse is not None:
        predicted = costs(model.parts.sparse.spec, 1, decoders=0 if model.parts.sparse.tied_decoder else 1)
        classes = f", under {len(model.parts.top.bias):,} classes" if model.parts.top is not None else ""
        return f"{len(model.parts.sparse.spec.stages)} stages, {predicted.parameters:,} weights{classes}"
    if model.parts.net is not None:
        return f"a net of {' x '.join(f'{size:,}' for size in model.parts.net.sizes)} units"
    if model.parts.autoencoder is not None:
        widths = [bias.numel() for bias in model.parts.autoencoder.biases]
        return f"an autoencoder of {' x '.join(f'{width:,}' for width in [widths[-1], *widths])} units"
    layers = " on ".join(f"{rbm.num_hidden:,}" for rbm in reversed(model.parts.rbms))
    return f"{layers} hidden units on {model.parts.rbms[0].num_visible:,} visible ones"


def _shape_in_words(shape: tuple[int, int, int]) -> str:
    return f"{shape[1]}x{shape[2]} {'colour' if shape[0] == 3 else 'grey'}"


def _filters_section(looked: Looked) -> Section:
    sheets = filter_sheets(looked)
    fits = looked.fits
    edges = fits.kind == 0
    captions = {
        "filters": "Every filter as the model holds it, each scaled by its own largest weight; grey is zero.",
        "filters-dewhitened": "The same filters brought back to pixels (dewhitened).",
    }
    figures = [Figure(captions.get(name, _column(name)), data, pixelated=True) for name, data in sheets.items()]
    if edges.any():
        figures.append(Figure("Orientations of the edges.", draw.orientations(fits.orientation[edges])))
        figures.append(
            Figure("Frequencies of the edges.", draw.histogram(fits.frequency[edges], "cycles a pixel", "edges", bins=30))
        )
    figures.append(
        Figure("How well the best Gabor explains each filter.", draw.histogram(fits.gabor_r2, "share of energy", "filters"))
    )
    shares = looked.shares
    text = (
        f"Of {len(fits.kind):,} filters fitted, {100 * shares['edge']:.0f}% are oriented edges, {100 * shares['point']:.0f}% "
        f"are points (round spots, colour blobs) and {100 * shares['noise']:.0f}% are noise: neither a Gabor nor a spot "
        "explains half of their energy."
    )
    return Section("Filters", text, figures)


def _column(name: str) -> str:
    return f"The first layer's kernels of column {name.rpartition('-')[2]}."


def _time_section(looked: Looked) -> Section:
    steps, shares, sheets = shares_over_time(looked.run, looked)
    if len(steps) < 2:
        return Section("Filters over time", "No snapshots were kept.")
    figures = [
        Figure("Shares of edges, points and noise over training.", draw.stacked_shares(steps, shares, "step"), wide=True)
    ]
    chosen = sheets if len(sheets) <= 6 else [sheets[i] for i in np.linspace(0, len(sheets) - 1, 6).astype(int)]
    figures += [Figure(f"The same units at step {step:,}.", png_bytes(filter_sheet(s)), pixelated=True) for step, s in chosen]
    return Section("Filters over time", "", figures)


def _data_section(looked: Looked, pictures: np.ndarray) -> Section:
    activity = mean_activities(looked, pictures)
    figures = [Figure("How active each hidden unit is on average.", draw.histogram(activity, "mean activity", log=True))]
    if looked.model.parts.rebuilds:
        caption = "Pictures, and beneath each what the model rebuilds from its hidden layer."
        figures.insert(0, Figure(caption, reconstructions(looked, pictures[:_PAIRS]), pixelated=True))
    text = _idle_in_words(looked.model, activity)
    spectrum = looked.model.preprocessor.spectrum
    if spectrum is not None:
        deleted = looked.model.preprocessor.settings.delete
        figures.append(Figure("Variance of the data along its principal directions.", draw.spectrum(spectrum.numpy(), deleted)))
    return Section("Pictures and activities", text, figures)


def _idle_in_words(model: TrainedModel, activity: np.ndarray) -> str:
    if model.parts.sparse is not None:
        # Pooled activities are no probabilities; the root's floor is what a silent pool answers.
        floor = 1.01 * model.parts.sparse.pool_floor**0.5
        return f"{int((activity < floor).sum())} of {len(activity):,} pools of the highest stage are silent."
    dead, always = int((activity < 1e-3).sum()), int((activity > 0.99).sum())
    return f"{dead} of {len(activity):,} units are nearly always off (below 0.001), {always} nearly always on (above 0.99)."


def _learning_section(looked: Looked, metrics: list[dict[str, Any]]) -> Section:
    objective = "The objective of training." if looked.model.parts.rebuilds else "Cross-entropy on training pictures, nats."
    titles = {
        "reconstruction_error": "Reconstruction error a visible unit (not a measure of quality: points lower it too).",
        "loss": objective,
        "error": "Share of training pictures named wrongly.",
        **{f"error{n}": f"Stage {n}: squared error as a share of what it rebuilds." for n in range(1, _STAGES)},
        **{f"active{n}": f"Stage {n}: mean pooled activity." for n in range(1, _STAGES)},
        "validation_error": "Share of held-out pictures named wrongly.",
        "hidden_activity": "Mean activity of the hidden units on data.",
        "update_ratio": "Size of an update beside the weights' own (about 0.001 is healthy).",
    }
    figures = []
    for name, title in titles.items():
        # A stage that learns after others is told of in its own lines only.
        told = [line for line in metrics if name in line]
        if told:
            steps, values = ([line[key] for line in told] for key in ("step", name))
            figures.append(Figure(title, draw.curve(steps, values, "step", name.replace("_", " "))))
    return Section("Learning", "", figures)


def _probe_section(run: Path, probe: dict[str, Any]) -> Section:
    rows = [
        [
            name,
            f"{100 * probe[key]['accuracy']:.1f}%",
            f"{100 * probe[key]['low']:.1f} to {100 * probe[key]['high']:.1f}%",
            f"{probe[key]['dim']:,}",
        ]
        for key, name in (("pixels", "raw pixels"), ("features", f"features ({probe['layer']})"), ("net", "the net itself"))
        if key in probe
    ]
    size = probe["features"]
    text = (
        f"Logistic regression trained on {size['train_size']:,} labelled pictures and judged on {size['test_size']:,} others. "
        f"{probe.get('protocol', '')}"
    )
    figures = []
    confusion = run / "figures" / "confusion.png"
    if confusion.exists():
        figures.append(
            Figure("Confusions from features: rows are the true class, numbers are percent.", confusion.read_bytes())
        )
    return Section(
        "Are the features any good?", text, figures, [Table(["from", "accuracy", "95% interval", "dimensions"], rows)]
    )


def _recipe_section(run: Path, described: dict[str, Any]) -> Section:
    rows = [
        [key, str(described[key])] for key in ("striate", "created", "processor", "gpu", "threads", "torch") if key in described
    ]
    recipe = (run / "recipe.yaml").read_text() if (run / "recipe.yaml").exists() else ""
    return Section("How it was made", "", (), [Table(["", ""], rows)], recipe)


def _read_probe(run: Path) -> dict[str, Any]:
    file = run / "probe.json"
    return json.loads(file.read_text()) if file.exists() else {}
