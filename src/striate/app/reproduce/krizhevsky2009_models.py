"""Krizhevsky 2009, chapter 2: patch models and their merge, whole pictures, learned deviations, second layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from striate.app.reproduce.finding import Finding
from striate.app.reproduce.stages import Stage, Stages, some
from striate.measure import FilterFits, fit_filters
from striate.models.rbm import Gaussian, first_layer_likes
from striate.preprocess import PatchLayout
from striate.show import Figure, filter_sheet, png_bytes
from striate.show import figures as draw

_FITTED = 400
_SHOWN = 100
_PAPER = "krizhevsky2009"

STAGES = {
    "naive": Stage(f"{_PAPER}/naive", {}, {}),
    "patches": Stage(f"{_PAPER}/patch-rbms", {}, {}),
    "merged": Stage(f"{_PAPER}/merged", {"model.init": ("patches",)}, {}),
    "whitened": Stage(f"{_PAPER}/whitened", {}, {}),
    "unwhitened": Stage(f"{_PAPER}/unwhitened", {}, {}),
    "points": Stage(f"{_PAPER}/points", {}, {}),
    "sigma": Stage(f"{_PAPER}/sigma", {}, {}),
    "second": Stage(f"{_PAPER}/second", {"model.below": ("unwhitened",)}, {}),
}


def _pictures(stages: Stages, name: str) -> Tensor:
    """A model's filters as pictures in the space of its weights, (units, c, h, w)."""
    model = stages.model(name)
    return model.parts.filters().view(-1, *model.preprocessor.shape)


def _sheet(pictures: Tensor, caption: str, count: int = _SHOWN) -> Figure:
    return Figure(caption, png_bytes(filter_sheet(some(pictures, count).numpy(), 10)), pixelated=True)


def _shares(fits: FilterFits) -> str:
    return ", ".join(f"{100 * share:.0f}% {name}" for name, share in fits.shares().items())


def naive(stages: Stages) -> Finding:
    """Figure 2.1."""
    pictures = _pictures(stages, "naive")
    fits = fit_filters(some(pictures, _FITTED))
    return Finding(
        "2.1",
        "Trained naively on whole whitened pictures, filters are meaningless noise.",
        _shares(fits),
        fits.shares()["noise"] > 0.5,
        (_sheet(pictures, "Filters of the naive model."),),
    )


def _patch_filters(stages: Stages, name: str, number: int) -> Tensor:
    """One block of a merged model: the filters of a patch, cut out, or of the small picture, made small again."""
    model = stages.model(name)
    layout = PatchLayout(model.preprocessor.shape)
    units = model.rbm.num_hidden // layout.count
    block = model.rbm.weights[number * units : (number + 1) * units]
    small = layout.cut(block)[number]
    return (small * layout.factor**2 if number == layout.count - 1 else small).view(
        -1, layout.shape[0], layout.patch, layout.patch
    )


def patch_filters(stages: Stages) -> Finding:
    """Figure 2.5: filters of one patch."""
    return _of_patch(stages, "2.5", 4, "Filters of an RBM on one 8x8 patch are oriented edges and colour patches")


def small_picture_filters(stages: Stages) -> Finding:
    """Figure 2.6: filters of the picture made small."""
    return _of_patch(stages, "2.6", 25, "Filters of the RBM on the whole picture made small are edges too")


def _of_patch(stages: Stages, figure: str, number: int, claim: str) -> Finding:
    pictures = _patch_filters(stages, "patches", number)
    fits = fit_filters(pictures)
    high = fits.frequency > np.median(fits.frequency)
    low_colour, high_colour = float(fits.saturation[~high].mean()), float(fits.saturation[high].mean())
    return Finding(
        figure,
        f"{claim}; low frequencies are coloured, high ones black and white.",
        f"{_shares(fits)}; share of energy in colour {low_colour:.2f} in the lower half of frequencies, "
        f"{high_colour:.2f} above",
        fits.shares()["edge"] > 0.5 and low_colour > high_colour,
        (_sheet(pictures, "Filters of the patch RBM."),),
    )


