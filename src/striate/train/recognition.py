"""Training a sparse autoencoder's stages to tell classes apart, under a linear classifier: first the top, then all of it.

Source: Le et al. 2012, section 5: logistic regressions on the highest stage's features, then fine-tuning of the whole network.
Stages go through `models/sparse`, a row of places at a time, forward and backward; the classifier through
`models/many_classes`, a block of classes at a time. Of the classifier there are its weights and what the rule remembers of
them, (classes, features) in float32 each, and nothing else of that size. Decoders have no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from striate.errors import BadInput
from striate.models.many_classes import OBJECTIVES, Learn, block_of
from striate.models.sparse.filtering import encode
from striate.models.sparse.net import SparseNet, respond
from striate.models.sparse.responses import padded
from striate.models.sparse.trained import flat
from striate.models.top import Top
from striate.train.batches import Labelled
from striate.train.exchanged import Exchanged
from striate.train.sparse import Held, SparseSettings, update, update_filters
from striate.train.updates import Rates


@dataclass(frozen=True)
class RecognitionSettings:
    """How a network learns to recognise. Rate and momentum come from the schedule.

    Attributes:
        rule: Adagrad or momentum, and whether filters are kept at norm one.
        rates: factor on the rate of each stage, the lowest first, and of the top; fewer than these: the last one is repeated.
            The lowest stages whose factors are 0 stay as they are, at no cost beyond the forward pass.
        weight_decay: of the top's weights, per unit of learning rate.
        top_first: steps in which the top alone learns.
        top_rate: a further factor on the top's rate: its inputs have a length of one, whatever their number, and want larger
            weights than filters do.
    """

    rule: SparseSettings
    rates: tuple[float, ...] = (1.0,)
    weight_decay: float = 0.0
    top_first: int = 0
    top_rate: float = 30.0


class RecognitionLearner:
    """Trains stages and a classifier on labelled, preprocessed pictures.

    Args:
        net: changed in place.
        top: the classifier of its last layer's features; copied.
        settings: see there.
        schedule: step -> learning rate and momentum.
        dtype: of the stages' products and of the maps between them; weights, sums and the classifier are float32.
    """

    def __init__(
        self,
        net: SparseNet,
        top: Top,
        settings: RecognitionSettings,
        schedule: Callable[[int], Rates],
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.net, self.settings, self.schedule, self.dtype, self.step_number = net, settings, schedule, dtype, 0
        self._held = [Held(f"stage{number}.encoder", stage, stage.encoder) for number, stage in enumerate(net.stages, start=1)]
        self.top = replace(top, weights=top.weights.detach().clone(), bias=top.bias.detach().clone())
        self._memory = torch.zeros_like(self.top.weights), torch.zeros_like(self.top.bias)

    @property
    def finished(self) -> bool:
        """Never before its steps are done."""
        return False

    @property
    def frozen(self) -> int:
        """How many stages, from the lowest, stay as they are at this step."""
        stages = len(self._held)
        if self.step_number < self.settings.top_first:
            return stages
        return next((stage for stage in range(stages) if self._factor(stage)), stages)

    def step(self, batch: Labelled) -> dict[str, Tensor]:
        """One update from preprocessed pictures (batch, pixels) and their labels.

        Returns:
            `loss`, mean over the batch in nats, and the share of `error`, as 0-d tensors.
        """
        rates, frozen = self.schedule(self.step_number), self.frozen
        features, operands = self._features(batch.rows, frozen)
        inputs = self.top.scaled(features.detach())
        learn = self._learns(inputs, self._of_layer(rates, len(self._held)))
        told = OBJECTIVES[self.top.kind](inputs, batch.labels, self.top.weights, self.top.bias, learn)
        if operands:
            gradients = torch.autograd.grad(features, operands, told.slope / self.top.scale)
            with torch.no_grad():
                for number, gradient in enumerate(gradients, start=frozen):
                    one, own = self._held[number], self._of_layer(rates, number)
                    update_filters(one.tensor, one.memory, one.gradient(gradient), self.settings.rule, own, one.stage.rows)
        self.step_number += 1
        return {"loss": told.loss, "error": told.error}

    def _features(self, rows: Tensor, frozen: int) -> tuple[Tensor, list[Tensor]]:
        """What the top sees, (batch, features), and the laid-out filters that it can be derived by, those of free stages."""
        operands, x = [], self.net.maps(rows, self.dtype)
        for number, one in enumerate(self._held):
            free = number >= frozen
            operand = one.stage.operand(one.tensor, self.dtype).detach().requires_grad_(free)
            if free:
                operands.append(operand)
            h = encode(padded(x, one.stage.spec.pad), operand, one.stage.places)
            x = respond(h.float() if h.dtype == torch.bfloat16 else h, one.stage.spec, self.net.pool_floor)[1].to(self.dtype)
        return flat(x), operands

    def _learns(self, inputs: Tensor, rates: Rates) -> Learn:
        """Changes a block of classes: its gradient is made in a buffer that the next block uses again."""
        size = min(len(self.top.weights), block_of(inputs))
        buffer = inputs.new_empty(size, inputs.shape[1])

        def learn(classes: slice, derivative: Tensor) -> None:
            gradient = torch.mm(derivative.t(), inputs, out=buffer[: derivative.shape[1]])
            weights, bias = self.top.weights[classes], self.top.bias[classes]
            if self.settings.weight_decay:
                gradient.add_(weights, alpha=self.settings.weight_decay)
            update(weights, self._memory[0][classes], gradient, self.settings.rule, rates)
            update(bias, self._memory[1][classes], derivative.sum(dim=0), self.settings.rule, rates)

        return learn

    def _of_layer(self, rates: Rates, number: int) -> Rates:
        of_top = self.settings.top_rate if number == len(self._held) else 1.0
        return Rates(rates.learning_rate * self._factor(number) * of_top, rates.momentum)

    def _factor(self, number: int) -> float:
        factors = self.settings.rates
        return factors[min(number, len(factors) - 1)]

    def diagnose(self) -> dict[str, float]:
        """Root mean square of each stage's weights and of the top's."""
        found = {
            f"weight_rms{number}": float(one.tensor.norm() / one.stage.sides.weights**0.5)
            for number, one in enumerate(self._held, start=1)
        }
        return {**found, "weight_rms_top": float(self.top.weights.norm() / self.top.weights.numel() ** 0.5)}

    def _top_state(self) -> dict[str, Tensor]:
        tensors = (self.top.weights, self.top.bias)
        named = {f"top.{name}": tensor for name, tensor in zip(("weights", "bias"), tensors)}
        return named | {f"top.{name}.memory": tensor for name, tensor in zip(("weights", "bias"), self._memory)}

    def state(self) -> dict[str, Tensor]:
        """Filters, the classifier, what the rule remembers of each, and the step."""
        state = {"step": torch.tensor(self.step_number), **self._top_state()}
        for one in self._held:
            state |= one.state()
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            BadInput: it is of another network, or of other classes.
        """
        for name, tensor in self._top_state().items():
            if name not in state or state[name].shape != tensor.shape:
                found = tuple(state[name].shape) if name in state else "nothing"
                raise BadInput(f"the checkpoint holds {found} for {name}, this classifier needs {tuple(tensor.shape)}")
        for one in self._held:
            one.load(state)
        for name, tensor in self._top_state().items():
            tensor.copy_(state[name])
        self.step_number = int(state["step"])

    def exchanged(self) -> list[Exchanged]:
        """Filters, and the classifier's weights and biases."""
        filters = [replace(one.exchanged(self.settings.rule.unit), memory=None) for one in self._held]
        return [*filters, Exchanged("top.weights", self.top.weights), Exchanged("top.bias", self.top.bias)]

    def refresh(self) -> None:
        """Nothing is kept beside the parameters."""
