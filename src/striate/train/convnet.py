"""Training a convolutional net: crops in, back-propagation by torch's autograd, the authors' update. Benchmark: `convnet`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.convnet import ConvNet
from striate.models.convnet.layers import Dense, Dropout
from striate.models.convnet.net import Flow, Parameters
from striate.train.drops import Plateau, Stage, stage_at
from striate.train.exchanged import Exchanged, Slope
from striate.train.pictures import Crops
from striate.train.sgd import Descent, Factors, Treated
from striate.train.updates import Rates, WeightUpdate

# Weights of a dense layer that is updated in blocks.
_LARGE = 1 << 20


@dataclass(frozen=True)
class ConvnetSettings:
    """How a convolutional net is trained. Rate and momentum come from the schedule.

    Attributes:
        steps_per_epoch: for what is stated in epochs.
        weight_decay: of layers that name none of their own; biases never decay.
        bias_rate: factor on the learning rate of biases.
        rates: factors on the learning rate by layer; 0 freezes one.
        stages: further factors from epochs on.
        rate_inside: the paper's update; otherwise torch's.
        divide: what crops are divided by after the mean is taken off (1.1 in the authors' code where colour noise is added).
        compile: let torch compile: `none`, `norms` alone, the `net`, or the net replayed as `graphs` on a GPU.
        channels_last: how maps lie in memory.
        until_error: train until the mean error of an epoch's training crops, as they were seen, is this or less.
        average: share of the past in a running average of the parameters, which then is what the model is; 0 for none.
    """

    steps_per_epoch: int
    weight_decay: float = 5e-4
    bias_rate: float = 2.0
    rates: Mapping[str, float] = field(default_factory=dict)
    stages: Sequence[Stage] = ()
    rate_inside: bool = True
    divide: float = 1.0
    compile: str = "none"
    channels_last: bool = True
    average: float = 0.0
    until_error: float | None = None


class ConvnetLearner:
    """Trains a net on crops with labels.

    Args:
        net: moved and changed in place.
        mean: mean picture's centre, in levels, (channels, crop, crop): the same is taken from a crop wherever it was cut.
        settings: see there.
        schedule: step -> learning rate and momentum.
        seed: of dropout.
        dtype: products and maps; parameters are float32.
        held_out: every so many steps, batches of crops that are looked at and not learned from; None for no judging.
        plateau: divides the rate by what it is told of them.
        combine: gradients to those of all processes that share a batch (`striate.cluster.parallel`).
        part: which of how many equal parts of each batch it sees: dropout is drawn for the whole batch.
    """

    def __init__(
        self,
        net: ConvNet,
        mean: Tensor,
        settings: ConvnetSettings,
        schedule: Callable[[int], Rates],
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        held_out: Callable[[], Sequence[Crops]] | None = None,
        plateau: Plateau | None = None,
        combine: Callable[[list[Tensor]], list[Tensor]] | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.net, self.settings, self.schedule, self.dtype, self.step_number = net, settings, schedule, dtype, 0
        self.device = next(net.parameters()).device
        self.mean = mean.to(self.device)
        self._combine, self._part = combine, part
        self._draws, self._held_out, self.plateau = Draws(seed, purpose="dropout/"), held_out, plateau
        self._check_layers()
        self._descent = Descent(self._treated(), settings.rate_inside)
        self._wanted = [one.tensor if one.blocks is None else self._flow(one).anchor for one in self._descent.treated]
        # Compiled as a whole, the net's plain normalisation is fused with its neighbours.
        net.compiled = settings.compile == "norms"
        if settings.channels_last:
            # torch's declaration of `to` leaves this argument out for modules.
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._forward: Callable[..., Tensor] = net
        if settings.compile in ("net", "graphs"):
            mode = "reduce-overhead" if settings.compile == "graphs" else None
            self._forward = torch.compile(net, mode=mode)
        # Errors are at most 1: nothing has been judged yet.
        self._held_error = torch.tensor(2.0)
        # Of this epoch so far, and of the last whole one.
        self._epoch_errors = torch.zeros((), dtype=torch.float64, device=self.device)
        self._last_epoch = torch.ones((), dtype=torch.float64)
        self._average = [one.tensor.detach().clone() for one in self._descent.treated] if settings.average else []

    def _check_layers(self) -> None:
        there = list(self.net.layer_parameters)
        named = {*self.settings.rates, *(layer for stage in self.settings.stages for layer in stage.layers)}
        for name in sorted(named - set(there)):
            raise BadInput(f"train.rates: no layer {name!r}: this net learns in {', '.join(there)}")

    def _treated(self) -> list[Treated]:
        treated = []
        for layer in self.net.spec.learned:
            held = self.net.layer(layer.name)
            rate = self.settings.rates.get(layer.name, 1.0)
            decay = self.settings.weight_decay if layer.start.decay is None else layer.start.decay
            blocks = self._blocks(held) if isinstance(layer, Dense) else None
            treated.append(Treated(f"{layer.name}.weight", layer.name, held.weight, rate, decay, blocks))
            treated.append(Treated(f"{layer.name}.bias", layer.name, held.bias, rate * self.settings.bias_rate, 0.0))
        return treated

    def _blocks(self, held: Parameters) -> WeightUpdate | None:
        """Updates in blocks for a large dense layer, where that is faster: on a processor, by the paper's rule, in bf16."""
        # Gradients that are to be averaged over processes must be made.
        by_hand = (
            self._combine is None and self.device.type == "cpu" and self.dtype == torch.bfloat16 and self.settings.rate_inside
        )
        if not by_hand or self.settings.compile in ("net", "graphs") or held.weight.numel() < _LARGE:
            return None
        update = WeightUpdate(held.weight.detach(), self.dtype)
        held.flow = Flow(update.operand)
        return update

    def _flow(self, one: Treated) -> Flow:
        flow = self.net.layer(one.layer).flow
        assert flow is not None
        return flow

    @property
    def finished(self) -> bool:
        """Whether the plateau schedule is at its end, or the error looked for is reached."""
        reached = self.settings.until_error is not None and float(self._last_epoch) <= self.settings.until_error
        return reached or (self.plateau is not None and self.plateau.finished)

    @property
    def epoch(self) -> float:
        """Epochs so far."""
        return self.step_number / self.settings.steps_per_epoch

    def step(self, batch: Crops) -> dict[str, Tensor]:
        """One update.

        Returns:
            `loss` in nats and the share of `error`, of the training crops as they were seen, as 0-d tensors.
        """
        factors = self._layer_factors()
        logits, loss, gradients = self._learned_from(batch)
        rates = self._rates()
        self._descent.apply(gradients, rates.learning_rate, rates.momentum, factors)
        self._follow()
        self.step_number += 1
        if self._held_out is not None and self.step_number % self.settings.steps_per_epoch == 0:
            self._judge(self._held_out())
        error = (logits.detach().argmax(dim=1) != batch.labels).float().mean()
        told = loss.detach()
        if self._combine is not None:
            told, error = self._combine([told, error])
        self._count(error)
        return {"loss": told, "error": error}

    def _learned_from(self, batch: Crops) -> tuple[Tensor, Tensor, list[Tensor | Factors]]:
        logits = self._logits(batch, masked=True)
        loss = F.cross_entropy(logits, batch.labels)
        return logits, loss, self._gradients(loss)

    def _rates(self) -> Rates:
        """This step's, drops and all; further factors are the layers' own."""
        rates = self.schedule(self.step_number)
        drop = self.plateau.factor if self.plateau is not None else 1.0
        return Rates(rates.learning_rate * drop * stage_at(self.settings.stages, self.epoch).factor, rates.momentum)

    @property
    def own_rule(self) -> str:
        """Of `striate.cluster.rules`; torch's rule has no like there."""
        return "momentum" if self.settings.rate_inside else "momentum-outside"

    def slope(self, batch: Crops) -> Slope:
        """What a step would learn from; a frozen layer's gradient is zero."""
        factors = self._layer_factors()
        logits, loss, gradients = self._learned_from(batch)
        error = (logits.detach().argmax(dim=1) != batch.labels).float().mean()
        found = []
        for one, made in zip(self._descent.treated, gradients):
            gradient = made.above.t().float() @ made.inputs.float() if isinstance(made, Factors) else made.float()
            factor = one.rate * factors.get(one.layer, 1.0)
            found.append(torch.add(gradient, one.tensor.detach(), alpha=one.decay).mul_(factor))
        rates = self._rates()
        self.step_number += 1
        return Slope({"loss": loss.detach(), "error": error}, found, rates)

    def exchanged(self) -> list[Exchanged]:
        """The net's parameters with their velocities."""
        return [
            Exchanged(one.name, one.tensor.detach(), memory=velocity)
            for one, velocity in zip(self._descent.treated, self._descent.velocities)
        ]

    def _count(self, error: Tensor) -> None:
        if self.settings.until_error is None:
            return
        self._epoch_errors += error
        if self.step_number % self.settings.steps_per_epoch == 0:
            self._last_epoch = (self._epoch_errors / self.settings.steps_per_epoch).cpu()
            self._epoch_errors.zero_()

    def _gradients(self, loss: Tensor) -> list[Tensor | Factors]:
        made = list(torch.autograd.grad(loss, self._wanted))
        found: list[Tensor | Factors] = list(self._combine(made) if self._combine is not None else made)
        for number, one in enumerate(self._descent.treated):
            if one.blocks is not None:
                flow = self._flow(one)
                assert flow.above is not None and flow.inputs is not None
                found[number] = Factors(flow.above, flow.inputs.detach())
                flow.above = flow.inputs = None
        return found

    def _layer_factors(self) -> Mapping[str, float]:
        return stage_at(self.settings.stages, self.epoch).layers

    def _logits(self, batch: Crops, masked: bool = False) -> Tensor:
        with self._autocast():
            logits = self._forward(self.prepare(batch), self._masks(len(batch.labels)) if masked else None)
        return logits.float()

    def _autocast(self) -> Any:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def prepare(self, batch: Crops) -> Tensor:
        """What the net sees: levels less the mean, shifted in colour."""
        x = batch.pixels.to(self.device).float().sub_(self.mean)
        x.add_(batch.shift.to(self.device)[:, :, None, None])
        if self.settings.divide != 1:
            x.div_(self.settings.divide)
        if self.dtype != torch.float32:
            x = x.to(self.dtype)
        return x.contiguous(memory_format=torch.channels_last) if self.settings.channels_last else x

    def _masks(self, count: int) -> dict[str, Tensor]:
        draws = self._draws.at(self.step_number)
        shares = {layer.name: layer.share for layer in self.net.spec.layers if isinstance(layer, Dropout)}
        own, parts = self._part
        return {
            name: (draws.uniform(name, shape, self.device) >= shares[name])[own * count : (own + 1) * count].to(self.dtype)
            for name, shape in self.net.mask_shapes(parts * count).items()
        }

    def _follow(self) -> None:
        share = self.settings.average
        if share:
            with torch.no_grad():
                torch._foreach_lerp_(self._average, [one.tensor for one in self._descent.treated], 1 - share)

    def _judge(self, batches: Sequence[Crops]) -> None:
        wrong, count = 0, 0
        with torch.no_grad():
            for batch in batches:
                predicted = self._logits(batch).argmax(dim=1)
                wrong += int((predicted != batch.labels.to(self.device)).sum())
                count += len(batch.labels)
        self._held_error = torch.tensor(wrong / max(count, 1))
        if self.plateau is not None:
            self.plateau.see(float(self._held_error))

    def parameters(self) -> dict[str, Tensor]:
        """The net's parameters by their keys; their running average where one is kept."""
        state = {name: tensor.detach() for name, tensor in self.net.state_dict().items()}
        if self._average:
            keys = [layer.key or layer.name for layer in self.net.spec.learned]
            names = [f"{key}.{part}" for key in keys for part in ("weight", "bias")]
            state |= dict(zip(names, self._average))
        return state

    def diagnose(self) -> dict[str, float]:
        """Size of the first layer's weights and of their updates, the rate's drops, and the last held-out error."""
        first = self._descent.treated[0].tensor.detach()
        weights = torch.linalg.vector_norm(first)
        change = torch.linalg.vector_norm(self._descent.velocities[0])
        readings = {
            "update_ratio": float(change / weights.clamp_min(1e-30)),
            "weight_rms": float(weights / first.numel() ** 0.5),
        }
        if self._held_out is not None and float(self._held_error) <= 1:
            readings["validation_error"] = float(self._held_error)
        return readings

    def state(self) -> dict[str, Tensor]:
        """Parameters, velocities, their average, the plateau's memory and the step."""
        state = {
            "step": torch.tensor(self.step_number),
            "held_error": self._held_error,
            "epoch_errors": self._epoch_errors,
            "last_epoch": self._last_epoch,
        }
        if self.plateau is not None:
            state["plateau"] = torch.tensor(self.plateau.state, dtype=torch.float64)
        return state | self._tensors()

    def _tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for number, (one, velocity) in enumerate(zip(self._descent.treated, self._descent.velocities)):
            found |= {one.name: one.tensor.detach(), f"{one.name}.velocity": velocity}
            if self._average:
                found[f"{one.name}.average"] = self._average[number]
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            BadInput: it is of another net.
        """
        own = self._tensors()
        for name, tensor in own.items():
            if name not in state or state[name].shape != tensor.shape:
                found = tuple(state[name].shape) if name in state else "nothing"
                raise BadInput(f"the checkpoint holds {found} for {name}, {self.net.spec.name} needs {tuple(tensor.shape)}")
        self.step_number = int(state["step"])
        self._held_error = state["held_error"].clone()
        self._epoch_errors.copy_(state["epoch_errors"])
        self._last_epoch = state["last_epoch"].clone()
        if self.plateau is not None:
            self.plateau.state = [float(value) for value in state["plateau"]]
        for name, tensor in own.items():
            tensor.copy_(state[name])
        self.refresh()

    def refresh(self) -> None:
        """Make the copies for products anew, after parameters were changed from outside."""
        for one in self._descent.treated:
            if one.blocks is not None:
                one.blocks.refresh()
