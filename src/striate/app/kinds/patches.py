"""Patch RBMs side by side. What a run keeps of them is the one model of whole pictures that they merge into (figure 2.7)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from striate.app.kinds.kind import Prepared, Subject, in_place, schedule_settings
from striate.app.kinds.rbm import cd_settings
from striate.app.load import Parts
from striate.app.recipe import PatchesGroup
from striate.compute import choose_dtype
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import RBM, ManyRBMs, merge_patch_rbms, new_rbm
from striate.preprocess import PatchLayout
from striate.train import schedule
from striate.train.batched import BatchedContrastiveLearner
from striate.train.batches import Rows

# Rows that the deviations of patches are taken from.
_SAMPLE = 2000


class CutRows:
    """Rows of pictures, taken as their patches (models, n, patch)."""

    def __init__(self, rows: Rows[Tensor], layout: PatchLayout) -> None:
        self._rows, self._layout, self.in_memory = rows, layout, rows.in_memory

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, positions: np.ndarray, epoch: int = 0) -> Tensor:
        """Patches (models, len(positions), pixels of a patch)."""
        return self._layout.cut(self._rows.take(positions))


def build_patches(prepared: Prepared, resumed: Parts | None) -> Subject:
    """One RBM a patch of the layout, from small random weights."""
    recipe, model = prepared.recipe, prepared.recipe.model
    assert isinstance(model, PatchesGroup)
    if recipe.preprocess.patch is not None:
        raise BadInput("model.kind=patch-rbms cuts whole pictures itself: leave preprocess.patch out")
    layout = PatchLayout(prepared.preprocessor.shape, model.patch)
    shares = _deviations(layout.cut(prepared.rows.take(np.arange(min(len(prepared.rows), _SAMPLE)))))
    many = ManyRBMs.of([_new(recipe.seed, model, layout, number, share) for number, share in enumerate(shares)])
    many = many.to(prepared.device)
    shape = (recipe.train.batch_size * layout.count, layout.dim, model.hidden)
    learner = BatchedContrastiveLearner(
        many,
        cd_settings(recipe.train),
        schedule(schedule_settings(recipe.train), prepared.total_steps),
        seed=recipe.seed,
        dtype=choose_dtype(recipe.train.dtype, prepared.device, shape),
    )

    def merged() -> RBM:
        return merge_patch_rbms(learner.many.to("cpu"), layout)

    return Subject(
        learner,
        CutRows(prepared.rows, layout),
        parts=lambda: Parts((merged(),)),
        filters=lambda: merged().weights,
        take=in_place(dict, learner.refresh),
        title=f"{layout.count} RBMs of {layout.dim} visible x {model.hidden} hidden units",
    )


def _deviations(patches: Tensor) -> list[float]:
    """The sigma of each patch model as a share of the recipe's: means of whitened pixels vary a quarter as much as pixels."""
    typical = float(patches[:-1].std())
    return [1.0] * (len(patches) - 1) + [float(patches[-1].std()) / max(typical, 1e-12)]


def _new(seed: int, model: PatchesGroup, layout: PatchLayout, number: int, share: float) -> RBM:
    return new_rbm(
        model.hidden,
        torch.zeros(layout.dim),
        sigma=model.sigma * share,
        weight_std=model.weight_std,
        hidden_bias=model.hidden_bias,
        draws=Draws(seed, number, purpose="start/"),
    )
