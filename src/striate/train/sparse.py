"""Training a locally connected sparse autoencoder: reconstruction and sparsity of every stage, jointly or one after another.

Source: Le et al. 2012, section 3.3, equation 1: min over W1, W2 of |W2 W1'x - x|^2 + lambda sum of pooled activities, for every
stage, all together. Benchmark: `autoencoder`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from striate.errors import BadInput
from striate.models.sparse.net import SparseNet, Stage, stage_terms
from striate.train.exchanged import Exchanged, Layout, Slope
from striate.train.updates import Rates

Together = Literal["joint", "apart", "greedy"]


@dataclass(frozen=True)
class SparseSettings:
    """How stages are trained. Rate and momentum come from the schedule.

    Attributes:
        sparsity: the paper's lambda, stage by stage: on the sum of pooled activities, beside the sum of squared errors.
        together: `joint`: upper stages' objectives reach lower stages' filters too, as in the paper; `apart`: all learn at
            once, each from its own; `greedy`: one after another, each for an equal share of the steps.
        rule: `adagrad`: each weight's rate falls with its gradients' running sum of squares; `sgd`: one rate, with momentum.
        forget: share of that sum forgotten at each step; 0 is Adagrad, 0.01 or so does not stall.
        unit: keep the encoder's filters at norm one, without which sparsity shrinks them and the decoder makes up for it.
        total_steps: of the run, for `greedy`.
    """

    sparsity: tuple[float, ...] = (0.1,)
    together: Together = "joint"
    rule: Literal["adagrad", "sgd"] = "adagrad"
    forget: float = 0.0
    unit: bool = True
    total_steps: int = 1

    def level(self, stages: int, step: int) -> int | None:
        """The stage that learns at a step, from 0; None where all do."""
        if self.together != "greedy":
            return None
        return min(stages * step // max(self.total_steps, 1), stages - 1)

    def penalty(self, stage: int) -> float:
        """A stage's lambda, stages from 0."""
        return self.sparsity[0] if len(self.sparsity) == 1 else self.sparsity[stage]


