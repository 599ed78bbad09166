"""Back-propagation through sigmoid layers, by hand: a step costs little more than its matrix products.

Forward, delta, update from the top down; every large array is made once, products run in bf16 where asked, and weights go
through `updates.py` as in contrastive divergence. Nothing is propagated into the data. Source: Krizhevsky 2009, section 3.2;
dropout as in Hinton et al. 2012, scaled while training.
Benchmark: `backprop-step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.train.batches import Labelled
from striate.train.exchanged import Exchanged
from striate.train.objectives import Objective
from striate.train.updates import BiasUpdate, Rates, WeightUpdate

# Products with fewer outputs than this stay float32: they cost nothing, and classes are decided by small differences.
_SMALL = 128


@dataclass(frozen=True)
class BackpropSettings:
    """How a net is fine-tuned. Rates and momentum come from the schedule.

    Attributes:
        weight_decay: per unit of learning rate.
        rates: factor on the learning rate of each layer, the lowest first; fewer than layers: the last one is repeated. Layers
            whose own and lower layers' factors are all 0 stay as they are, at no cost beyond the forward pass.
        dropout: share of hidden units left out while training, the others scaled up.
        code_noise: standard deviation of noise on the total inputs of layer `code`, which makes its units binary
            (Salakhutdinov and Hinton 2007).
        code: that layer's number from 0, or None.
        patience: epochs without a better validation error before training ends, or None.
    """

    weight_decay: float = 0.0
    rates: tuple[float, ...] = (1.0,)
    dropout: float = 0.0
    code_noise: float = 0.0
    code: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise BadInput(f"train.dropout is a share from 0 to below 1, found {self.dropout}")
        if not self.rates:
            raise BadInput("train.rates needs a factor at least, found none")


@dataclass(frozen=True)
class Validation:
    """Held-out rows, looked at every so many steps."""

    batch: Labelled
    every: int


class BackpropLearner:
    """Trains layers of weights by back-propagation.

    Args:
        weights: (out, in) a layer, the lowest first; copied.
        biases: (out,) a layer; copied.
        objective: of the output layer's total inputs.
        settings: see there.
        schedule: step -> learning rate and momentum.
        input_scale: what rows are divided by.
        linear: numbers of hidden layers without a sigmoid.
        seed: of dropout and noise.
        dtype: the products' operands.
        validation: held-out rows with labels; the parameters that did best on them are kept beside the current ones.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        objective: Objective,
        settings: BackpropSettings,
        schedule: Callable[[int], Rates],
        *,
        input_scale: Tensor,
        linear: frozenset[int] = frozenset(),
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        validation: Validation | None = None,
    ) -> None:
        self.settings, self.schedule, self.dtype, self.step_number = settings, schedule, dtype, 0
        self._objective, self._linear, self.input_scale, self._validation = objective, linear, input_scale, validation
        self._draws = Draws(seed, purpose="dropout/")
        self.weights = [weight.detach().clone().float().contiguous() for weight in weights]
        self.biases = [bias.detach().clone().float().contiguous() for bias in biases]
        formats = [dtype if weight.shape[0] >= _SMALL else torch.float32 for weight in self.weights]
        self._weight_updates = [WeightUpdate(weight, fmt) for weight, fmt in zip(self.weights, formats)]
        self._bias_updates = [BiasUpdate(bias) for bias in self.biases]
        self._rooms: _Workspace | None = None
        self._best = [tensor.clone() for tensor in (*self.weights, *self.biases)] if validation else []
        # Validation error now and at its best, and the epochs since.
        self._judged = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)

    @property
    def finished(self) -> bool:
        """Whether patience is at its end."""
        return self.settings.patience is not None and float(self._judged[2]) > self.settings.patience

    def step(self, batch: Tensor | Labelled) -> dict[str, Tensor]:
        """One update from rows (batch, in), with labels for a classifier; without, the rows are their own target.

        Returns:
            The objective's metrics as 0-d tensors.
        """
        rows = batch.rows if isinstance(batch, Labelled) else batch
        if rows.shape[1:] != (self.weights[0].shape[1],):
            raise BadInput(f"a batch of shape {tuple(rows.shape)} does not fit {self.weights[0].shape[1]} inputs")
        room = self._workspace(len(rows))
        draws = self._draws.at(self.step_number)
        torch.div(rows, self.input_scale, out=room.rows)
        self._forward(room, draws)
        metrics = self._objective(room.activity[-1], batch.labels if isinstance(batch, Labelled) else room.rows)
        self._backward(room)
        self.step_number += 1
        if self._validation is not None and self.step_number % self._validation.every == 0:
            self._validate(self._validation)
        return metrics

    def _forward(self, room: _Workspace, draws: Draws) -> None:
        """Fill activities; the last layer's stay total inputs."""
        last = len(self.weights) - 1
        room.put_operand(0, room.rows)
        for level, (update, bias) in enumerate(zip(self._weight_updates, self.biases)):
            activity = room.activity[level]
            torch.mm(room.operand(level), update.operand.t(), out=room.product[level])
            activity.copy_(room.product[level]).add_(bias)
            if level == self.settings.code and self.settings.code_noise:
                noise = draws.normal(f"noise{level}", activity.shape, activity.device)
                activity.add_(noise, alpha=self.settings.code_noise)
            if level == last:
                return
            if level not in self._linear:
                activity.sigmoid_()
            self._drop(room, level, draws)

    def _drop(self, room: _Workspace, level: int, draws: Draws) -> None:
        share = self.settings.dropout
        if share and level != self.settings.code:
            mask = room.mask[level]
            torch.ge(draws.uniform(f"drop{level}", mask.shape, mask.device, out=mask), share, out=mask)
            mask.mul_(1 / (1 - share))
            torch.mul(room.activity[level], mask, out=room.dropped[level])
            room.put_operand(level + 1, room.dropped[level])
        else:
            room.put_operand(level + 1, room.activity[level])

    def _backward(self, room: _Workspace) -> None:
        """From the output's delta down: propagate, then update, layer by layer."""
        rates, factors = self.schedule(self.step_number), self.settings.rates
        delta = room.activity[-1]
        frozen = next((level for level, factor in enumerate(factors) if factor), len(self.weights))
        for level in range(len(self.weights) - 1, frozen - 1, -1):
            update = self._weight_updates[level]
            fmt = update.operand.dtype
            operand = delta if fmt == torch.float32 else room.product[level].copy_(delta)
            # Before the update: what flows back goes through the weights that the forward pass used.
            below = self._propagated(room, level - 1, operand, update) if level > frozen else delta
            layer = Rates(rates.learning_rate * factors[min(level, len(factors) - 1)], rates.momentum)
            inputs = room.operand(level)
            update.apply(operand, inputs, -1 / len(inputs), layer, self.settings.weight_decay)
            self._bias_updates[level].apply(delta.mean(dim=0).neg_(), layer)
            delta = below

    def _propagated(self, room: _Workspace, level: int, above: Tensor, update: WeightUpdate) -> Tensor:
        """The delta of a hidden layer from the one above it."""
        delta = room.delta[level]
        delta.copy_(torch.mm(above, update.operand, out=room.back[level]))
        if self.settings.dropout and level != self.settings.code:
            delta.mul_(room.mask[level])
        if level not in self._linear:
            delta.mul_(room.activity[level]).addcmul_(delta, room.activity[level], value=-1)
        return delta

    def _validate(self, validation: Validation) -> None:
        wrong = (self.predict(validation.batch.rows) != validation.batch.labels).double().mean()
        better = bool(wrong < self._judged[1])
        if better:
            for kept, now in zip(self._best, (*self.weights, *self.biases)):
                kept.copy_(now)
        best, since = (wrong, torch.zeros_like(wrong)) if better else (self._judged[1], self._judged[2] + 1)
        self._judged = torch.stack([wrong.cpu(), best.cpu(), since.cpu()])

    def outputs(self, rows: Tensor) -> Tensor:
        """Total inputs of the output layer for rows (n, in), without dropout or noise, in blocks."""
        return torch.cat([self._outputs(block) for block in rows.split(1024)])

    def _outputs(self, rows: Tensor) -> Tensor:
        below = rows / self.input_scale
        for level, (update, bias) in enumerate(zip(self._weight_updates, self.biases)):
            below = (below.to(update.operand.dtype) @ update.operand.t()).float() + bias
            if level < len(self.weights) - 1 and level not in self._linear:
                below.sigmoid_()
        return below

    def predict(self, rows: Tensor) -> Tensor:
        """Most probable class of each row, int64 (n,)."""
        return self.outputs(rows).argmax(dim=1)

    def best(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases that did best on the held-out rows; without any, the current ones."""
        if not self._best or float(self._judged[1]) > 1:
            return self.weights, self.biases
        return self._best[: len(self.weights)], self._best[len(self.weights) :]

    def diagnose(self) -> dict[str, float]:
        """Root mean square of the lowest layer's weights, an update's size beside it, and the last validation error."""
        weights = torch.linalg.vector_norm(self.weights[0])
        change = torch.linalg.vector_norm(self._weight_updates[0].velocity)
        readings = {
            "update_ratio": float(change / weights.clamp_min(1e-30)),
            "weight_rms": float(weights / self.weights[0].numel() ** 0.5),
        }
        if self._validation is not None and float(self._judged[1]) <= 1:
            readings |= {"validation_error": float(self._judged[0]), "best_validation_error": float(self._judged[1])}
        return readings

    def state(self) -> dict[str, Tensor]:
        """Parameters, velocities, the best parameters so far and the step."""
        state = {"step": torch.tensor(self.step_number), "judged": self._judged}
        for level in range(len(self.weights)):
            state |= {
                f"weights{level}": self.weights[level],
                f"bias{level}": self.biases[level],
                f"weights{level}.velocity": self._weight_updates[level].velocity,
                f"bias{level}.velocity": self._bias_updates[level].velocity,
            }
        return state | {f"best{number}": tensor for number, tensor in enumerate(self._best)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            BadInput: it is of a net of another shape.
        """
        for name, tensor in self.state().items():
            if name not in state or state[name].shape != tensor.shape:
                found = tuple(state[name].shape) if name in state else "nothing"
                raise BadInput(f"the checkpoint holds {found} for {name}, this net needs {tuple(tensor.shape)}")
        self.step_number = int(state["step"])
        self._judged = state["judged"].clone()
        for name, tensor in self.state().items():
            if name not in ("step", "judged"):
                tensor.copy_(state[name])
        self.refresh()

    def exchanged(self) -> list[Exchanged]:
        """Weights and biases of all layers."""
        pairs = enumerate(zip(self.weights, self.biases))
        return [Exchanged(f"{part}{level}", t) for level, two in pairs for part, t in zip(("weights", "bias"), two)]

    def refresh(self) -> None:
        """Make the copies for products anew, after weights were changed from outside."""
        for update in self._weight_updates:
            update.refresh()

    def _workspace(self, size: int) -> _Workspace:
        if self._rooms is None or len(self._rooms.rows) != size:
            self._rooms = _Workspace(size, self._weight_updates, bool(self.settings.dropout))
        return self._rooms


class _Workspace:
    """Every array a step writes, made once for a batch size. Lists are by layer; where formats agree, products need no copy."""

    def __init__(self, size: int, updates: Sequence[WeightUpdate], dropout: bool) -> None:
        device = updates[0].weights.device
        outputs = [update.weights.shape[0] for update in updates]
        inputs = [update.weights.shape[1] for update in updates]
        formats = [update.operand.dtype for update in updates]

        def array(width: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(size, width, dtype=dtype, device=device)

        def product(width: int, dtype: torch.dtype, result: Tensor) -> Tensor:
            return result if dtype == result.dtype else array(width, dtype)

        self.rows = array(inputs[0])
        self.activity = [array(width) for width in outputs]
        self.delta = [array(width) for width in outputs[:-1]]
        self.product = [product(*sizes) for sizes in zip(outputs, formats, self.activity)]
        # What flows back through a layer has its format and the width of the one below.
        self.back = [product(*sizes) for sizes in zip(outputs[:-1], formats[1:], self.delta)]
        self.mask = [array(width) for width in outputs[:-1]] if dropout else []
        self.dropped = [array(width) for width in outputs[:-1]] if dropout else []
        self._exact = [self.rows] * len(updates)
        self._copies = [None if fmt == torch.float32 else array(width, fmt) for width, fmt in zip(inputs, formats)]

    def put_operand(self, level: int, below: Tensor) -> None:
        """Keep what enters a layer, in the layer's format."""
        self._exact[level] = below
        copy = self._copies[level]
        if copy is not None:
            copy.copy_(below)

    def operand(self, level: int) -> Tensor:
        """What enters a layer, in its format."""
        copy = self._copies[level]
        return self._exact[level] if copy is None else copy
