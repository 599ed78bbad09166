"""What filters learn from single fields that were whitened: independent components, or prototypes of which one wins.

`components` is the objective of Le et al. 2012, equation 1, field by field and with one set of weights (reconstruction ICA; Le
et al. 2011): whitened, no direction is left out for being faint, and steps are as long in one as in another. `winners` is its
sharp end, where one answer alone may be other than zero: spherical k-means (Coates and Ng 2012). Filters of a rare thing then
learn from the fields that they win, however few, and not from all the rest.

Everything is (banks, ...): one bank that all places share, or one for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from striate.models.sparse.responses import pool
from striate.models.sparse.spec import StageSpec

Kind = Literal["components", "winners"]
_TINY = 1e-8
# Least norm of a field's principal components, for fields that are flat.
_FLAT = 1e-6


@dataclass(frozen=True)
class FieldRule:
    """How one stage learns from fields.

    Attributes:
        rule: `components` or `winners`.
        penalty: components: lambda, on the sum of answers.
        forget: share of what the rule remembers that is forgotten at each step.
        settle: share of the stage's steps that go to the fields' mean and covariance.
        keep: principal components that are learned from; None for all.
        floor: added to each component's variance, as a share of the mean one.
        without_mean: leave out the direction of the mean field, which offsets answers: filters have no biases.
        fields: of each picture at a step, at random places; all of them once each place learns for itself.
        apart: share of the learning steps, the last ones, in which each bank of a stage learns for itself; before, all places
            teach one bank.
    """

    rule: Kind = "components"
    penalty: float = 1.0
    forget: float = 0.01
    settle: float = 0.2
    keep: int | None = None
    floor: float = 0.01
    without_mean: bool = False
    fields: int = 4
    apart: float = 0.0


def improve(
    rule: FieldRule, filters: Tensor, memory: Tensor, fields: Tensor, rate: float, spec: StageSpec, pool_floor: float
) -> dict[str, Tensor]:
    """One step of a rule; filters and what it remembers of them are changed in place.

    Args:
        rule: see there.
        filters: of norm one, (banks, maps, components).
        memory: like them.
        fields: whitened, (banks, n, components).
        rate: components: of the step.
        spec: of the stage, for what of its maps is pooled.
        pool_floor: the paper's epsilon.

    Returns:
        `error`: what is left of the fields' squares; `active`: the mean answer (components) or the winners' mean cosine.
    """
    if rule.rule == "winners":
        return _win(rule, filters, memory, fields)
    leaf = filters.detach().requires_grad_()
    answers = fields @ leaf.transpose(1, 2)
    wrong = answers @ leaf - fields
    # Maps as everywhere in this house: (height, width, maps, batch); here one column of banks.
    pooled = pool(answers.permute(0, 2, 1).unsqueeze(1), 1, 1, spec.pool_maps, pool_floor, group=spec.pool_group)
    count = fields.shape[1]
    error, active = wrong.square().sum() / count, pooled.sum() / count
    [slope] = torch.autograd.grad(error + rule.penalty * active, leaf)
    memory.mul_(1 - rule.forget).addcmul_(slope, slope)
    filters.addcdiv_(slope, memory.sqrt().add_(_TINY), value=-rate)
    filters.div_(filters.norm(dim=2, keepdim=True).clamp_min_(_TINY))
    banks = len(filters)
    return {"error": error.detach() * count / fields.square().sum(), "active": active.detach() / (banks * spec.pools)}


def _win(rule: FieldRule, filters: Tensor, memory: Tensor, fields: Tensor) -> dict[str, Tensor]:
    """Each filter becomes the direction of what it won, lately won fields counting most."""
    seen = fields / fields.norm(dim=2, keepdim=True).clamp_min(_FLAT)
    best = (seen @ filters.transpose(1, 2)).max(dim=2)
    banks, maps, dims = filters.shape
    first = torch.arange(banks, device=filters.device)[:, None] * maps
    # A filter that wins nothing keeps its direction: all of what it remembers shrinks alike.
    memory.mul_(1 - rule.forget).view(-1, dims).index_add_(0, (best.indices + first).flatten(), seen.flatten(0, 1))
    norms = memory.norm(dim=2, keepdim=True)
    torch.where(norms > _TINY, memory / norms.clamp_min(_TINY), filters, out=filters)
    return {"error": 1 - best.values.square().mean(), "active": best.values.mean()}


def grouped(filters: Tensor, size: int) -> Tensor:
    """Each filter followed by the ones most like it: what is pooled with it, overlapping, as places are.

    Args:
        filters: of norm one, (banks, maps, components).
        size: of a group.

    Returns:
        (banks, maps * size, components).
    """
    if size == 1:
        return filters
    near = (filters @ filters.transpose(1, 2)).topk(min(size, filters.shape[1]), dim=2).indices
    return torch.take_along_dim(filters, near.flatten(1)[..., None], dim=1)