class SparseLearner:
    """Trains a network on preprocessed pictures.

    Args:
        net: changed in place.
        settings: see there.
        schedule: step -> learning rate and momentum.
        dtype: of products and of the maps between them; weights and sums are float32.
    """

    def __init__(
        self,
        net: SparseNet,
        settings: SparseSettings,
        schedule: Callable[[int], Rates],
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.net, self.settings, self.schedule, self.dtype, self.step_number = net, settings, schedule, dtype, 0
        self._held = [Held(name, stage, tensor) for name, stage, tensor in _named(net)]

    @property
    def finished(self) -> bool:
        """Never before its steps are done."""
        return False

    @property
    def level(self) -> int | None:
        """The stage that learns now, from 0; None where all do."""
        return self.settings.level(len(self.net.stages), self.step_number)

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """One update from preprocessed pictures (batch, pixels).

        Returns:
            By stage, `error`: squared error as a share of what is to be rebuilt, and `active`: mean pooled activity; as 0-d
            tensors.
        """
        metrics, gradients = self._gradients(batch)
        rates = self.schedule(self.step_number)
        for one, gradient in gradients:
            self._update(one, one.gradient(gradient), rates)
        self.step_number += 1
        return metrics

    def _gradients(self, batch: Tensor) -> tuple[dict[str, Tensor], list[tuple[Held, Tensor]]]:
        """Metrics, and of each tensor that learns now the gradient as it was multiplied."""
        level, metrics = self.level, {}
        held, operands, total = [], [], torch.zeros((), device=self.net.device)
        x = self.net.maps(batch, self.dtype)
        if level:
            x = self.net.activities(batch, [f"norm{level}"], self.dtype)[f"norm{level}"]
        for number, stage in enumerate(self.net.stages, start=1):
            if level is not None and number != level + 1:
                continue
            own = [one for one in self._held if one.stage is stage]
            made = [stage.operand(one.tensor, self.dtype).detach().requires_grad_() for one in own]
            terms, out = stage_terms(stage, x, made[0], made[-1], self.net.pool_floor)
            total = total + terms.reconstruction + self.settings.penalty(number - 1) * terms.sparsity
            held += own
            operands += made
            x = (out if self.settings.together == "joint" else out.detach()).to(self.dtype)
            pools = stage.sides.pooled[0] * stage.sides.pooled[1] * stage.sides.pooled[2]
            metrics[f"error{number}"] = terms.reconstruction.detach() / terms.energy
            metrics[f"active{number}"] = terms.sparsity.detach() / pools
        gradients = torch.autograd.grad(total, operands)
        return {"loss": total.detach(), **metrics}, list(zip(held, gradients))

    @property
    def own_rule(self) -> str:
        """Of `striate.cluster.rules`; plain momentum with the rate outside has no like there."""
        return "adagrad" if self.settings.rule == "adagrad" else "momentum-outside"

    def slope(self, batch: Tensor) -> Slope:
        """What a step would learn from; tensors that do not learn now have a gradient of zero."""
        metrics, gradients = self._gradients(batch)
        rates = self.schedule(self.step_number)
        found = {one.name: one.gradient(gradient) for one, gradient in gradients}
        self.step_number += 1
        zero = torch.zeros(())
        return Slope(metrics, [found.get(one.name, zero.expand(one.tensor.shape)) for one in self._held], rates)

    def exchanged(self) -> list[Exchanged]:
        """Filters, as they travel without the zeros of blocks of places."""
        return [one.exchanged(self.settings.unit) for one in self._held]

    def refresh(self) -> None:
        """Nothing is kept beside the filters."""

    @torch.no_grad()
    def _update(self, one: Held, gradient: Tensor, rates: Rates) -> None:
        update_filters(one.tensor, one.memory, gradient, self.settings, rates, one.stage.rows if one.encodes else None)

    def diagnose(self) -> dict[str, float]:
        """Root mean square of each stage's encoding weights."""
        return {
            f"weight_rms{number}": float(stage.encoder.norm() / stage.sides.weights**0.5)
            for number, stage in enumerate(self.net.stages, start=1)
        }

    def state(self) -> dict[str, Tensor]:
        """Filters and what the rule remembers of each, and the step."""
        state = {"step": torch.tensor(self.step_number)}
        for one in self._held:
            state |= one.state()
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            BadInput: it is of another network.
        """
        for one in self._held:
            one.load(state)
        self.step_number = int(state["step"])


_TINY = 1e-8


def update_filters(
    tensor: Tensor,
    memory: Tensor,
    gradient: Tensor,
    settings: SparseSettings,
    rates: Rates,
    filters_of: Callable[[Tensor], Tensor] | None,
) -> None:
    """Change filters, and what the rule remembers of them, in place.

    Args:
        tensor: filters as they are kept, by rows of blocks or of banks.
        memory: of the same shape.
        gradient: the same.
        settings: the rule.
        rates: of this step.
        filters_of: a row of them as one filter a row, where they are to be brought back to norm one; None to leave them.
    """
    # Row by row of blocks, so that a row's weights, sums and gradients stay in cache for all that is done to them.
    for weight, remembered, slope in zip(tensor, memory, gradient):
        update(weight, remembered, slope, settings, rates)
        if settings.unit and filters_of is not None:
            filters = filters_of(weight)
            filters.div_(filters.norm(dim=1, keepdim=True).clamp_min_(_TINY))


def update(tensor: Tensor, memory: Tensor, gradient: Tensor, settings: SparseSettings, rates: Rates) -> None:
    """Change a tensor, and what the rule remembers of it, in place; all of the same shape."""
    if settings.rule == "adagrad":
        if settings.forget:
            memory.mul_(1 - settings.forget)
        memory.addcmul_(gradient, gradient)
        tensor.addcdiv_(gradient, memory.sqrt().add_(_TINY), value=-rates.learning_rate)
    else:
        memory.mul_(rates.momentum).add_(gradient)
        tensor.add_(memory, alpha=-rates.learning_rate)


@dataclass
class Held:
    """Filters that learn, and what the rule remembers of them."""

    name: str
    stage: Stage
    tensor: Tensor

    def __post_init__(self) -> None:
        self.memory = torch.zeros_like(self.tensor)

    @property
    def row_length(self) -> int:
        """Weights of one filter."""
        return self.stage.sides.fan_in

    @property
    def layout(self) -> Layout | None:
        """Of untied filters, which are kept in blocks of places with zeros between them."""
        places = self.stage.places
        return None if places.period else Layout((*places.banks, *self.stage.filter_shape), places.gather, places.lay_out)

    @property
    def encodes(self) -> bool:
        """Whether filters, not those that rebuild."""
        return self.name.endswith("encoder")

    def gradient(self, of_operand: Tensor) -> Tensor:
        """Of the tensor as it is kept, from that of what was multiplied."""
        gradient = of_operand.to(self.tensor.dtype)
        if self.stage.places.period:
            gradient = torch.empty_like(self.tensor)
            self.stage.gradient(of_operand, gradient)
        return gradient

    def state(self) -> dict[str, Tensor]:
        """Filters and memory, place by place, by name."""
        return {self.name: self.stage.filters(self.tensor), f"{self.name}.memory": self.stage.filters(self.memory)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            BadInput: it is of another network.
        """
        for name, tensor in ((self.name, self.tensor), (f"{self.name}.memory", self.memory)):
            known = self.stage.filters(tensor)
            if name not in state or state[name].shape != known.shape:
                found = tuple(state[name].shape) if name in state else "nothing"
                raise BadInput(f"the checkpoint holds {found} for {name}, this network needs {tuple(known.shape)}")
            if self.stage.places.period:
                tensor.copy_(state[name])
            else:
                self.stage.places.lay_out(state[name].to(tensor.device), tensor)

    def exchanged(self, unit: bool) -> Exchanged:
        """How they travel, without the zeros of blocks of places; of norm one where that is kept."""
        return Exchanged(self.name, self.tensor, self.row_length if unit and self.encodes else 0, self.memory, self.layout)


def _named(net: SparseNet) -> list[tuple[str, Stage, Tensor]]:
    found = []
    for number, stage in enumerate(net.stages, start=1):
        found.append((f"stage{number}.encoder", stage, stage.encoder))
        if stage.decoder is not None:
            found.append((f"stage{number}.decoder", stage, stage.decoder))
    return found
