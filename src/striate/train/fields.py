"""Training stages one after another from single fields, whitened: what a place sees is learned from without its neighbours.

In the whole objective of a stage (`striate.train.sparse`) strong directions drown faint ones, on fifty thousand small pictures
for good: units of upper stages stay what they began as. Here each stage first takes the mean and covariance of its fields, then
learns in their whitened principal components, and at the end its filters are put into the network with the whitening multiplied
in: what is trained is the network of the paper, filters, L2 pooling and contrast normalisation, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.sparse.net import SparseNet, Stage
from striate.models.sparse.responses import padded
from striate.preprocess.moments import Moments
from striate.preprocess.whitening import Principal, principal
from striate.train.field_rules import FieldRule, grouped, improve
from striate.train.updates import Rates


@dataclass(frozen=True)
class FieldSettings:
    """How stages are trained from fields.

    Attributes:
        rules: one a stage.
        total_steps: of the run; each stage has an equal share.
        seed: of places and first filters.
    """

    rules: tuple[FieldRule, ...]
    total_steps: int
    seed: int = 0


@dataclass(frozen=True)
class _Turn:
    """Where a step lies.

    Attributes:
        number: of the stage that learns, from 0.
        step: within the stage's.
        steps: the stage's.
    """

    number: int
    step: int
    steps: int

    def settling(self, rule: FieldRule) -> bool:
        """Whether fields are still only looked at."""
        return self.step < self.settle(rule)

    def settle(self, rule: FieldRule) -> int:
        """Steps for that."""
        return max(1, round(rule.settle * self.steps))

    def apart(self, rule: FieldRule) -> bool:
        """Whether each bank learns for itself by now."""
        return self.step >= self.steps - round(rule.apart * (self.steps - self.settle(rule)))


@dataclass
class _Learned:
    """What is known of the stage that learns: first its fields' moments, then filters in whitened components."""

    moments: Moments
    seen: Tensor
    whitening: Principal | None = None
    filters: Tensor = field(default_factory=lambda: torch.zeros(0))
    memory: Tensor = field(default_factory=lambda: torch.zeros(0))


