"""Krizhevsky, Sutskever, Hinton 2012: figures 1 to 4, its ablations, and the binary codes it suggests, at CIFAR scale.

Numbers: `1` the race, `2` the net's sizes, `3` the kernels, `4` answers and neighbours; `5` the ablations of sections 3.3 to
3.5 and 4.1; `6` the codes of section 6.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from striate.app.codes import learn_codes, retrieval
from striate.app.load import load
from striate.app.probing import encode_all
from striate.app.reproduce.finding import Finding
from striate.app.reproduce.stages import Stage, Stages
from striate.measure.intervals import wilson
from striate.models.convnet import named_net
from striate.models.convnet.shapes import count, parameters
from striate.models.convnet.trained import ConvNetEncoder
from striate.show import Figure, filter_sheet, png_bytes
from striate.show import figures as draw

_SMALL = "krizhevsky2012/small"

# What each ablation changes, and the paper's loss of top-1 error in points where it states one.
ABLATIONS: dict[str, tuple[str, str]] = {
    "base": ("the net as it is", "{}"),
    "no-norm": ("without response normalisation (paper: 1.4 points)", "{order: none}"),
    "plain-pool": ("pooling without overlap (paper: 0.4 points)", "{pool: 2}"),
    "one-column": ("one column of half the maps (paper: 1.7 points)", "{columns: 1, maps: [24, 48, 64, 64, 96]}"),
    "no-dropout": ("without dropout (paper: substantial overfitting)", "{dropout: none}"),
    "tanh": ("tanh units", "{activation: tanh}"),
}

STAGES: dict[str, Stage] = {
    name: Stage(_SMALL, {}, {"": (f"model.switches={changes}",)}) for name, (_, changes) in ABLATIONS.items()
} | {f"race-{kind}": Stage(f"krizhevsky2012/race-{kind}", {}, {}) for kind in ("relu", "tanh")}


def race(stages: Stages) -> Finding:
    """Figure 1: epochs to 25% training error, rectified and tanh units."""
    curves = {}
    for kind in ("relu", "tanh"):
        metrics = stages.metrics(f"race-{kind}")
        curves[kind] = ([line["epoch"] for line in metrics], [line["error"] for line in metrics])
    reached = {kind: _reached(*curve) for kind, curve in curves.items()}
    relu, tanh = reached["relu"], reached["tanh"]
    if relu is not None and tanh is not None:
        ratio = tanh / relu
        said = f"{relu:.1f} epochs with rectified units, {tanh:.1f} with tanh: {ratio:.1f} times as many"
        agrees = ratio >= 4
    else:
        last = {kind: (epochs[-1], errors[-1]) for kind, (epochs, errors) in curves.items()}
        said = "; ".join(
            f"{kind}: {reached[kind]:.1f} epochs" if reached[kind] else f"{kind}: {100 * end:.0f}% after {epoch:.0f} epochs"
            for kind, (epoch, end) in last.items()
        )
        agrees = relu is not None and last["tanh"][0] >= 4 * relu
    names = {"relu": "rectified units", "tanh": "tanh units"}
    picture = draw.curves({names[kind]: curve for kind, curve in curves.items()}, "epochs", "training error", 0.25)
    return Finding(
        "1",
        "A four-layer net with rectified units reaches 25% training error on CIFAR-10 six times faster than with tanh units.",
        said,
        agrees,
        (Figure("Training error over epochs; the line is 25%.", picture, wide=True),),
    )


def _reached(epochs: list[float], errors: list[float], goal: float = 0.25) -> float | None:
    """The first moment from which an epoch's worth of lines stays at or below the goal on average."""
    window = max(1, sum(epoch <= epochs[0] + 1 for epoch in epochs))
    for end in range(window, len(errors) + 1):
        if float(np.mean(errors[end - window : end])) <= goal:
            return epochs[end - 1]
    return None


def architecture(stages: Stages) -> Finding:
    """Figure 2: the net's sizes, by arithmetic."""
    spec = named_net("paper", 1000)
    counted = count(spec)
    rows = [one for one in counted if one.parameters]
    # The paper's neurons: what leaves the five convolutions and the two hidden dense layers, and the classes.
    neurons = sum(one.neurons for one in rows)
    share = max(one.parameters for one in rows if one.layer.name.startswith("conv")) / parameters(spec)
    names = [f"{one.layer.name} {'x'.join(map(str, one.output))}" for one in rows]
    picture = draw.amounts(names, [one.parameters / 1e6 for one in rows], "million parameters")
    return Finding(
        "2",
        "60 million parameters and 650,000 neurons; each convolution has no more than 1% of the parameters.",
        f"{parameters(spec):,} parameters, {neurons:,} neurons (the first layer has {rows[0].neurons:,}, not the 253,440 of "
        f"the paper's figure); the largest convolution has {100 * share:.2f}%",
        parameters(spec) == 60_965_224 and abs(neurons - 650_000) < 15_000,
        (Figure("Parameters of each layer.", picture, wide=True),),
    )


def kernels(stages: Stages) -> Finding:
    """Figure 3: the first layer's kernels, column by column."""
    model = stages.model("base")
    assert model.parts.convnet is not None
    weights = model.parts.convnet.kernels
    halves = weights.chunk(2)
    colour = [_colour_share(half) for half in halves]
    apart = max(colour) / max(min(colour), 1e-9)
    return Finding(
        "3",
        "The kernels of one column are largely colour-agnostic, those of the other largely colour-specific, in every run.",
        f"share of energy in colour {colour[0]:.2f} in the first column, {colour[1]:.2f} in the second: {apart:.1f} times",
        apart > 2,
        tuple(
            Figure(f"Column {number}.", png_bytes(filter_sheet(half.numpy(), 8)), pixelated=True)
            for number, half in enumerate(halves, start=1)
        ),
    )