def merged_start(stages: Stages) -> Finding:
    """Figure 2.7: what merging does to weights."""
    model = stages.model("patches")
    layout = PatchLayout(model.preprocessor.shape)
    rows = model.preprocessor.apply(stages.store[:256])
    together = model.rbm.hidden_input(rows).view(len(rows), layout.count, -1)
    units = model.rbm.num_hidden // layout.count
    first = model.rbm.weights[:units].view(units, *layout.shape)
    # Counted where it should be nought: as a difference of sums it would be what they are rounded by.
    elsewhere = first.clone()
    elsewhere[:, :, : layout.patch, : layout.patch] = 0
    outside = float(elsewhere.square().sum())
    last = model.rbm.weights[-units:].view(units, layout.shape[0], layout.patch, layout.factor, layout.patch, layout.factor)
    spread = float(last.var(dim=(3, 5)).max())
    picked = torch.linspace(0, model.rbm.num_hidden - 1, 60).long()
    return Finding(
        "2.7",
        "Merged, each small model's weights sit at its patch and are zero elsewhere; the small picture's are repeated over 4x4 "
        "pixels.",
        f"energy outside the first patch {outside:.1g}; variance within 4x4 pixels of the last block {spread:.1g}; "
        f"total inputs of {together.shape[1]} blocks finite: {bool(torch.isfinite(together).all())}",
        outside == 0 and spread < 1e-12,
        (_sheet(model.rbm.weights[picked].view(-1, *layout.shape), "Units of all blocks, before joint training.", 60),),
    )


def merged_filters(stages: Stages) -> Finding:
    """Figure 2.8: a block's filters stay local."""
    model = stages.model("merged")
    layout = PatchLayout(model.preprocessor.shape)
    number, (top, left) = 4, layout.places[4]
    units = model.rbm.num_hidden // layout.count
    block = model.rbm.weights[number * units : (number + 1) * units].view(-1, *layout.shape)
    inside = block[:, :, top : top + layout.patch, left : left + layout.patch].square().sum() / block.square().sum()
    return Finding(
        "2.8",
        "After training as one model, filters that began at a patch stay local.",
        f"{100 * float(inside):.0f}% of the energy of the fifth block's filters is still within its patch, {layout.patch**2} "
        f"of {layout.shape[1] ** 2} pixels",
        float(inside) > 0.5,
        (_sheet(block, "The fifth block's filters after joint training."),),
    )