class FieldLearner:
    """Trains a network stage after stage, from the picture up, on preprocessed pictures.

    Args:
        net: changed in place, a stage's filters whenever they are asked for (`lay_down`) and when its steps are done.
        settings: see there.
        schedule: step -> rates; each stage goes through the whole of it.
        dtype: of the products of stages below the one that learns.

    Raises:
        BadInput: not one rule a stage, or too few steps.
    """

    def __init__(
        self,
        net: SparseNet,
        settings: FieldSettings,
        schedule: Callable[[int], Rates],
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if len(settings.rules) != len(net.stages):
            raise BadInput(f"rules: {len(settings.rules)} given for {len(net.stages)} stages, expected one for each")
        if settings.total_steps < 2 * len(net.stages):
            raise BadInput(
                f"steps: {settings.total_steps} for {len(net.stages)} stages, expected at least two for each, to look at "
                "fields and to learn: use more epochs, or smaller batches"
            )
        self.net, self.settings, self.schedule, self.dtype, self.step_number = net, settings, schedule, dtype, 0
        self._draws = Draws(settings.seed, purpose="fields/")
        self._learned = self._unlearned(0)

    @property
    def finished(self) -> bool:
        """Never before its steps are done."""
        return False

    def _turn(self, step: int) -> _Turn:
        stages, total = len(self.net.stages), max(self.settings.total_steps, len(self.net.stages))
        number = min(stages * step // total, stages - 1)
        # The first step of a stage is the least one whose share of the run reaches it.
        first, after = -(-number * total // stages), -(-(number + 1) * total // stages)
        return _Turn(number, step - first, after - first)

    def _unlearned(self, number: int) -> _Learned:
        fan_in = self.net.stages[number].sides.fan_in
        return _Learned(Moments(fan_in), torch.empty(0, fan_in, device=self.net.device))

    @torch.no_grad()
    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """One step from preprocessed pictures (batch, pixels).

        Returns:
            Of the stage that learns, `error`, which is `loss` too, and `active` (see `field_rules.improve`); nothing while its
            fields settle.
        """
        turn = self._turn(self.step_number)
        if self.step_number == 0:
            self._check_enough(len(batch))
        if turn.step == 0 and self.step_number:
            self._learned = self._unlearned(turn.number)
        rule, stage, learned = self.settings.rules[turn.number], self.net.stages[turn.number], self._learned
        apart = turn.apart(rule) and not turn.settling(rule)
        fields = self._fields(stage, self._seen(batch, turn.number), rule, apart)
        metrics: dict[str, Tensor] = {}
        if turn.settling(rule):
            self._settle(learned, fields[0], _learned_maps(rule, stage))
        else:
            self._begin(learned, rule, stage, turn.number, len(fields))
            metrics = self._improve(learned, rule, stage, fields, turn)
        self.step_number += 1
        if turn.step == turn.steps - 1:
            self._lay(turn.number)
        return metrics

    def _check_enough(self, batch: int) -> None:
        """Raise `BadInput`, before anything is learned, if a stage will begin with more fields than it will have seen."""
        stages = len(self.net.stages)
        for number, (stage, rule) in enumerate(zip(self.net.stages, self.settings.rules)):
            first = -(-number * self.settings.total_steps // stages)
            places = stage.sides.filtered[1] * stage.sides.filtered[2]
            seen = self._turn(first).settle(rule) * batch * min(rule.fields, places)
            if rule.rule == "winners" and seen < stage.spec.pools:
                raise BadInput(
                    f"stage {number + 1} begins with {stage.spec.pools} fields as its filters, but would see {seen} before: "
                    "use more epochs, or a larger settle"
                )

    def _seen(self, batch: Tensor, number: int) -> Tensor:
        """Maps (height, width, channels, batch) that a stage sees, padded."""
        if number == 0:
            x = self.net.maps(batch)
        else:
            x = self.net.activities(batch, [f"norm{number}"], self.dtype)[f"norm{number}"].float()
        return padded(x, self.net.stages[number].spec.pad)

    def _fields(self, stage: Stage, x: Tensor, rule: FieldRule, apart: bool) -> Tensor:
        """What places see: (1, n, fan_in) at random places, or (banks, batch, fan_in) at one place of each bank."""
        spec, count = stage.spec, x.shape[3]
        # (rows, columns, channels, batch, size, size)
        windows = x.unfold(0, spec.size, spec.stride).unfold(1, spec.size, spec.stride)
        rows, columns = windows.shape[:2]
        draws = self._draws.at(self.step_number)
        if apart:
            down, along = stage.places.banks
            turns = draws.uniform("place", (2, down * along, count)).to(x.device)
            bank = torch.arange(down * along, device=x.device)[:, None]
            row, column = stage.place_of(bank // along, 0, turns[0]), stage.place_of(bank % along, 1, turns[1])
            taken = windows[row, column, :, torch.arange(count, device=x.device)]
        else:
            each = min(rule.fields, rows * columns)
            place = (draws.uniform("place", (each, count)) * (rows * columns)).long().to(x.device)
            taken = windows[place // columns, place % columns, :, torch.arange(count, device=x.device)].flatten(0, 1)[None]
        # Filters are (size, size, channels).
        return taken.permute(0, 1, 3, 4, 2).flatten(2)

    def _settle(self, learned: _Learned, fields: Tensor, keep: int) -> None:
        learned.moments.update(fields.cpu())
        learned.seen = torch.cat([learned.seen, fields])[-keep:]

    def _begin(self, learned: _Learned, rule: FieldRule, stage: Stage, number: int, banks: int) -> None:
        """The first filters, once fields have settled; each bank its own, once they part."""
        if learned.whitening is None:
            moments, device = learned.moments, self.net.device
            found = principal(moments.mean, moments.covariance, rule.keep, rule.floor, rule.without_mean)
            # As a checkpoint gives it back: products of other strides are rounded otherwise.
            parts = (found.mean, found.forward, found.backward)
            learned.whitening = Principal(*(part.float().contiguous().to(device) for part in parts))
            filters = self._first(learned, rule, _learned_maps(rule, stage), number)
            learned.filters = (filters / filters.norm(dim=1, keepdim=True).clamp_min(1e-8))[None]
            learned.memory = learned.filters.clone() if rule.rule == "winners" else torch.zeros_like(learned.filters)
            # Neither is wanted again, and the second may be large.
            learned.seen, learned.moments = learned.seen[:0], Moments(1)
        if banks > len(learned.filters):
            learned.filters, learned.memory = (one.repeat(banks, 1, 1) for one in (learned.filters, learned.memory))

    def _first(self, learned: _Learned, rule: FieldRule, maps: int, number: int) -> Tensor:
        assert learned.whitening is not None
        if rule.rule == "components":
            return self._draws.normal(f"stage{number}", (maps, learned.whitening.forward.shape[1])).to(self.net.device)
        return (learned.seen - learned.whitening.mean) @ learned.whitening.forward

    def _improve(self, learned: _Learned, rule: FieldRule, stage: Stage, fields: Tensor, turn: _Turn) -> dict[str, Tensor]:
        assert learned.whitening is not None
        settle = turn.settle(rule)
        done = (turn.step - settle) / max(turn.steps - settle, 1)
        rate = self.schedule(int(done * self.settings.total_steps)).learning_rate
        with torch.enable_grad():
            found = improve(
                rule,
                learned.filters,
                learned.memory,
                (fields - learned.whitening.mean) @ learned.whitening.forward,
                rate,
                stage.spec,
                self.net.pool_floor,
            )
        return {"loss": found["error"], **{f"{name}{turn.number + 1}": value for name, value in found.items()}}

    def lay_down(self) -> None:
        """Put what the stage that learns knows by now into the network."""
        self._lay(self._turn(max(self.step_number - 1, 0)).number)

    def _lay(self, number: int) -> None:
        learned, stage, rule = self._learned, self.net.stages[number], self.settings.rules[number]
        if learned.whitening is None:
            return
        shape = (*stage.places.banks, *stage.filter_shape)
        filters = grouped(learned.filters, stage.spec.pool_group) if rule.rule == "winners" else learned.filters
        filters = filters.expand(stage.places.banks[0] * stage.places.banks[1], -1, -1)
        encoder = (filters @ learned.whitening.forward.t()).reshape(shape)
        # What a field is made of again, as far as answers to other places' filters do not overlap with it.
        covering = (stage.spec.size / stage.spec.stride) ** 2
        decoder = (filters @ learned.whitening.backward).reshape(shape) / max(covering, 1.0)
        stage.set_filters(encoder, decoder)

    def diagnose(self) -> dict[str, float]:
        """Root mean square of each stage's encoding weights."""
        self.lay_down()
        return {
            f"weight_rms{number}": float(stage.encoder.norm() / stage.sides.weights**0.5)
            for number, stage in enumerate(self.net.stages, start=1)
        }

    def state(self) -> dict[str, Tensor]:
        """The network's filters, what the stage that learns knows, and the step."""
        learned = self._learned
        state = {"step": torch.tensor(self.step_number), **self.net.state(), "seen": learned.seen}
        state |= {f"moments.{name}": tensor for name, tensor in learned.moments.state().items()}
        if learned.whitening is not None:
            state |= {f"whitening.{name}": getattr(learned.whitening, name) for name in ("mean", "forward", "backward")}
            state |= {"filters": learned.filters, "memory": learned.memory}
        # A file holds each tensor by itself.
        return {name: tensor.contiguous() for name, tensor in state.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            BadInput: it is of another network, or of another way of training.
        """
        if "seen" not in state:
            raise BadInput("the checkpoint was not trained field by field: train.together has changed")
        self.net.load(state)
        device = self.net.device
        prefix = "moments."
        moments = Moments.restore({name[len(prefix) :]: one for name, one in state.items() if name.startswith(prefix)})
        self._learned = _Learned(moments, state["seen"].to(device))
        if "filters" in state:
            whitening = Principal(*(state[f"whitening.{name}"].to(device) for name in ("mean", "forward", "backward")))
            self._learned.whitening = whitening
            self._learned.filters, self._learned.memory = (state[name].to(device) for name in ("filters", "memory"))
        self.step_number = int(state["step"])


def _learned_maps(rule: FieldRule, stage: Stage) -> int:
    """Filters that are learned: of prototypes one for each pool, whose others are the ones most like it."""
    return stage.spec.pools if rule.rule == "winners" else stage.spec.maps