def _colour_share(filters: Tensor) -> float:
    """Share of energy outside grey, where all three channels agree."""
    grey = filters.mean(dim=1, keepdim=True)
    return float(((filters - grey) ** 2).sum() / (filters**2).sum())


def answers(stages: Stages) -> Finding:
    """Figure 4: eight test pictures with their five most probable classes, and their nearest training pictures."""
    test, train = _features(stages, False), _features(stages, True)
    shown = np.linspace(0, len(test.pictures) - 1, 8).astype(int)
    near = _nearest(test.features, train.features, 6)
    by_pixels = _nearest(_pixels(test.pictures[:500]), _pixels(train.pictures), 6)
    same = float((train.labels[near] == test.labels[:, None]).mean())
    pixels_same = float((train.labels[by_pixels] == test.labels[:500, None]).mean())
    right = test.probabilities.argmax(dim=1).numpy() == test.labels
    low, high = wilson(int(right.sum()), len(right))
    sheet = draw.answers(
        test.pictures[shown],
        test.probabilities[torch.from_numpy(shown)].numpy(),
        test.labels[shown],
        stages.class_names,
        train.pictures[near[shown]],
    )
    return Finding(
        "4",
        "Its five guesses are sensible, and pictures whose last hidden activities are near are of the same kind, though their "
        "pixels are far apart.",
        f"{100 * right.mean():.1f}% named rightly ({100 * low:.1f} to {100 * high:.1f}); {100 * same:.0f}% of the six nearest "
        f"training pictures are of the same class, {100 * pixels_same:.0f}% of the nearest by pixels",
        same > 1.3 * pixels_same,
        (Figure("Test pictures, their five most probable classes, and six nearest training pictures.", sheet, wide=True),),
    )


class _Seen:
    """Pictures with their last hidden layer's features and the net's probabilities."""

    def __init__(self, stages: Stages, train: bool) -> None:
        encoder = load(stages.run("base"))
        assert isinstance(encoder, ConvNetEncoder)
        pictures, labels = stages.train_pictures if train else stages.test_pictures
        self.pictures, self.labels = pictures[:_MOST], labels[:_MOST]
        layer = encoder.layers[-3] if encoder.layers[-2].startswith("drop") else encoder.layers[-2]
        self.features = encode_all(encoder, self.pictures, layer, stages.screen).float()
        self.probabilities = torch.softmax(encode_all(encoder, self.pictures, "logits", stages.screen).float(), dim=1)


_MOST = 10_000


@lru_cache(maxsize=4)
def _features(stages: Stages, train: bool) -> _Seen:
    return _Seen(stages, train)


def _pixels(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).flatten(1).float()


def _nearest(queries: Tensor, base: Tensor, k: int) -> np.ndarray:
    squares = (base * base).sum(dim=1)
    parts = [torch.topk(2 * block @ base.t() - squares, k, dim=1).indices for block in queries.split(500)]
    return torch.cat(parts).numpy()


def ablations(stages: Stages) -> Finding:
    """Sections 3.3 to 3.5 and 4.1: what each part is worth."""
    found = {name: stages.views(name, "ten") for name in ABLATIONS}
    error = {name: 1 - result.accuracy for name, result in found.items()}
    total = found["base"].test_size
    worse = {name: error[name] - error["base"] for name in ABLATIONS if name != "base"}
    said = "; ".join(f"{ABLATIONS[name][0]}: {100 * points:+.1f} points" for name, points in worse.items())
    names = [ABLATIONS[name][0] for name in ABLATIONS]
    intervals = [(1 - found[name].high, 1 - found[name].low) for name in ABLATIONS]
    picture = draw.bars(names, list(error.values()), intervals, "test error, ten views")
    return Finding(
        "5",
        "Every part lowers the error: normalisation by 1.4 points, overlapping pooling by 0.4, two columns by 1.7.",
        f"error {100 * error['base']:.1f}% from ten views on {total:,} test pictures; {said}",
        all(worse[name] > 0 for name in ("no-norm", "plain-pool", "one-column")),
        (Figure("Test error with 95% intervals.", picture, wide=True),),
    )


def codes(stages: Stages) -> Finding:
    """Section 6.1: codes of 64 bits beside exact search in the last hidden layer."""
    test, train = _features(stages, False), _features(stages, True)
    stages.screen.say("learning codes of 64 bits")
    found = retrieval(learn_codes(train.features, 64), test.features[:1000], train.features)
    chance = 100 / len(train.features)
    return Finding(
        "6",
        "An autoencoder to short binary codes should give better retrieval than one on raw pixels, and fast.",
        f"{100 * found.recall.value:.0f}% of the ten true neighbours are among the hundred nearest codes (chance "
        f"{100 * chance:.0f}%), {100 * found.strict.value:.0f}% among ten; {found.recall.bytes_a_picture} bytes a picture "
        f"against {found.bytes_exact:,}; {1e6 * found.codes_s:.0f} us a query against {1e6 * found.exact_s:.0f}",
        found.recall.value > 0.5,
        (),
    )


OF_MODELS: dict[str, Callable[[Stages], Finding]] = {"1": race, "2": architecture, "3": kernels}
JUDGED: dict[str, Callable[[Stages], Finding]] = {"4": answers, "5": ablations, "6": codes}