def last_block_filters(stages: Stages) -> Finding:
    """Figure 2.9: what becomes of the small picture's filters."""
    before, after = (stages.model(name) for name in ("patches", "merged"))
    units = before.rbm.num_hidden // PatchLayout(before.preprocessor.shape).count
    blocks = [model.rbm.weights[-units:].view(-1, *model.preprocessor.shape) for model in (before, after)]
    fits = [fit_filters(some(block, _FITTED)) for block in blocks]
    # Detail finer than the small picture's pixels cannot have been there before.
    coarse = torch.nn.functional.avg_pool2d(blocks[1], 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    fine = float((blocks[1] - coarse).square().sum() / blocks[1].square().sum())
    return Finding(
        "2.9",
        "The block that began as the small picture's develops new, local filters.",
        f"{100 * fine:.0f}% of its energy is detail that the small picture had not (0% before); median frequency "
        f"{np.median(fits[0].frequency):.3f} to {np.median(fits[1].frequency):.3f} cycles a pixel",
        fine > 0.05,
        (_sheet(blocks[0], "The last block before."), _sheet(blocks[1], "The last block after joint training.")),
    )


def merge_error(stages: Stages) -> Finding:
    """Figure 2.10: the reconstruction error over both phases."""
    phases = [stages.metrics(name) for name in ("patches", "merged")]
    error = [[line["reconstruction_error"] for line in phase] for phase in phases]
    epochs = [line["epoch"] for line in phases[0]] + [phases[0][-1]["epoch"] + line["epoch"] for line in phases[1]]
    low, spike, end = min(error[0]), error[1][0], error[1][-1]
    return Finding(
        "2.10",
        "The reconstruction error jumps when the small models are merged and then falls below its former minimum.",
        f"lowest before the merge {low:.4f}, right after it {spike:.4f}, at the end {end:.4f}",
        spike > low > end,
        (
            Figure(
                "Reconstruction error a visible unit.",
                draw.curve(epochs, error[0] + error[1], "epoch", "error", log=True),
                wide=True,
            ),
        ),
    )


def whitened_filters(stages: Stages) -> Finding:
    """Figure 2.11."""
    pictures = _pictures(stages, "whitened")
    fits = fit_filters(some(pictures, _FITTED))
    return Finding(
        "2.11",
        "Filters of a 32x32 model of whitened pictures are localised edges.",
        f"{_shares(fits)}; {100 * np.median(fits.localisation):.0f}% of a filter's energy within a quarter of the picture",
        fits.shares()["edge"] > 0.5 and float(np.median(fits.localisation)) > 0.7,
        (_sheet(pictures, "Filters on whitened pictures."),),
    )


def _over_time(stages: Stages, name: str) -> tuple[list[int], list[FilterFits], list[Tensor]]:
    kept = [(int(file.stem.removeprefix("step-")), load_file(file)["weights"]) for file in _snapshots(stages, name)]
    return [step for step, _ in kept], [fit_filters(weights) for _, weights in kept], [weights for _, weights in kept]


def _snapshots(stages: Stages, name: str) -> list[Path]:
    return sorted((stages.run(name) / "snapshots").glob("step-*.safetensors"))


def point_stage(stages: Stages) -> Finding:
    """Figure 2.12: filters of unwhitened pictures on the way."""
    steps, fits, pictures = _over_time(stages, "points")
    shares = {kind: [fit.shares()[kind] for fit in fits] for kind in ("edge", "point", "noise")}
    # Of those that are anything at all: points before edges.
    made = [point / max(point + edge, 1e-9) for point, edge in zip(shares["point"], shares["edge"], strict=True)]
    peak = int(np.argmax(shares["point"][1:])) + 1
    return Finding(
        "2.12",
        "Filters of unwhitened pictures first look like points.",
        f"points are at most {100 * shares['point'][peak]:.0f}% of all filters, at step {steps[peak]:,} of {steps[-1]:,}; of "
        f"filters that are no noise they are {100 * made[peak]:.0f}% then and {100 * made[-1]:.0f}% at the end",
        peak < len(steps) - 1 and made[peak] > made[-1],
        (
            _sheet(pictures[peak], f"Filters at step {steps[peak]:,}."),
            Figure("Shares over training.", draw.stacked_shares(steps, shares, "step"), wide=True),
        ),
    )


def unwhitened_filters(stages: Stages) -> Finding:
    """Figure 2.13: edges of unwhitened pictures, larger than those of whitened ones."""
    fits = {name: fit_filters(some(_pictures(stages, name), _FITTED)) for name in ("unwhitened", "points", "whitened")}
    edges = {name: fit.shares()["edge"] for name, fit in fits.items()}
    area = {
        name: float(np.median((fit.across * fit.along)[fit.kind == 0])) if (fit.kind == 0).any() else 0.0
        for name, fit in fits.items()
    }
    return Finding(
        "2.13",
        "In the end filters of unwhitened pictures are edges everywhere, larger than those of whitened pictures.",
        f"{100 * edges['unwhitened']:.0f}% edges started from patches, {100 * edges['points']:.0f}% from small random weights; "
        f"their envelopes' median area is {area['points']:.1f} square pixels from random weights, {area['whitened']:.1f} on "
        "whitened pictures",
        edges["unwhitened"] >= 0.6 and area["points"] > area["whitened"],
        (
            _sheet(_pictures(stages, "unwhitened"), "Started from patches."),
            _sheet(_pictures(stages, "points"), "Started from small random weights."),
        ),
    )


def learned_sigma(stages: Stages) -> Finding:
    """Figure 2.14."""
    models = {name: stages.model(name) for name in ("points", "sigma")}
    units = models["sigma"].rbm.units
    assert isinstance(units, Gaussian)
    begun = _began(stages)
    fits = {name: fit_filters(some(_pictures(stages, name), _FITTED)) for name in models}
    errors = {name: stages.metrics(name)[-1]["reconstruction_error"] for name in models}
    frequency = {name: float(np.median(fit.frequency)) for name, fit in fits.items()}
    mean, spread = float(units.sigma.mean()), float(units.sigma.std())
    return Finding(
        "2.14",
        "Learned deviations fall from 69 to about 30, nearly alike over pixels (their own deviation 0.42); reconstruction "
        "improves much and filters become noisier and of higher frequency.",
        f"from {begun:.0f} to {mean:.1f} on average, deviation {spread:.2f}; reconstruction error {errors['sigma']:.0f} "
        f"squared levels against {errors['points']:.0f} with a fixed one; median frequency {frequency['sigma']:.3f} against "
        f"{frequency['points']:.3f} cycles a pixel; {_shares(fits['sigma'])}, against {_shares(fits['points'])}",
        mean < 0.7 * begun and spread < 0.25 * mean,
        (
            _sheet(_pictures(stages, "sigma"), "Filters with learned deviations."),
            Figure("Learned deviations.", draw.histogram(units.sigma.numpy(), "sigma, levels", "visible units")),
        ),
    )


def _began(stages: Stages) -> float:
    from striate.app.recipe import RBMGroup
    from striate.app.training import run_recipe

    model = run_recipe(stages.run("sigma")).model
    assert isinstance(model, RBMGroup)
    return model.sigma


def second_layer(stages: Stages) -> Finding:
    """Figure 2.15: for second-layer units, the first-layer filters they weigh most and least."""
    below, above = stages.model("second").parts.rbms
    most, least = first_layer_likes(below, above, 4)
    shape = stages.model("second").preprocessor.shape
    strongest = above.weights.abs().amax(dim=1).argsort(descending=True)[:16]
    tiles = torch.cat([torch.cat([most[unit], least[unit]]) for unit in strongest])
    directions = torch.nn.functional.normalize(below.weights, dim=1)

    def alike(chosen: Tensor) -> float:
        rows = directions[chosen]
        similar = rows @ rows.transpose(1, 2)
        off = ~torch.eye(chosen.shape[1], dtype=torch.bool)
        return float(similar[:, off].mean())

    random = torch.from_numpy(np.random.default_rng(0).integers(0, len(directions), tuple(most.shape)))
    chance, liked = alike(random), alike(most)
    return Finding(
        "2.15",
        "Units of the second layer like first-layer filters that look alike.",
        f"mean cosine among the four filters a unit likes most {liked:+.3f}, among four at random {chance:+.3f}",
        liked > chance + 0.02,
        (
            Figure(
                "Each row two units: the four first-layer filters weighed most, then the four weighed least.",
                png_bytes(filter_sheet(below.weights[tiles].view(-1, *shape).numpy(), 16)),
                pixelated=True,
                wide=True,
            ),
        ),
    )


FIGURES: dict[str, Callable[[Stages], Finding]] = {
    "2.1": naive,
    "2.5": patch_filters,
    "2.6": small_picture_filters,
    "2.7": merged_start,
    "2.8": merged_filters,
    "2.9": last_block_filters,
    "2.10": merge_error,
    "2.11": whitened_filters,
    "2.12": point_stage,
    "2.13": unwhitened_filters,
    "2.14": learned_sigma,
    "2.15": second_layer,
}
